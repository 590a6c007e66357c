"""Presets: question, answer form, frames and sampling of published models, as their authors publish them.

A preset is a JSON file with the keys of `vqathinker.json` (what `vqathinker export` writes into a model's folder), and
with its sources. Those of this package lie in `presets/`; a file of one's own has the same form:

    {"prompt": "…", "system": "…", "answer": {"range": [0, 100], "tags": ["<answer>", "</answer>"], "key": null},
     "frames": {"num_frames": 16, "max_pixels": 100352}, "sampling": {"max_tokens": 256, "temperature": 0.0}}
"""

import dataclasses
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vqathinker_verl.checks import did_you_mean
from vqathinker_verl.data.json_fields import CHECKED, read_json
from vqathinker_verl.data.records import LabelError
from vqathinker_verl.inference.engines.contract import PLAIN_ANSWER, ModelDefaults, Sampling
from vqathinker_verl.inference.engines.defaults import defaults_from

FOLDER = "presets"
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class AnswerFields:
    """See `engines.contract.AnswerForm`."""

    __pydantic_config__ = CHECKED

    range: tuple[float, float] = PLAIN_ANSWER.range
    tags: tuple[Text, Text] = PLAIN_ANSWER.tags
    key: Text | None = None


@dataclass(frozen=True)
class FrameFields:
    """See `frames.FrameSpec`."""

    __pydantic_config__ = CHECKED

    num_frames: int
    size: tuple[int, int] | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class SamplingFields:
    """See `engines.contract.Sampling`, and `samples`: responses per video."""

    __pydantic_config__ = CHECKED

    max_tokens: int = Sampling.max_tokens
    temperature: float = Sampling.temperature
    top_p: float = Sampling.top_p
    top_k: int = Sampling.top_k
    samples: int = 1


@dataclass(frozen=True)
class PresetFile:
    """The fields of a preset's file.

    Attributes:
        prompt: The question.
        frames: What the model is shown.
        answer: How a response gives its score.
        sampling: How tokens are drawn.
        system: What the system says before the question.
        description: The model and its paper.
        source: Where the authors publish this.
        model: The weights that it is for.
        differences: What differs here from the authors' evaluation, one sentence each.
    """

    __pydantic_config__ = CHECKED

    prompt: Text
    frames: FrameFields
    answer: AnswerFields = AnswerFields()
    sampling: SamplingFields = SamplingFields()
    system: str | None = None
    description: str = ""
    source: tuple[str, ...] = ()
    model: str = ""
    differences: tuple[str, ...] = ()


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
    known = preset_names()
    if preset in known:
        return _checked(f"preset {preset}", preset, read_text_of(preset))
    path = Path(preset)
    if not path.is_file():
        raise ValueError(f"preset {preset}: no such file, and none of {', '.join(known)}{did_you_mean(preset, known)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"preset {path}: cannot be read ({error})") from error
    return _checked(f"preset {path}", path.stem, text)


def read_text_of(name: str) -> str:
    """Return the file of one of this package's presets."""
    return str(_folder().joinpath(f"{name}.json").read_text("utf-8"))


def _folder() -> Any:
    return files("vqathinker_verl.inference").joinpath(FOLDER)


def _checked(where: str, name: str, text: str) -> ModelDefaults:
    try:
        found = read_json(PresetFile, text, where)
    except LabelError as error:
        raise ValueError(str(error)) from None
    try:
        return dataclasses.replace(defaults_from(asdict(found)), preset=name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
