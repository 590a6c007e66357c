"""Find the videos of a call, and score each of them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vqathinker_verl.frames import VideoError, probe
from vqathinker_verl.frames.suffixes import VIDEO_SUFFIXES
from vqathinker_verl.inference.answers_file import ScoringError
from vqathinker_verl.inference.engines import Engine, Request
from vqathinker_verl.inference.predictions import Prediction, predicted


def find_videos(paths: Iterable[Path], root: Path | None = None) -> dict[str, Path]:
    """Return the videos at `paths` by video_id, in order.

    A folder gives the videos anywhere under it, by their path relative to it. A file gives itself, by its name. With
    `root` all are named relative to that. A file that does not exist is kept: scoring it reports it.

    Raises:
        ScoringError: A folder holds no video, a path is not under `root`, or two videos have the same id.
    """
    found: dict[str, Path] = {}
    for path in paths:
        videos = sorted(file for file in path.rglob("*") if is_video(file)) if path.is_dir() else [path]
        if not videos:
            raise ScoringError(f"{path}: no video in this folder; expected files ending in {_suffixes()}")
        for video in videos:
            base = root if root is not None else path if path.is_dir() else path.parent
            try:
                video_id = video.absolute().relative_to(base.absolute()).as_posix()
            except ValueError:
                raise ScoringError(f"{video}: not under --video-root {base}; expected all videos under it") from None
            earlier = found.setdefault(video_id, video)
            if earlier.absolute() != video.absolute():
                raise ScoringError(
                    f"{earlier} and {video} would both be called {video_id}; give one folder above both "
                    "(--video-root, if the command has it)"
                )
    return found


def left_out(paths: Iterable[Path]) -> list[str]:
    """Files in the folders among `paths` that `find_videos` leaves out for their suffix; hidden ones are not listed."""
    files = sorted(file for path in paths if path.is_dir() for file in path.rglob("*") if file.is_file())
    return [str(file) for file in files if not is_video(file) and not file.name.startswith(".")]


def check_videos(videos: Iterable[Path]) -> None:
    """Open the headers of videos until one is fine, which takes no time; a model takes minutes to load.

    Raises:
        ScoringError: None of the videos can be opened.
    """
    faults = []
    for video in videos:
        try:
            probe(video)
            return
        except VideoError as error:
            faults.append(error)
    if faults:
        more = f"none of {len(faults)} videos can be opened; the first: " if len(faults) > 1 else ""
        raise ScoringError(f"{more}{faults[0]}")


def is_video(path: Path) -> bool:
    """Whether a file is a video by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _suffixes() -> str:
    return ", ".join(sorted(VIDEO_SUFFIXES))


def score_videos(
    videos: Mapping[str, Path], engine: Engine, *, prompt: str | None = None, samples: int | None = None
) -> Iterator[Prediction]:
    """Ask for the quality of each video; yields a prediction per video, in order, as they become ready.

    Args:
        videos: Video files by video_id.
        engine: What `open_engine` returned.
        prompt: The question; None: the model's own, see `open_engine`.
        samples: Responses per video; more than one needs a temperature above 0. None: the model's own number.

    Raises:
        EngineError: The engine cannot answer at all.
    """
    prompt = prompt if prompt is not None else engine.defaults.prompt
    samples = samples if samples is not None else engine.defaults.samples
    requests = [Request(video, prompt) for video in videos.values()]
    answers = engine.generate(requests, samples=samples)
    for video_id, request, answer in zip(videos, requests, answers, strict=True):
        yield predicted(
            video_id,
            str(request.video),
            answer,
            num_frames=request.num_frames(engine.frames),
            num_samples=samples,
            form=engine.defaults.answer,
        )


def reasoning_of(response: str) -> str:
    """Return the reasoning before a response's answer; the complete response if it does not separate the two.

    >>> reasoning_of("<think>Sharp, some noise.</think><answer>3.50</answer>")
    'Sharp, some noise.'
    """
    thoughts, closed, _ = response.partition("</think>")
    return thoughts.removeprefix("<think>").strip() if closed else response
