"""A model's architecture from its config.json alone: built on torch's meta device, which holds no weights."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vqathinker_verl.config.compose import InputError

# config.json of the recipes' models, restated: only what the architecture depends on (docs/plan.md).
RESTATED = Path(__file__).resolve().parent / "models"
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl")


@dataclass(frozen=True)
class Stack:
    """One stack of transformer blocks: the language model's or the vision encoder's."""

    layers: int
    hidden: int
    intermediate: int
    attention: int  # query heads x head size
    key_value: int  # key (or value) heads x head size


class Model:
    """An architecture, its exact number of parameters, and the sizes that memory and tokens depend on.

    Args:
        values: The contents of a config.json.
        source: Where it was read, for the report.

    Raises:
        InputError: transformers does not know, or tokens.py has no formula for, the architecture.
    """

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.source = source
        self.family = str(values.get("model_type"))
        if self.family not in FAMILIES:
            raise InputError(
                f"{source}: model_type {self.family!r}; token and memory formulas are known for {', '.join(FAMILIES)}"
            )
        import torch
        from transformers import AutoConfig, AutoModelForImageTextToText

        self.config = AutoConfig.for_model(**values)
        with torch.device("meta"):
            self.module = AutoModelForImageTextToText.from_config(self.config)

    @cached_property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @cached_property
    def blocks(self) -> list[int]:
        """Parameters of each transformer block: what FSDP gathers and frees one at a time."""
        names = set(self.module._no_split_modules)
        return [
            sum(parameter.numel() for parameter in module.parameters())
            for module in self.module.modules()
            if type(module).__name__ in names
        ]

    def lora_parameters(self, rank: int, exclude: str | None) -> int:
        """Parameters of an adapter on all linear layers but the output's: rank x (inputs + outputs) each.

        Args:
            rank: The adapter's rank.
            exclude: Regular expression; modules whose complete name matches get none.
        """
        from torch.nn import Linear

        return sum(
            rank * (module.in_features + module.out_features)
            for name, module in self.module.named_modules()
            if isinstance(module, Linear) and name != "lm_head" and not (exclude and re.fullmatch(exclude, name))
        )

    @property
    def vocabulary(self) -> int:
        """Rows of the output layer, padding included."""
        return int(self.config.text_config.vocab_size)

    @property
    def language(self) -> Stack:
        """The language model's blocks."""
        text = self.config.text_config
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return Stack(
            text.num_hidden_layers,
            text.hidden_size,
            text.intermediate_size,
            text.num_attention_heads * head,
            text.num_key_value_heads * head,
        )

    @property
    def vision(self) -> Stack:
        """The vision encoder's blocks."""
        vision = self.config.vision_config
        layers = vision.num_hidden_layers if self.family == "internvl" else vision.depth
        width = vision.hidden_size
        return Stack(layers, width, vision.intermediate_size, width, width)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        size = self.config.vision_config.patch_size
        return int(size[0] if isinstance(size, list | tuple) else size)

    @property
    def merge(self) -> int:
        """Patches that a token spans, on each side."""
        if self.family == "internvl":
            return round(1 / self.config.downsample_ratio)
        return int(self.config.vision_config.spatial_merge_size)


def load_model(path: str) -> Model:
    """Return the architecture of a checkpoint's folder or, for a name on the hub, as restated in this package.

    Raises:
        InputError: neither is there.
    """
    local = Path(path).expanduser() / "config.json"
    if local.is_file():
        return Model(json.loads(local.read_text()), str(local))
    restated = RESTATED / f"{path.rpartition('/')[2]}.json"
    if restated.is_file():
        return Model(json.loads(restated.read_text()), f"config.json of {path}, as restated in this package")
    if Path(path).is_absolute():
        raise InputError(f"model {path}: no config.json there; is it made already? (the demo's: `vqathinker demo`)")
    known = ", ".join(sorted(file.stem for file in RESTATED.glob("*.json")))
    raise InputError(
        f"model {path}: no config.json there, and the package restates only {known}; set MODEL_PATH to a folder with "
        "the model's config.json (no weights are needed)"
    )
