"""Compose a recipe's config, and find the fields that differ from verl's own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import InputError, composed, verl_config_dir

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
DATA_FILES = ("data.train_files", "data.val_files")


def find_recipe(name: str) -> Path:
    """Return the script of a recipe, given as a path or by its name with or without `run_` and `.sh`.

    Raises:
        InputError: there is no such script; the message lists those there are.
    """
    for path in (Path(name), RECIPES / name, RECIPES / f"{name}.sh", RECIPES / f"run_{name}.sh"):
        if path.is_file():
            return path.resolve()
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("run_*.sh")))
    raise InputError(f"recipe {name}: no such script; give the path of one, or one of: {known}")


def recipe_overrides(recipe: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Return the Hydra overrides that a recipe would start verl with (it prints them under PLAN=1, and starts nothing).

    Raises:
        InputError: the script failed; the message is its output.
    """
    # The scripts call `vqathinker`, which need not be on the path of a program that runs it by its full name.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    done = subprocess.run(
        ["bash", str(recipe), *overrides],
        env={**os.environ, "PATH": path, "PLAN": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"{recipe.name}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout.splitlines()


def compose_recipe(overrides: Sequence[str]) -> DictConfig:
    """Compose the config of these overrides; data files that are not given are null, since nothing is read yet.

    Raises:
        InputError: a field does not exist, or the model is not given.
    """
    given = {item.lstrip("+").split("=", 1)[0] for item in overrides}
    nothing = [f"{name}=null" for name in DATA_FILES if name not in given]
    return composed(CONFIG_DIR, "vqathinker", [*overrides, *nothing])


def differences(config: DictConfig) -> dict[str, Any]:
    """Return the fields of `config` that verl's ppo_trainer lacks or sets otherwise: dotted name -> value."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(verl_config_dir()), version_base=None):
        theirs = dict(flattened(OmegaConf.to_container(compose("ppo_trainer"))))
    resolved = dict(flattened(OmegaConf.to_container(config, resolve=True)))
    ours = dict(flattened(OmegaConf.to_container(config)))
    # Compared as written; otherwise, every field that refers to a changed one would be listed as well.
    return {
        name: resolved.get(name, value) for name, value in ours.items() if name not in theirs or theirs[name] != value
    }


def flattened(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for every leaf of nested dicts; lists and empty dicts are leaves."""
    if not isinstance(tree, dict) or not tree:
        yield prefix, tree
        return
    for name, value in tree.items():
        yield from flattened(value, f"{prefix}.{name}" if prefix else str(name))
