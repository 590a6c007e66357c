"""Which frames a model sees, how they are decoded and resized, and the cache that decodes each video once."""

from vqathinker_verl.frames.cache import CacheConfig, FrameCache
from vqathinker_verl.frames.processes import decode, probe
from vqathinker_verl.frames.spec import FrameSpec, VideoInfo, segment_centres, video_tokens
from vqathinker_verl.frames.video import DecodedVideo, VideoError

__all__ = [
    "CacheConfig",
    "DecodedVideo",
    "FrameCache",
    "FrameSpec",
    "VideoError",
    "VideoInfo",
    "decode",
    "probe",
    "segment_centres",
    "video_tokens",
]
