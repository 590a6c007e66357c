"""Run verl's model merger in a separate process: `python -m vqathinker_verl.inference.merge ACTOR TARGET DTYPE`.

verl 0.9.1's merger rounds every weight to bfloat16. That is what a rollout in bfloat16 sampled from; of a rollout in
float32 (no GPU) it would be another model. So with DTYPE float32 the rounding is left out.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger


class UnroundedMerger(FSDPModelMerger):
    """Keeps float32: `Tensor.bfloat16`, which the merger calls on every shard, gives the tensor itself meanwhile."""

    def _load_and_merge_state_dicts(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        with mock.patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor):
            return super()._load_and_merge_state_dicts(*args, **kwargs)


def merge(actor: Path, target: Path, dtype: str) -> None:
    """Merge the shards under `actor` into the Hugging Face folder `target`, in bfloat16 or float32."""
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(actor),
        target_dir=str(target),
        hf_model_config_path=str(actor / "huggingface"),
    )
    merger = (FSDPModelMerger if dtype == "bfloat16" else UnroundedMerger)(config)
    merger.merge_and_save()
    merger.cleanup()
    if dtype != "bfloat16":  # the merger's config says bfloat16 whatever the weights are, and loaders believe it
        path = target / "config.json"
        path.write_text(json.dumps(with_dtype(json.loads(path.read_text()), dtype), indent=2) + "\n")


def with_dtype(config: Any, dtype: str) -> Any:
    """A model's configuration with `dtype` wherever it, or a part of it, states one."""
    if not isinstance(config, dict):
        return config
    return {name: dtype if name == "dtype" else with_dtype(value, dtype) for name, value in config.items()}


if __name__ == "__main__":
    merge(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
