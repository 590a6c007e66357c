"""One chain: a source video read, distorted at each strength, and the strengths that differ visibly kept."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vqathinker_verl.files import write_bytes
from vqathinker_verl.frames.container import open_video, shown_picture, shown_size
from vqathinker_verl.frames.spec import segment_centres
from vqathinker_verl.frames.video import VideoError
from vqathinker_verl.seeding import seed_from
from vqathinker_verl.synthesis.distortions import distorted_clip
from vqathinker_verl.synthesis.encoding import Frames, decode
from vqathinker_verl.synthesis.similarity import ssim

MIN_FRAMES = 12
MAX_FPS = 30.0
COMPARED_FRAMES = 12  # at the segment centres: what validation shows


@dataclass(frozen=True)
class ChainTask:
    """A chain to be made; all that decides its bytes.

    Args:
        source: The source video's id: its path below the folder it was found in.
        path: The source video.
        folder: Where the chain's clips go.
        distortion: One of `DISTORTIONS`.
        strengths: Ascending, the first one 0.
        seed: Of the run.
        max_height: Larger pictures are scaled down to this height.
        max_seconds: Longer videos are cut to their first seconds.
        max_ssim: A step is dropped if its similarity to the step before is above this, or if it is no farther from the
            original than that one.
    """

    source: str
    path: str
    folder: Path
    distortion: str
    strengths: tuple[float, ...]
    seed: int
    max_height: int
    max_seconds: float
    max_ssim: float

    @property
    def chain(self) -> str:
        """The chain's id."""
        return f"{self.source}/{self.distortion}"


@dataclass(frozen=True)
class Step:
    """One clip of a chain; `similarity` is its SSIM to the step before, NaN for the first one."""

    video: str
    strength: float
    similarity: float


@dataclass(frozen=True)
class Chain:
    """A chain that was made. `dropped` are strengths that look like the step before; with one step there is no order.

    Args:
        task_key: Digest of what the chain was made from.
        chain: Its id.
        source: Its source video.
        distortion: One of `DISTORTIONS`.
        steps: What was kept.
        dropped: Strengths left out.
        fps: Frames per second of its clips.
        total_frames: Frames of each clip.
        height: Of each clip.
        width: Of each clip.
    """

    task_key: str
    chain: str
    source: str
    distortion: str
    steps: tuple[Step, ...]
    dropped: tuple[float, ...]
    fps: float
    total_frames: int
    height: int
    width: int


def task_key(task: ChainTask) -> str:
    """Digest of a task and of its source's size and time of change: an equal one need not be made again."""
    status = os.stat(task.path)
    facts = [task.chain, task.strengths, task.seed, task.max_height, task.max_seconds, task.max_ssim]
    return hashlib.sha256(json.dumps([*facts, status.st_size, status.st_mtime_ns]).encode()).hexdigest()[:32]


def make_chain(task: ChainTask) -> Chain:
    """Write the clips of one chain into `task.folder` and say which were kept.

    Raises:
        VideoError: The source cannot be decoded, or is too short or too small.
    """
    import av

    key = task_key(task)
    try:
        frames, fps = read_source(task.path, max_height=task.max_height, max_seconds=task.max_seconds)
    except av.FFmpegError as error:
        raise VideoError(f"{task.path}: damaged ({error.strerror}); fetch it again or leave it out") from error
    seed = seed_from(task.seed, task.chain)
    compared = segment_centres(len(frames), COMPARED_FRAMES)
    steps: list[Step] = []
    dropped: list[float] = []
    last: Frames | None = None
    clean: Frames | None = None
    to_clean = 1.0  # of the step before
    clips: dict[str, bytes] = {}
    for strength in task.strengths:
        clip = distorted_clip(frames, fps, task.distortion, strength, seed)
        shown = decode(clip, compared)
        similarity = float("nan") if last is None else ssim(last, shown)
        now_to_clean = 1.0 if clean is None else ssim(clean, shown)
        # What an encoder adds differs between any two clips, so a step must also be farther from the original.
        if similarity > task.max_ssim or (last is not None and now_to_clean >= to_clean):
            dropped.append(strength)
            continue
        video = f"{task.source}/{task.distortion}_{round(1000 * strength):04d}.mp4"
        steps.append(Step(video, strength, similarity))
        clips[video] = clip
        last, to_clean = shown, now_to_clean
        clean = shown if clean is None else clean
    if len(steps) > 1:
        for video, clip in clips.items():
            write_bytes(task.folder / video, clip)
    height, width = frames.shape[1:3]
    return Chain(
        task_key=key,
        chain=task.chain,
        source=task.source,
        distortion=task.distortion,
        steps=tuple(steps),
        dropped=tuple(dropped),
        fps=float(fps),
        total_frames=len(frames),
        height=height,
        width=width,
    )


def read_source(path: str, *, max_height: int, max_seconds: float) -> tuple[Frames, Fraction]:
    """Return the first seconds of a video as (T, H, W, 3) RGB with even sides, and its frame rate.

    Of videos with more than `MAX_FPS` frames per second every second, third, ... frame is kept.

    Raises:
        VideoError: The file is no video, states no frame rate, is shorter than `MIN_FRAMES` or flatter than 64 pixels.
        av.FFmpegError: It is damaged.
    """
    container, stream = open_video(path)
    pictures: list[Frames] = []
    with container:
        rate = stream.average_rate or stream.guessed_rate
        if not rate or rate <= 0:
            raise VideoError(f"{path}: the file states no frame rate; expected one; convert it to MP4")
        every = max(1, int(np.ceil(float(rate) / MAX_FPS - 1e-3)))
        fps = Fraction(rate / every).limit_denominator(1001)
        most = max(MIN_FRAMES, round(float(fps) * max_seconds))
        stream.codec_context.thread_count = 1
        target = None
        for number, picture in enumerate(container.decode(stream)):
            if number % every:
                continue
            if target is None:
                height, width = shown_size(picture, stream)
                shrink = max(1.0, height / max_height)
                target = (round(height / shrink) // 2 * 2, round(width / shrink) // 2 * 2)
                if min(target) < 64:
                    raise VideoError(f"{path}: pictures of {width}x{height}, expected sides of at least 64 pixels")
            pictures.append(np.ascontiguousarray(shown_picture(picture, target).transpose(1, 2, 0)))
            if len(pictures) == most:
                break
    if len(pictures) < MIN_FRAMES:
        raise VideoError(f"{path}: {len(pictures)} frames, expected at least {MIN_FRAMES}; leave the video out")
    return np.stack(pictures), fps


def strengths_of(count: int) -> tuple[float, ...]:
    """`count` strengths from 0 to 1, evenly spread.

    >>> strengths_of(5)
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    if count < 2:
        raise ValueError(f"expected at least 2 strengths, got {count}")
    return tuple(round(number / (count - 1), 4) for number in range(count))


def choose_distortions(source: str, distortions: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` of the distortions for one source, drawn by its id and the seed, in their given order."""
    if count >= len(distortions):
        return list(distortions)
    drawn = np.random.default_rng(seed_from(seed, source)).choice(len(distortions), count, replace=False)
    return [distortions[number] for number in sorted(drawn)]
