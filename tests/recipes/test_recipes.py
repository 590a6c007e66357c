"""Every script of recipes/: its header, what it starts verl with, and what it says when something is missing."""

import importlib.util
import os
import re
import subprocess
from functools import cache

import pytest

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.plan import model as module
from vqathinker_verl.plan.figures import faults_of, figures_of
from vqathinker_verl.plan.memory import GIB
from vqathinker_verl.plan.recipe import RECIPES, compose_recipe, recipe_overrides

load_model = cache(module.load_model)  # five recipes share one model
MAIN = RECIPES / "run_vqathinker.sh"
STUDY = RECIPES / "run_out_of_domain.sh"  # of several runs: test_out_of_domain.py
SCRIPTS = sorted(path for path in RECIPES.glob("run_*.sh") if path not in (MAIN, STUDY))
HUB = re.compile(r"\w+/[\w.-]+")
PINS = dict(
    line.split("==") for line in (RECIPES.parent / "requirements" / "gpu.txt").read_text().split() if "==" in line
)


def bash(script, *arguments, **environment):
    variables = ("MODEL_PATH", "TRAIN_FILES", "VAL_FILES", "EXPERIMENT", "RAY_ADDRESS", "SLURM_JOB_ID", "ROLE")
    clean = {name: value for name, value in os.environ.items() if name not in variables}
    return subprocess.run(
        ["bash", str(script), *arguments], env={**clean, **environment}, capture_output=True, text=True, timeout=60
    )


def header(script):
    lines = script.read_text().split("\nset -euo", 1)[0].splitlines()[1:]
    facts = {}
    for line in lines:
        if match := re.match(r"# (Model|Versions|Hardware|Memory|Run here): (.*)", line):
            facts[match[1]] = match[2]
    return facts


def test_there_is_one_for_every_experiment():
    experiments = {path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml")} - {"full", "demo"}
    used = {
        next(item.split("=")[1] for item in recipe_overrides(script) if item.startswith("experiment="))
        for script in SCRIPTS
    }
    assert used == experiments


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda script: script.stem)
def script(request):
    return request.param


@pytest.fixture(scope="module")
def planned(script):
    config = compose_recipe(recipe_overrides(script))
    model = load_model(config.actor_rollout_ref.model.path)
    return config, model, figures_of(config, model)


def test_the_header_states_the_facts(script, planned):
    facts = header(script)
    assert list(facts) == ["Model", "Versions", "Hardware", "Memory", "Run here"]
    assert facts["Versions"] == (f"verl {PINS['verl']}, vLLM {PINS['vllm']}, transformers {PINS['transformers']}.")
    assert "80 GB" in facts["Hardware"]
    assert facts["Run here"] == "not run on this hardware."


def test_the_headers_figures_are_the_plans(script, planned):
    config, model, figures = planned
    facts, memory = header(script), figures.memory
    path = config.actor_rollout_ref.model.path
    assert HUB.fullmatch(path)
    assert facts["Model"].startswith(f"{path}, {model.parameters / 1e9:.2f} B parameters")
    assert facts["Memory"] == (
        f"about {memory.training_peak / GIB:.0f} GiB per GPU in training and {memory.generation_peak / GIB:.0f} in "
        f"generation; {sum(memory.host.values()) / GIB:.0f} GiB of host memory per node (vqathinker plan)."
    )


def test_it_fits_the_hardware(planned):
    config, _, figures = planned
    assert faults_of(config, figures) == []
    # The release alone ranks no more than the two videos of one GPU.
    assert figures.steps.ranked >= 32 or config.trainer.experiment_name == "release"


def test_vllm_reserves_memory_for_what_the_run_needs(planned):
    config, _, _ = planned
    rollout = config.actor_rollout_ref.rollout
    assert rollout.max_model_len == config.data.max_prompt_length + config.data.max_response_length
    assert rollout.engine_kwargs.vllm.limit_mm_per_prompt == {"image": 0, "video": 1}
    assert not config.actor_rollout_ref.actor.calculate_entropy


