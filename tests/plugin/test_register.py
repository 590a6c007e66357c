"""The entry point as verl meets it: in a fresh process, by its name in the package's metadata."""

import importlib.metadata
import os
import subprocess
import sys

import pytest


def fresh(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env={**os.environ, **environment}
    )


@pytest.mark.e2e
def test_importing_verl_registers_the_trainers_and_the_platform():
    script = (
        "import sys, verl\n"
        "heavy = [n for n in ('verl.trainer.ppo.v1', 'vllm', 'transformers.models.qwen2_5_vl') if n in sys.modules]\n"
        "assert not heavy, heavy\n"  # ten processes import verl
        "from verl.plugin.platform import get_platform\n"
        "assert get_platform().device_name == 'cpu'\n"
        "import verl.trainer.ppo.v1 as v1\n"
        "for mode in ('sync', 'colocate_async', 'separate_async'):\n"
        "    assert v1.get_trainer_cls('vqathinker_' + mode).verl_mode == mode\n"
    )
    done = fresh(script, VERL_PLATFORM="cpu")
    assert done.returncode == 0, done.stderr


def test_the_entry_point_names_the_module_that_registers():
    points = [point for point in importlib.metadata.entry_points(group="verl.plugins") if point.name == "vqathinker"]
    assert [point.value for point in points] == ["vqathinker_verl.plugin.register"]


@pytest.mark.e2e
def test_without_the_plugin_verl_names_the_unknown_trainer():
    """What a run with a dead plugin ends with: verl itself says nothing of it."""
    script = "import verl.trainer.ppo.v1 as v1; v1.get_trainer_cls('vqathinker_sync')"
    done = fresh(script, VERL_USE_EXTERNAL_PLUGINS="none", VERL_PLATFORM="")
    assert done.returncode != 0
    assert "Unknown trainer 'vqathinker_sync'" in done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("first", ["agent_loop", "trainer"])
def test_modules_load_in_any_order(first):
    """A worker unpickles its class first and meets the registration hook on the way."""
    done = fresh(f"import vqathinker_verl.plugin.{first}", VERL_PLATFORM="cpu")
    assert done.returncode == 0, done.stderr
