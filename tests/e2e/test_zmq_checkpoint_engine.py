"""The tests' checkpoint engine without a GPU; and that verl still has none."""

import asyncio
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from helpers import zmq_checkpoint_engine as module
from verl.checkpoint_engine import CheckpointEngineRegistry

WEIGHTS = {
    "layer.weight": torch.randn(300, 200),
    "layer.transposed": torch.randn(20, 30).T,
    "layer.half": torch.randn(7, 5).to(torch.bfloat16),
    "scale": torch.tensor(2.5),
    "counts": torch.arange(5),
    "learnt": torch.nn.Parameter(torch.randn(3, 2)),
}


def engines(senders, receivers):
    """As verl makes them: the trainer's workers, then those beside the servers."""
    new = CheckpointEngineRegistry.new
    return (
        [new("nccl", bucket_size=1, is_master=rank == 0, rebuild_group=True) for rank in range(senders)],
        [new("nccl", bucket_size=1) for _ in range(receivers)],
    )


async def sync(senders, receivers, weights):
    """The steps of verl's CheckpointEngineManager.update_weights, and what each receiver got."""
    everyone = [*senders, *receivers]
    metadata = [engine.prepare() for engine in everyone]
    topology = module.ZmqCheckpointEngine.build_topology(len(senders), len(receivers), metadata)
    for group, arguments in zip((senders, receivers), topology, strict=True):
        assert all(len(values) == len(group) for values in arguments.values())
        for rank, engine in enumerate(group):
            engine.init_process_group(**{name: values[rank] for name, values in arguments.items()})

    async def received(engine):
        return {name: weight async for name, weight in engine.receive_weights(global_steps=1)}

    walked = [iter(weights.items()) for _ in senders]
    sending = [engine.send_weights(own, global_steps=1) for engine, own in zip(senders, walked, strict=True)]
    _, got = await asyncio.gather(asyncio.gather(*sending), asyncio.gather(*map(received, receivers)))
    for engine in everyone:
        engine.finalize()
    assert [next(rest, None) for rest in walked] == [None] * len(senders)  # gathering a weight takes all workers
    return got


@pytest.mark.parametrize(("senders", "receivers"), [(1, 1), (3, 2)])
def test_every_receiver_gets_every_weight_in_each_sync(senders, receivers):
    async def two_syncs():
        groups = engines(senders, receivers)
        later = {name: weight + 1 for name, weight in WEIGHTS.items()}
        return [(weights, await sync(*groups, weights)) for weights in (WEIGHTS, later)]

    for sent, got in asyncio.run(asyncio.wait_for(two_syncs(), 60)):
        assert len(got) == receivers
        for weights in got:
            assert list(weights) == list(sent)
            for name, weight in weights.items():
                assert weight.dtype == sent[name].dtype
                assert torch.equal(weight, sent[name])


def test_more_weights_than_are_under_way_at_once():
    weights = {f"layer{i}": torch.full((50_000,), float(i)) for i in range(40 * module.WEIGHTS_UNDER_WAY)}
    (got,) = asyncio.run(asyncio.wait_for(sync(*engines(1, 1), weights), 60))
    assert all(torch.equal(got[name], weight) for name, weight in weights.items())


def test_it_listens_on_the_nodes_address_only():
    engine = CheckpointEngineRegistry.new("nccl", bucket_size=1)
    address = engine.prepare()
    engine.finalize()
    assert address.startswith("tcp://")
    assert "*" not in address
    assert "0.0.0.0" not in address


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed here, so verl's own engines load")
def test_verl_has_no_other_engine_without_a_gpu():
    script = (
        "from verl.checkpoint_engine import CheckpointEngineRegistry as found\n"
        "print(*sorted(found._registry), 'cupy' in str(found._import_errors['nixl_checkpoint_engine']))"
    )
    environment = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": "none"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["naive", "True"], "verl has one now: remove helpers/zmq_checkpoint_engine.py"
