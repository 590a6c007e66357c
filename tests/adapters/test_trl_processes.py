"""TRL's ranking reward on two processes, which talk through gloo, against `score_batch` on the full batch."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vqathinker_verl import RewardConfig, score_batch
from vqathinker_verl.adapters.trl import CustomReward, RankingReward
from vqathinker_verl.rewards.ranking import batch_ranking

# TRL is installed apart from the rest: requirements/trl.txt says why.
TRL = Path(sys.prefix) / "only-trl"

N = 8
SCORES = np.round(np.random.default_rng(0).uniform(1, 5, N), 2)
COMPLETIONS = [f"<think>Looked.</think><answer>{score:.2f}</answer>" for score in SCORES]
COMPLETIONS[5] = "no answer"
IDS = list("aaabbccc")
MOS = [{"a": 4.2, "b": 1.7, "c": 3.0}[video] for video in IDS]
SOURCES = ["LSVQ"] * 5 + ["CGVDS"] * 3
COLUMNS = {"completions": COMPLETIONS, "mos": MOS, "video_id": IDS}

# How many rows process 0 has. With 2 or 4 both processes have responses to one video; with 8 one has none at all.
FIRST_SHARES = (2, 3, 4, 7, 8)
NO_ID = {**COLUMNS, "video_id": [*IDS[:6], None, IDS[7]]}
NO_MOS = {**COLUMNS, "mos": ["", *MOS[1:]]}


def shares(columns, first):
    return [
        {name: values[:first] for name, values in columns.items()},
        {name: values[first:] for name, values in columns.items()},
    ]


CALLS = {
    **{f"first {first}": (RankingReward(), shares(COLUMNS, first)) for first in FIRST_SHARES},
    "settings": (RankingReward(RewardConfig(eps=0.01)), shares(COLUMNS, 3)),
    "sources": (RankingReward(), shares({**COLUMNS, "data_source": SOURCES}, 4)),
    "cross_dataset": (RankingReward(RewardConfig(cross_dataset=True)), shares({**COLUMNS, "data_source": SOURCES}, 4)),
    "custom": (CustomReward("ranking", batch_ranking), shares(COLUMNS, 3)),
    "no id": (RankingReward(), shares(NO_ID, 4)),
    "no mos": (RankingReward(), shares(NO_MOS, 4)),
}


def on_two_processes(script, *arguments, **environment):
    """Run a script on two processes, and return what each wrote into the folder, the last argument."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, Path(__file__).with_name(script), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        # A process that waits for the other forever would otherwise hang the tests.
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((arguments[-1] / f"{process}.json").read_text()) for process in range(2)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each process returned of each call; all calls in one start, which takes seconds."""
    pytest.importorskip("accelerate")  # of the `verl` extra, as in the other adapters' tests
    folder = tmp_path_factory.mktemp("processes")
    calls = folder / "calls.pickle"
    calls.write_bytes(pickle.dumps(list(CALLS.values())))
    each = on_two_processes("trl_process.py", calls, folder)
    return {name: (first, second) for name, first, second in zip(CALLS, *each, strict=True)}


def on_the_full_batch(**options):
    return score_batch(COMPLETIONS, MOS, IDS, **options).ranking


@pytest.mark.parametrize("first", FIRST_SHARES)
def test_two_processes_give_the_rewards_of_the_full_batch(outcomes, first):
    own = outcomes[f"first {first}"]
    assert [len(rewards) for rewards in own] == [first, N - first]
    np.testing.assert_array_equal(np.concatenate(own), on_the_full_batch())


def test_a_reward_of_ones_own_is_given_the_full_batch_too(outcomes):
    rewards = [0.0 if value is None else value for share in outcomes["custom"] for value in share]
    np.testing.assert_array_equal(rewards, on_the_full_batch())


def test_the_shares_alone_would_give_other_rewards():
    """Without this, the test above would also pass for a reward that looks at its own share only."""
    apart = np.concatenate([RankingReward()(**share) for share in shares(COLUMNS, 3)])
    assert not np.allclose(apart, on_the_full_batch())


def test_settings_and_data_sources_count(outcomes):
    np.testing.assert_array_equal(
        np.concatenate(outcomes["settings"]), on_the_full_batch(config=RewardConfig(eps=0.01))
    )
    np.testing.assert_array_equal(np.concatenate(outcomes["sources"]), on_the_full_batch(data_sources=SOURCES))
    together = on_the_full_batch(data_sources=SOURCES, config=RewardConfig(cross_dataset=True))
    np.testing.assert_array_equal(np.concatenate(outcomes["cross_dataset"]), together)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no id", "process 1: video_id[2]: has no video_id"),
        ("no mos", "process 0: mos[0]: expected the MOS of the video"),
    ],
)
def test_a_fault_in_one_share_is_an_error_in_both_processes(outcomes, name, message):
    first, second = outcomes[name]
    assert first == second
    assert first.startswith(message)


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_trls_trainer_on_two_processes_with_one_video_each(tmp_path):
    if not TRL.is_dir():
        pytest.skip("TRL is not installed; `bash tests/run.sh` installs it")
    path = os.pathsep.join(filter(None, [str(TRL), os.environ.get("PYTHONPATH")]))
    first, second = on_two_processes("trl_trainer_process.py", tmp_path, PYTHONPATH=path)
    assert len(first["calls"]) == len(second["calls"]) == len(first["ranking"]) == 2
    for own, others, logged in zip(first["calls"], second["calls"], first["ranking"], strict=True):
        # One video per process: with its own share alone, the ranking reward would be 0.
        assert len(set(own["video_id"])) == len(set(others["video_id"])) == 1
        assert own["video_id"] != others["video_id"]
        batch = score_batch(*(own[name] + others[name] for name in ("completions", "mos", "video_id")))
        assert logged == pytest.approx(batch.ranking.mean(), abs=1e-6)
        assert logged > 0
