"""Imports go one way, and what other projects import is light."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vqathinker_verl

PACKAGE = Path(vqathinker_verl.__file__).parent
HEAVY = ("torch", "verl", "ray", "vllm", "transformers", "trl", "accelerate")

# Each room may import rooms of the lines above it, and of its own line as long as there is no circle.
LAYERS = [
    {"parsing", "prompts", "checks", "files", "seeding", "text_tables", "config"},
    {"rewards", "perturbations", "metrics"},
    {"adapters", "data", "frames", "synthesis"},
    {"plugin", "cpu"},
    {"runner", "inference", "evaluation", "understanding", "plan", "demo"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
LIGHT = {"parsing", "prompts", "checks", "perturbations", "metrics", "rewards", "adapters"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    return module.split(".")[1]


def imported(path):
    """Full names of the modules that a file imports, anywhere in it, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules = {module_name(file) for file in FILES}
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in names)


GRAPH = {
    module_name(path): {name for name in imported(path) if name.startswith("vqathinker_verl.")} - {module_name(path)}
    for path in FILES
}


def test_every_room_has_a_floor():
    assert {room_of(module) for module in GRAPH} <= set(FLOOR)


@pytest.mark.parametrize("path", [path for path in FILES if room_of(module_name(path)) in LIGHT], ids=module_name)
def test_light_modules_import_numpy_scipy_and_the_standard_library_only(path):
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "vqathinker_verl"}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


def test_no_import_goes_up():
    up = [
        f"{module} imports {name}"
        for module, names in GRAPH.items()
        for name in sorted(names)
        if FLOOR[room_of(name)] > FLOOR[room_of(module)]
    ]
    assert up == []


def circles(graph):
    """One path for each node that reaches itself, shortest first."""
    found = []
    for start in sorted(graph):
        paths = [[start]]
        seen = set()
        while paths:
            path = paths.pop(0)
            for name in sorted(graph.get(path[-1], ())):
                if name == start:
                    found.append(" -> ".join([*path, name]))
                    paths = []
                    break
                if name not in seen:
                    seen.add(name)
                    paths.append([*path, name])
    return found


def test_no_circle_between_files():
    assert circles(GRAPH) == []


def test_no_circle_between_rooms():
    rooms = {}
    for module, names in GRAPH.items():
        rooms.setdefault(room_of(module), set()).update({room_of(name) for name in names} - {room_of(module)})
    assert circles(rooms) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b -> c -> b", "c -> b -> c"]


def fresh_process(code):
    """Run code in a fresh Python process and return what it printed, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "module",
    ["parsing", "metrics", "perturbations", "rewards.batch", "adapters.verl", "adapters.trl", "adapters.easyr1"],
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
