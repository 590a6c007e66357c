"""Convert decoded frames for processors and vLLM: a tensor, and the positions and times of its frames."""

from typing import TYPE_CHECKING, Any

from vqathinker_verl.frames.positions import QWEN2_5_VL
from vqathinker_verl.frames.video import DecodedVideo

if TYPE_CHECKING:
    import torch

Video = tuple["torch.Tensor", dict[str, Any]]


def frames_and_metadata(video: DecodedVideo) -> Video:
    """The pair that verl and vLLM take: uint8 frames (T, C, H, W), and each frame's place in the source."""
    import torch

    metadata = {
        "fps": video.fps,
        "frames_indices": video.indices.tolist(),
        "total_num_frames": video.total_frames,
        "video_backend": video.backend,
    }
    return torch.from_numpy(video.frames.copy()), metadata  # a copy: the cache's arrays are read-only, torch's are not


def temporal_patch(processor: Any) -> int:
    """Frames that a model's vision tower joins into one patch: Qwen-VL 2; 1 where the processor names no number."""
    return int(getattr(getattr(processor, "video_processor", None), "temporal_patch_size", None) or 1)


def at_24_fps(video: Video) -> Video:
    """The same frames as if they were consecutive ones of a video of 24 frames per second.

    That is what vLLM and transformers assume of frames without metadata, and what models were trained with whose export
    does not say otherwise.
    """
    frames, metadata = video
    return frames, {**metadata, "fps": 24.0, "frames_indices": [*range(len(frames))], "total_num_frames": len(frames)}


def vllm_times(model_type: str, videos: list[Video]) -> dict[str, Any]:
    """`mm_processor_kwargs` of a vLLM request, through which the frames' times reach the model; {} if none are needed.

    vLLM 0.24 drops the metadata of a (frames, metadata) pair for Qwen2.5-VL, and its processor then assumes 24 frames
    per second. Other models get their times from the pair itself, or have none. vLLM keeps processed videos by their
    frames and these values, so requests with equal frames and times share its caches.

    Args:
        model_type: `model_type` of the model's config.
        videos: The videos of the request, in the order of the prompt.
    """
    if model_type != QWEN2_5_VL:
        return {}
    names = ("fps", "frames_indices", "total_num_frames")
    metadata = [{name: video[1][name] for name in names} for video in videos]
    return {"video_metadata": metadata, "do_sample_frames": False}
