"""Imports go one way, and what other projects import is light (DESIGN.md)."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vqathinker_verl

PACKAGE = Path(vqathinker_verl.__file__).parent
HEAVY = ("torch", "verl", "ray", "vllm", "transformers", "trl", "accelerate")

LIGHT_FILES = sorted(
    path
    for pattern in (
        "parsing.py",
        "prompts.py",
        "perturbations.py",
        "metrics/*.py",
        "rewards/*.py",
        "adapters/*.py",
    )
    for path in PACKAGE.glob(pattern)
)


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Full names of the modules that a file imports, anywhere in it, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", LIGHT_FILES, ids=module_name)
def test_light_modules_import_numpy_scipy_and_the_standard_library_only(path):
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "vqathinker_verl"}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


# A room may import itself and the rooms before it.
LAYERS = [
    {"parsing", "prompts", "checks"},
    {"rewards", "perturbations", "metrics"},
    {"adapters", "frames"},
]


@pytest.mark.parametrize("path", LIGHT_FILES, ids=module_name)
def test_imports_go_one_way(path):
    room = module_name(path).split(".")[1]
    layer = next(number for number, rooms in enumerate(LAYERS) if room in rooms)
    reachable = set().union(*LAYERS[: layer + 1])
    for name in imported(path):
        if name.startswith("vqathinker_verl."):
            assert name.split(".")[1] in reachable, f"{path.name} imports {name}"


def fresh_process(code):
    """Run code in a fresh Python process and return what it printed, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "module",
    ["parsing", "metrics", "perturbations", "rewards.combine", "adapters.verl", "adapters.trl", "adapters.easyr1"],
)
def test_importing_is_light_and_takes_under_half_a_second(module):
    # CPU time, since the tests share their machine with others; and again, should one run have been disturbed.
    for _ in range(3):
        seconds, heavy = fresh_process(
            "import json, sys, time; begin = time.process_time(); "
            f"import vqathinker_verl.{module}; seconds = time.process_time() - begin; "
            f"print(json.dumps([seconds, [name for name in {HEAVY!r} if name in sys.modules]]))"
        )
        assert heavy == []
        if seconds < 0.5:
            break
    assert seconds < 0.5


def test_scoring_a_batch_leaves_the_heavy_packages_out():
    heavy = fresh_process(
        "import json, sys; from vqathinker_verl import *; score_batch(['<answer>4.00</answer>'] * 2, [4, 2], 'ab')"
        ".metrics(); evaluate_predictions([1, 2, 3, 5, 4], [1, 2, 3, 4, 5], num_resamples=2); "
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    assert heavy == []


def test_trls_ranking_reward_imports_nothing_to_gather_with():
    heavy = fresh_process(
        "import json, sys; from vqathinker_verl.adapters.trl import RankingReward; "
        "RankingReward()(['<answer>4.00</answer>'] * 2, mos=[4, 2], video_id='ab'); "
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    assert heavy == []


def test_the_public_api_is_what_it_says():
    for name in vqathinker_verl.__all__:
        assert getattr(vqathinker_verl, name) is not None
    assert set(vqathinker_verl.__all__) <= set(dir(vqathinker_verl))
    with pytest.raises(AttributeError, match="has no attribute 'regresion_reward'"):
        vqathinker_verl.regresion_reward  # noqa: B018
