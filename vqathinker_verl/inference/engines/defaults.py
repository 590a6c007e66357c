"""How a model is asked unless told otherwise: as it was at validation, or by a preset, as `vqathinker export` wrote it.

The command line and `open_engine` both read it here, so that the same model and video get the same score from each.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines.contract import (
    EVALUATION_FRAMES,
    EXPORT_FILE,
    AnswerForm,
    ModelDefaults,
    Sampling,
)
from vqathinker_verl.prompts import QUALITY_PROMPT


def read_defaults(model: str) -> ModelDefaults:
    """Read what an exported model was asked at validation; the general defaults for any other model.

    Keys that are missing keep the general default; keys that are not known here are left to those that know them.

    Args:
        model: Folder or name of a model.

    Raises:
        ValueError: The model's file is not of that form.
    """
    path = Path(model) / EXPORT_FILE
    if not path.is_file():
        return ModelDefaults()
    try:
        return defaults_from(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a JSON object with frames: {{num_frames, size or max_pixels}} ({error}); export again"
        ) from error


def defaults_from(facts: Mapping[str, Any]) -> ModelDefaults:
    """Return what a model's file or a preset says; what is missing keeps the general default.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is of another type.
    """
    sampling = _known(Sampling, facts.get("sampling", {}))
    prompt, samples = facts.get("prompt", QUALITY_PROMPT), facts.get("sampling", {}).get("samples", 1)
    system = facts.get("system") or ""
    for name, text in (("prompt", prompt), ("system", system)):
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected text, got {text!r}")
    frames = FrameSpec(**_known(FrameSpec, facts["frames"])) if "frames" in facts else EVALUATION_FRAMES
    return ModelDefaults(
        frames,
        Sampling(**sampling),
        prompt,
        samples,
        system,
        _answer_form(facts.get("answer", {})),
        str(facts.get("preset", "")),
        tuple(map(str, facts.get("differences", ()))),
    )


def _answer_form(facts: Mapping[str, Any]) -> AnswerForm:
    values = _known(AnswerForm, dict(facts))
    for name, kinds, expected in (("range", int | float, "two numbers"), ("tags", str, "two texts")):
        value = values.get(name, ())
        pair = isinstance(value, list | tuple) and len(value) == 2
        if name in values and not (pair and all(isinstance(one, kinds) and not isinstance(one, bool) for one in value)):
            raise TypeError(f"answer.{name}: expected {expected}, got {value!r}")
    if not isinstance(values.get("key"), str | None):
        raise TypeError(f"answer.key: expected text, got {values['key']!r}")
    found_range, found_tags = (values.get(name, getattr(AnswerForm, name)) for name in ("range", "tags"))
    return AnswerForm((found_range[0], found_range[1]), (found_tags[0], found_tags[1]), values.get("key"))


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}
