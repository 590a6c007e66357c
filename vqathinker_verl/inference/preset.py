"""Presets: question, answer form, frames and sampling of published models, as their authors publish them.

A preset is a JSON file with the keys of `vqathinker.json` (what `vqathinker export` writes into a model's folder), and
with its sources. Those of this package lie in `presets/`; a file of one's own has the same form:

    {"prompt": "…", "system": "…", "answer": {"range": [0, 100], "tags": ["<answer>", "</answer>"], "key": null},
     "frames": {"num_frames": 16, "max_pixels": 100352}, "sampling": {"max_tokens": 256, "temperature": 0.0}}
"""

import dataclasses
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from vqathinker_verl.checks import did_you_mean
from vqathinker_verl.inference.engines.contract import ModelDefaults
from vqathinker_verl.inference.engines.defaults import defaults_from

FOLDER = "presets"
# Field -> types of its value and what the error calls them; None says that it may be null.
Kinds = Mapping[str, tuple[tuple[type, ...], str]]
WHOLE, NUMBER, TEXT, LIST = (
    ((int,), "a whole number"),
    ((int, float), "a number"),
    ((str,), "text"),
    ((list,), "a list"),
)
OPTIONAL_TEXT = ((str, type(None)), "text or null")
OPTIONAL_WHOLE = ((int, type(None)), "a whole number or null")
FIELDS: Kinds = {
    "description": TEXT, "source": LIST, "model": TEXT, "system": OPTIONAL_TEXT, "prompt": TEXT,
    "answer": ((dict,), "an object"), "frames": ((dict,), "an object"), "sampling": ((dict,), "an object"),
    "differences": LIST, "preset": TEXT,
}  # fmt: skip
SECTIONS: Mapping[str, Kinds] = {
    "answer": {"range": LIST, "tags": LIST, "key": OPTIONAL_TEXT},
    "frames": {
        "num_frames": WHOLE, "size": ((list, type(None)), "a list or null"), "min_pixels": OPTIONAL_WHOLE,
        "max_pixels": OPTIONAL_WHOLE,
    },
    "sampling": {
        "max_tokens": WHOLE, "temperature": NUMBER, "top_p": NUMBER, "top_k": WHOLE, "samples": WHOLE,
    },
}  # fmt: skip
REQUIRED = ("prompt", "frames", "frames.num_frames")


def preset_names() -> list[str]:
    """Return the names of this package's presets."""
    return sorted(entry.name.removesuffix(".json") for entry in _folder().iterdir() if entry.name.endswith(".json"))


def read_preset(preset: str) -> ModelDefaults:
    """Return how a preset asks a model.

    Args:
        preset: The name of one of this package's, or a JSON file.

    Raises:
        ValueError: There is no such preset, or a field of the file is wrong; the message names it.
    """
    if preset in preset_names():
        return _checked(preset, preset, _folder().joinpath(f"{preset}.json").read_text("utf-8"))
    path = Path(preset)
    if not path.is_file():
        known = preset_names()
        raise ValueError(f"preset {preset}: no such file, and none of {', '.join(known)}{did_you_mean(preset, known)}")
    try:
        return _checked(str(path), path.stem, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"preset {path}: {error.strerror}") from error


def _folder() -> Any:
    return files("vqathinker_verl.inference").joinpath(FOLDER)


def _checked(where: str, name: str, text: str) -> ModelDefaults:
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise ValueError(f"preset {where}: expected JSON ({error})") from error
    if not isinstance(facts, dict):
        raise ValueError(f"preset {where}: expected a JSON object, got {type(facts).__name__}")
    _check_fields(where, facts, FIELDS, "")
    for section, kinds in SECTIONS.items():
        _check_fields(where, facts.get(section, {}), kinds, f"{section}.")
    for field in REQUIRED:
        first, _, second = field.partition(".")
        if first not in facts or (second and second not in facts[first]):
            raise ValueError(f"preset {where}: no {field}; expected {_expected(field)}")
    if not facts["prompt"].strip():
        raise ValueError(f"preset {where}: prompt: expected the question, got {facts['prompt']!r}")
    try:
        return dataclasses.replace(defaults_from(facts), preset=name)
    except (ValueError, TypeError) as error:
        raise ValueError(f"preset {where}: {error}") from error


def _check_fields(where: str, facts: Mapping[str, Any], kinds: Kinds, prefix: str) -> None:
    for field, value in facts.items():
        if field not in kinds:
            raise ValueError(f"preset {where}: {prefix}{field}: no such field{did_you_mean(field, kinds)}")
        types, expected = kinds[field]
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"preset {where}: {prefix}{field}: expected {expected}, got {value!r}")


def _expected(field: str) -> str:
    section, _, name = field.rpartition(".")
    return (SECTIONS[section] if section else FIELDS)[name][1]
