"""The configuration that verl will see, composed before verl is started, and what is wrong with its overrides.

Hydra alone: verl takes minutes to start, and a mistyped field should not cost those.
"""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vqathinker_verl.checks import did_you_mean

REQUIRED = ("actor_rollout_ref.model.path", "data.train_files", "data.val_files")


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line that says what, where and what to do."""


def composed(config_dir: Path, config_name: str, overrides: list[str]) -> DictConfig:
    """The config that verl will see.

    Raises:
        InputError: an override names a field that does not exist, or cannot be parsed; a required field is not set.
    """
    for item in overrides:
        if not OVERRIDE.fullmatch(item):
            raise InputError(f"override {item!r}: expected FIELD=VALUE, as in trainer.save_freq=50")
    try:
        # hydra.* overrides are for Hydra's own launcher, which does not run here.
        config = _compose(config_dir, config_name, [item for item in overrides if not item.startswith("hydra.")])
        OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_reason(error, config_dir, config_name)) from error
    for field in REQUIRED:
        if OmegaConf.is_missing(OmegaConf.select(config, field.rpartition(".")[0]), field.rpartition(".")[2]):
            raise InputError(f"config: {field} is not set; give {field}=...")
    return config


def hydra_text(value: object) -> str:
    """A value as Hydra reads it back: in quotes where its grammar would take it apart, as a path with a bracket."""
    text = str(value)
    if re.fullmatch(r"[\w./~:@%+-]+", text):
        return text
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", text) + "'"


# A field or config group, with Hydra's marks for adding and deleting, and a value unless it is deleted.
OVERRIDE = re.compile(r"~[\w./@-]+(=.*)?|\+{0,2}[\w./@-]+=.*", re.DOTALL)


def _compose(config_dir: Path, config_name: str, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(config_dir.resolve()), version_base=None):
        return compose(config_name, overrides=[*overrides, f"hydra.searchpath=[file://{verl_config_dir()}]"])


def _reason(error: Exception, config_dir: Path, config_name: str) -> str:
    """What Hydra says, in one line, with the closest field or group that exists."""
    causes = [str(item).splitlines()[0] for item in (error, error.__cause__) if item is not None and str(item)]
    reason = "; ".join(dict.fromkeys(cause.rstrip(".") for cause in causes))
    if field := re.match(r"Could not override '([^']+)'", str(error)):
        return f"{field[1]}: no such field{did_you_mean(field[1], _fields_of(config_dir, config_name))} ({reason})"
    if group := re.search(r"Could not find '(\w+)/([^']+)'", str(error)):
        known = [line.strip() for line in str(error).partition("Available options")[2].splitlines()[1:]]
        known = [name for name in known if re.fullmatch(r"\w+", name)]
        return f"{group[1]}={group[2]}: no such {group[1]}{did_you_mean(group[2], known)} (known: {', '.join(known)})"
    return f"config: {reason}"


def _fields_of(config_dir: Path, config_name: str) -> list[str]:
    """Dotted names of all fields and sections of the config without overrides."""

    def names(tree: Any, prefix: str) -> Iterator[str]:
        for name, value in tree.items():
            yield f"{prefix}{name}"
            if isinstance(value, dict):
                yield from names(value, f"{prefix}{name}.")

    return list(names(OmegaConf.to_container(_compose(config_dir, config_name, [])), ""))


def verl_config_dir() -> Path:
    """The folder of verl's YAML files, found without importing verl (as `pkg://` would, for 17 s on two cores)."""
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("verl is not installed in this environment; run recipes/install.sh")
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"
