"""How a model is asked unless told otherwise: as it was at validation, where `vqathinker export` has written that down.

The command line and `open_engine` both read it here, so that the same model and video get the same score from each.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines.contract import EVALUATION_FRAMES, EXPORT_FILE, ModelDefaults, Sampling
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
        facts = json.loads(path.read_text(encoding="utf-8"))
        sampling = _known(Sampling, facts.get("sampling", {}))
        prompt, samples = facts.get("prompt", QUALITY_PROMPT), facts.get("sampling", {}).get("samples", 1)
        if not isinstance(prompt, str):
            raise TypeError(f"prompt: expected text, got {prompt!r}")
        frames = FrameSpec(**_known(FrameSpec, facts["frames"])) if "frames" in facts else EVALUATION_FRAMES
        return ModelDefaults(frames, Sampling(**sampling), prompt, samples)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a JSON object with frames: {{num_frames, size or max_pixels}} ({error}); export again"
        ) from error


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}
