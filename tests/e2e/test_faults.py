"""A run that cannot go on stops with its reason, and leaves nothing behind."""

import time
from pathlib import Path

import pytest
from helpers.runs import START_SECONDS, start_recipe

from vqathinker_verl.runner.shared_memory import orphaned_shared_memory

pytestmark = pytest.mark.e2e

FAULTS = Path(__file__).parent / "faults"


def test_a_failure_inside_the_weight_sync_ends_the_run(demo, tmp_path):
    """The receiver fails and the sender waits for ever: only the watchdog sees it."""
    started = time.time()
    run = start_recipe(
        demo,
        tmp_path,
        "vqathinker.watchdog.sync_seconds=30",
        PYTHONPATH=str(FAULTS),
        VERL_USE_EXTERNAL_MODULES="broken_sync",
    )
    run.wait_until(lambda: "injected: the receiver" in run.train_log() or run.process.poll() is not None, START_SECONDS)
    failed_at = time.monotonic()
    assert run.wait(120) != 0
    assert time.monotonic() - failed_at < 120
    assert "Reason: " in run.text().splitlines()[-2]
    assert "injected: the receiver of the weights failed" in run.train_log()
    assert run.marked_processes() == []
    assert orphaned_shared_memory(since=started) == []


def test_a_plugin_that_does_not_load_ends_the_run(demo, tmp_path):
    """verl swallows the plugin's error; what it was to register is missed at once."""
    started = time.monotonic()
    run = start_recipe(demo, tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")
    assert run.wait(120) != 0
    assert time.monotonic() - started < 120
    assert "Unknown platform 'cpu'" in run.text()
    assert run.marked_processes() == []


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("actor_rollout_ref.model.path=/no/such/model", "/no/such/model"),
        ("data.train_files=/no/such/labels.parquet", "/no/such/labels.parquet"),
        ("vqathinker.reward.sigma=0", "sigma"),
        ("vqathinker.no_such_field=1", "no_such_field"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(demo, tmp_path, override, named):
    run = start_recipe(demo, tmp_path, override)
    assert run.wait(60) == 2
    lines = [line for line in run.text().splitlines() if line.startswith("vqathinker: ")]
    assert len(lines) == 1
    assert named in lines[0]
    assert "Traceback" not in run.text()


def test_one_missing_file_of_three_is_reported(demo, tmp_path):
    run = start_recipe(demo, tmp_path, VAL_FILES="")
    assert run.wait(60) == 2
    assert "VAL_FILES is not set" in run.text()
