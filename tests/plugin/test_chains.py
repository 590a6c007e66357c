"""The order of rows with chains: shares, complete chains, resuming."""

from collections import Counter

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader

from vqathinker_verl.plugin.chains import ChainSampler, batch_order
from vqathinker_verl.plugin.config import chains_share


def rows_of(num_labelled, num_chains, length):
    chains = [None] * num_labelled + [f"c{number}" for number in range(num_chains) for _ in range(length)]
    return chains, [None] * num_labelled + [k / (length - 1) for k in range(length)] * num_chains


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 6), st.integers(2, 5), st.integers(2, 12), st.floats(0, 1), st.integers(0, 9))
def test_each_batch_has_its_share_and_chains_of_two_or_more(num_labelled, num_chains, length, size, share, seed):
    chains, strengths = rows_of(num_labelled, num_chains, length)
    rng = np.random.default_rng(seed)
    order = batch_order(chains, strengths, batch_size=size, chain_share=share, rng=rng)
    assert len(order) % size == 0
    for begin in range(0, len(order), size):
        batch = [chains[row] for row in order[begin : begin + size]]
        chained = [name for name in batch if name is not None]
        if num_labelled:
            places = round(share * size) if num_chains else 0
            assert len(chained) == (0 if places < 2 else places) or places - len(chained) == 1
            assert all(count > 1 for count in Counter(chained).values())
        else:
            assert len(chained) == size
    if num_labelled and round(share * size) < size:
        shown = Counter(row for row in order if chains[row] is None)
        assert len(shown) == sum(1 for row in shown) <= num_labelled


def test_complete_chains_stay_together():
    chains, strengths = rows_of(12, 3, 4)
    order = batch_order(chains, strengths, batch_size=8, chain_share=0.5, rng=np.random.default_rng(0))
    for begin in range(0, len(order), 8):
        names = [chains[row] for row in order[begin : begin + 8] if chains[row]]
        assert len(names) == 4
        assert len(set(names)) == 1
    assert sorted(row for row in order if chains[row] is None) == list(range(12))


def test_a_run_resumes_in_the_middle_of_an_epoch_and_epochs_differ():
    chains, strengths = rows_of(12, 3, 4)

    def loader():
        sampler = ChainSampler(chains, strengths, batch_size=8, chain_share=0.5, seed=3)
        return StatefulDataLoader(list(range(len(chains))), batch_size=8, sampler=sampler, drop_last=True)

    plain = loader()
    epochs = [[batch.tolist() for batch in plain] for _ in range(2)]
    assert epochs[0] != epochs[1]
    stopped = loader()
    batches = iter(stopped)
    assert next(batches).tolist() == epochs[0][0]
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.tolist() for batch in resumed] == epochs[0][1:]
    assert [batch.tolist() for batch in resumed] == epochs[1]


@pytest.mark.parametrize("share", [-0.1, 1.5, True, "half"])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"data\.chains\.share: expected a number from 0 to 1"):
        chains_share(OmegaConf.create({"chains": {"share": share}}))


def test_tables_with_and_without_chains_are_read_together():
    old = pyarrow.Table.from_pylist([{"extra_info": {"index": 0, "video_id": "a"}}])
    new = pyarrow.Table.from_pylist([{"extra_info": {"index": 0, "video_id": "b", "chain": "c", "strength": 0.5}}])
    rows = pyarrow.concat_tables([old, new], promote_options="permissive").to_pylist()
    assert [row["extra_info"]["chain"] for row in rows] == [None, "c"]
