"""A video's features in TransferQueue: once per prompt, in the dtype that the model computes in.

verl 0.9.1 makes a row of each response and stores the processor's output with it, so G responses hold the same pixel
values G times, in fp32. Here the agent loop stores them once, in a partition of their own under the prompt's uid, and
each row holds that uid in their place (`STORED`). Where a worker of the trainer reads its share of the batch, a patch
puts the features back (patches.py), so that everything behind it sees verl's rows.

Why TransferQueue and not Ray's object store: the asynchronous trainers save TransferQueue with their checkpoints, and
it keeps what a reference inside of a message would not. Why not the partition "train": whatever begins with a prompt's
uid there is a response to verl's replay buffer.
"""

from collections.abc import Mapping
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import NonTensorStack, TensorDict

PARTITION = "vqathinker_features"
STORED = "stored_features"  # in a row's multi_modal_inputs: the uid under which its features are stored
PIXELS = "pixel_values"  # how the large fields' names begin: pixel_values_videos (Qwen-VL), pixel_values (InternVL)
COLUMN = "features"

# Of this process's last share of a batch: verl's worker reads the same rows for the old log-probabilities, the
# reference and the update.
_last_read: dict[str, dict[str, torch.Tensor]] = {}


def without_pixels(features: Mapping[str, Any]) -> dict[str, Any]:
    """The small features alone: grids and times, which the positions need."""
    return {name: value for name, value in features.items() if not name.startswith(PIXELS)}


def dtype_of_inputs(config: DictConfig) -> torch.dtype | None:
    """The dtype that FSDP casts the model's inputs to, in the actor and in the reference.

    Both of verl's FSDP strategies cast every floating-point input to `mixed_precision.param_dtype` before the model
    sees it, so that a cast before storing changes nothing. None where the two differ or another engine trains.
    """
    from verl.utils.torch_dtypes import PrecisionType

    dtypes = set()
    for role in (config.actor_rollout_ref.actor, config.actor_rollout_ref.ref):
        if role.strategy not in ("fsdp", "fsdp2"):
            return None
        precision = role.fsdp_config.get("mixed_precision") or {}
        dtypes.add(PrecisionType.to_dtype(precision.get("param_dtype", "bf16")))  # verl's default
    return dtypes.pop() if len(dtypes) == 1 else None


async def store_features(uid: str, features: Mapping[str, Any], dtype: torch.dtype | None) -> dict[str, Any]:
    """Store a prompt's pixel values, and return what its rows hold: the small features and `STORED`.

    Args:
        uid: The prompt's; storing it again replaces what was stored.
        features: Of the processor.
        dtype: The pixel values are cast to it; None keeps theirs.
    """
    pixels = {name: value.to(dtype) for name, value in features.items() if name.startswith(PIXELS)}
    if not pixels:
        return dict(features)
    await tq.async_kv_batch_put(
        keys=[uid],
        partition_id=PARTITION,
        fields=TensorDict({COLUMN: NonTensorStack(pixels)}, batch_size=1),
        tags=[{"bytes": sum(value.nbytes for value in pixels.values())}],
    )
    return {**without_pixels(features), STORED: uid}


async def with_features(batch: TensorDict) -> TensorDict:
    """Put the features into the rows that refer to them, in place; returns the batch.

    The rows of a prompt share them: nothing is copied, and a prompt is read once for all its rows and all phases of a
    step.

    Raises:
        RuntimeError: TransferQueue does not hold the features of a row.
    """
    global _last_read
    if "multi_modal_inputs" not in batch.keys():
        return batch
    rows = [dict(getattr(row, "data", row) or {}) for row in batch["multi_modal_inputs"]]
    uids = [row.pop(STORED, None) for row in rows]
    distinct = [uid for uid in dict.fromkeys(uids) if uid is not None]
    _last_read = {uid: _last_read[uid] for uid in distinct if uid in _last_read}
    if missing := [uid for uid in distinct if uid not in _last_read]:
        _last_read |= zip(missing, await _read(missing), strict=True)
    if distinct:
        batch["multi_modal_inputs"] = NonTensorStack(
            *(row if uid is None else row | _last_read[uid] for row, uid in zip(rows, uids, strict=True))
        )
    return batch


async def _read(uids: list[str]) -> list[dict[str, torch.Tensor]]:
    try:
        data = await tq.async_kv_batch_get(keys=uids, partition_id=PARTITION, select_fields=[COLUMN])
        if len(data) != len(uids):  # keys that it does not know are left out
            raise ValueError(f"it holds those of {len(data)}")
    except ValueError as error:
        raise RuntimeError(
            f"TransferQueue does not hold the features of all of these {len(uids)} prompts: {', '.join(uids[:3])}, …; "
            f"their rows come from elsewhere, such as verl's skip.rollout_tq, which saves rows alone ({error})"
        ) from error
    return [getattr(features, "data", features) for features in data[COLUMN]]


def clear_unused_features() -> None:
    """Remove the features of prompts of which the partition "train" holds neither the prompt nor a response.

    A prompt is there from before its features are stored until it is sampled, and its responses until the end of the
    step that trained on them. So this also takes those of evicted and failed prompts.
    """
    partitions = tq.kv_list() or {}
    used = {key.split("_", 1)[0] for key in partitions.get("train", {})}
    if unused := [uid for uid in partitions.get(PARTITION, {}) if uid not in used]:
        tq.kv_clear(keys=unused, partition_id=PARTITION)


def feature_metrics() -> dict[str, float]:
    """`features/prompts` and `features/bytes`: what TransferQueue holds now."""
    tags = (tq.kv_list(PARTITION) or {}).get(PARTITION, {})
    return {
        "features/prompts": float(len(tags)),
        "features/bytes": float(sum(tag.get("bytes", 0) for tag in tags.values())),  # none yet: being stored
    }