def test_it_asks_for_label_files(script):
    done = bash(script, DEVICE="gpu", RAY_ADDRESS="nowhere:1")
    assert done.returncode == 2
    assert "TRAIN_FILES is not set" in done.stderr


def test_overrides_come_last_and_the_model_may_be_another(script):
    done = bash(script, "a=1", "b=2", PLAN="1", MODEL_PATH="/some/model")
    overrides = done.stdout.splitlines()
    assert "actor_rollout_ref.model.path=/some/model" in overrides
    assert overrides[-2:] == ["a=1", "b=2"]


class TestMainRecipe:
    def test_no_gpu_is_reported_before_anything_is_installed(self, tmp_path):
        """A stand-in for nvidia-smi that finds none."""
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = bash(MAIN, MODEL_PATH="m", TRAIN_FILES="t", VAL_FILES="v", PATH=path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "no NVIDIA GPU answers" in done.stderr

    def test_without_settings_it_is_the_demo(self):
        assert "experiment=demo" in bash(MAIN, PLAN="1").stdout.splitlines()

    def test_with_a_model_it_is_the_full_run(self):
        done = bash(MAIN, PLAN="1", MODEL_PATH="m", TRAIN_FILES="t", VAL_FILES="v")
        here = os.getcwd()  # paths are relative to the working directory, not to the script
        expected = {"experiment=full", f"data.train_files={here}/t", f"data.val_files={here}/v"}
        assert expected < set(done.stdout.splitlines())

    @pytest.mark.parametrize("missing", ["MODEL_PATH", "TRAIN_FILES", "VAL_FILES"])
    def test_half_of_the_settings_are_not_enough(self, missing):
        given = {name: "x" for name in ("MODEL_PATH", "TRAIN_FILES", "VAL_FILES") if name != missing}
        done = bash(MAIN, DEVICE="gpu", EXPERIMENT="full", **given)
        assert done.returncode == 2
        assert done.stderr.startswith(f"vqathinker: {missing} is not set")

    @pytest.mark.parametrize(
        ("attention", "packed"), [("flash_attention_2", "true"), ("flash_attention_3", "false"), ("sdpa", "false")]
    )
    def test_sequences_are_packed_only_where_the_attention_allows_it(self, attention, packed):
        overrides = bash(MAIN, PLAN="1", ATTENTION=attention).stdout.splitlines()
        assert f"actor_rollout_ref.model.override_config.attn_implementation={attention}" in overrides
        assert f"actor_rollout_ref.model.use_remove_padding={packed}" in overrides

    @pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed here")
    def test_without_flash_attn_it_is_sdpa(self):
        overrides = bash(MAIN, PLAN="1").stdout.splitlines()
        assert "actor_rollout_ref.model.override_config.attn_implementation=sdpa" in overrides

    def test_help_lists_the_variables(self):
        out = bash(MAIN, "--help").stdout
        for name in ("MODEL_PATH", "TRAIN_FILES", "EXPERIMENT", "ATTENTION", "PLAN"):
            assert f"{name}=" in out


def test_the_gpu_set_has_what_nccl_between_devices_needs():
    """verl's engine imports CuPy, of which there is a wheel for each CUDA."""
    config = compose_recipe(recipe_overrides(RECIPES / "run_separate_async.sh"))
    assert config.actor_rollout_ref.rollout.checkpoint_engine.backend == "nccl"
    cuda = PINS["cuda-toolkit"].split(".")[0]
    assert f"cupy-cuda{cuda}x" in PINS


def test_several_nodes_need_to_know_how():
    done = bash(RECIPES / "run_multi_node.sh", TRAIN_FILES="t", VAL_FILES="v")
    assert done.returncode == 2
    assert "ROLE=head|worker and HEAD, or RAY_ADDRESS" in done.stderr


def test_every_script_is_valid_bash_and_executable():
    for script in RECIPES.glob("*.sh"):
        assert os.access(script, os.X_OK), script.name
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
