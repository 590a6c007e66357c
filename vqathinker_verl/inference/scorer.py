"""`VideoScorer`: a trained model as one callable, from videos to scores."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from concurrent.futures import Future

    from vqathinker_verl.frames import DecodedVideo
    from vqathinker_verl.inference.engines.frame_array import FrameArray
    from vqathinker_verl.inference.predictions import Prediction
    from vqathinker_verl.inference.settings import AskingSettings

LONG_LIST = 8  # videos from which a progress bar is shown on a terminal


class VideoScorer:
    """Scores videos with a trained model, as `vqathinker score` does.

        from vqathinker_verl import VideoScorer

        scorer = VideoScorer("outputs/model")
        scorer("clip.mp4")                        # 3.42
        scorer(["a.mp4", "b.mp4"])                # array([3.42, 2.71])
        scorer("photo.jpg")                       # a still image
        scorer(frames, fps=25)                    # uint8 frames (T, 3, H, W), NumPy or torch
        scorer.score("clip.mp4").response         # the reasoning
        scorer.compare("a.mp4", "b.mp4")          # 0.87: probability that a is better

    As a context manager it gives back the model's memory at the end. Whatever is None comes from the model: frames,
    question and sampling of its validation.

    Args:
        model: Hugging Face folder or name, or the output folder of a training run; with a server as it is served.
        engine: "vllm", "transformers", "server", or "auto": the server where one is given, else vLLM where it is
            installed, else transformers.
        scoring: "greedy", "mean" of `num_samples` responses, or "expectation" (docs/scoring.md).
        num_samples: Responses per video.
        prompt: The question.
        server: Address of an OpenAI-compatible server.
        progress: Whether to show a progress bar; None: on a terminal, for eight videos or more.
        calibration: A file of `vqathinker calibrate`, made with this model and these settings. `compare` and `rank`
            do without it: it does not change which video is better.
        preset: Name or file of a preset: how a published model is asked (docs/scoring.md); the other arguments win.
        **options: dtype, temperature, top_p, max_tokens, seed, thinking, num_frames, size, min_pixels, max_pixels; see
            `vqathinker_verl.inference.settings.asking_settings`.

    Raises:
        ValueError: An option is out of range, or the model cannot be used.
        EngineError: The model cannot be loaded.
    """

    def __init__(
        self,
        model: "str | Path",
        *,
        engine: str = "auto",
        scoring: str | None = None,
        num_samples: int | None = None,
        prompt: str | None = None,
        server: str | None = None,
        progress: bool | None = None,
        calibration: "str | Path | None" = None,
        preset: "str | Path | None" = None,
        **options: Any,
    ) -> None:
        from vqathinker_verl.inference.settings import asking_settings

        chosen: dict[str, Any] = {"backend": engine, "scoring": scoring, "calibration": calibration, "preset": preset}
        chosen |= options
        settings = asking_settings(str(model), prompt=prompt, num_samples=num_samples, server=server, **chosen)
        self._open(settings, progress)

    @classmethod
    def from_settings(cls, settings: "AskingSettings", *, progress: bool | None = None) -> "VideoScorer":
        """Return a scorer with settings that are made already, such as those of a command's options.

        Raises:
            ValueError: The model cannot be used.
            EngineError: The model cannot be loaded.
        """
        scorer = cls.__new__(cls)
        scorer._open(settings, progress)
        return scorer

    def _open(self, settings: "AskingSettings", progress: bool | None) -> None:
        self.settings = settings
        self.progress = progress
        self._engine: Any = settings.open()

    def __call__(self, videos: Any, *, fps: float | None = None) -> "float | NDArray[np.float64]":
        """Return the score of one video, or the scores (N,) of a list or a folder, NaN where there is none.

        A warning names each video that cannot be used.

        Args:
            videos: A path; frames, uint8 (T, 3, H, W); a list of either; or a folder, in the order of its names.
            fps: Frames per second, of frames; a single frame is a still image and needs none.

        Raises:
            ValueError: Frames without `fps`, or a folder without videos.
            EngineError: The model stops answering.
        """
        found = self.score(videos, fps=fps)
        for one in found if isinstance(found, list) else [found]:
            if one.error is not None:
                warnings.warn(f"no score: {one.error}", stacklevel=2)
        if isinstance(found, list):
            return np.array([one.pred_mos for one in found], dtype=np.float64)
        return found.pred_mos

    def score(self, videos: Any, *, fps: float | None = None) -> "Prediction | list[Prediction]":
        """Return what the model says: one record per video with `score`, `response`, `spread` and `error`.

        Arguments and errors are those of `__call__`.
        """
        named, single = _named(videos, fps)
        found = list(self._predictions(named, self.settings))
        return found[0] if single else found

    def decode(self, video: "Path | FrameArray") -> "DecodedVideo":
        """Return the frames that the model is shown.

        Raises:
            VideoError: The video cannot be used.
        """
        from vqathinker_verl.inference.engines.prompting import decoded_video

        return decoded_video(video, self._engine.frames)

    def stream(
        self, videos: "Sequence[Path | FrameArray]", decoded: "Sequence[Future[DecodedVideo]] | None" = None
    ) -> "Iterator[Prediction]":
        """Yield the record of each video, in order, as soon as it is ready.

        Args:
            videos: Video files, or frames with their rate.
            decoded: What `decode` returns of each, where the caller decodes them ahead.

        Raises:
            EngineError: The model stops answering.
        """
        named = [(str(video), video) for video in videos]
        yield from self._predictions(named, self.settings, decoded)

    def compare(self, a: Any, b: Any, *, fps: float | None = None) -> float:
        """Return the probability that `a` is better than `b`, in [0, 1]; 1 minus that for the swapped pair.

        It follows from both scores' distributions: of the drawn responses where the scorer draws several, else of the
        expectation. NaN if a video has no score, with a warning.

        Raises:
            ValueError: Frames without `fps`.
            EngineError: The model stops answering, or its vocabulary does not allow the expectation.
        """
        from vqathinker_verl.inference.comparison import preference_prob

        one, other = self._with_spread([a, b], fps)
        return preference_prob(one, other)

    def rank(self, videos: Any, *, fps: float | None = None, min_prob: float | None = None) -> list[Any]:
        """Return a list or a folder best first, as `comparison.Ranked`, with the pairs that cannot be told apart.

        Args:
            videos: See `__call__`.
            fps: See `__call__`.
            min_prob: A pair is decided if one of the two is better with at least this probability; None: 0.75.
        """
        from vqathinker_verl.inference.comparison import MIN_PROB, rank

        return rank(self._with_spread(videos, fps), min_prob=MIN_PROB if min_prob is None else min_prob)

    def close(self) -> None:
        """Give back the memory of the model; the scorer can then no longer be used."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> "VideoScorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _with_spread(self, videos: Any, fps: float | None) -> "list[Prediction]":
        named, _ = _named(videos, fps)
        from vqathinker_verl.inference.engines.contract import PLAIN_ANSWER

        if self.settings.num_samples == 1 and self.settings.answer != PLAIN_ANSWER:
            raise ValueError(
                "one response gives no probabilities, and the expectation needs a number from 1 to 5 right after "
                "<answer>; pass num_samples above 1"
            )
        # Without the calibration: it is made for the scoring of `__call__`.
        expectation = self.settings.num_samples == 1
        settings = dataclasses.replace(self.settings, expectation=expectation, calibration=None)
        found = list(self._predictions(named, settings))
        for one in found:
            if one.error is not None:
                warnings.warn(f"no score: {one.error}", stacklevel=3)
        return found

    def _predictions(
        self,
        named: list[tuple[str, Any]],
        settings: "AskingSettings",
        decoded: "Sequence[Future[DecodedVideo]] | None" = None,
    ) -> "Iterator[Prediction]":
        from tqdm import tqdm

        from vqathinker_verl.inference.asking import ask, prediction_by
        from vqathinker_verl.inference.engines import Request

        if self._engine is None:
            raise ValueError("the scorer is closed")
        ahead = decoded if decoded is not None else [None] * len(named)
        requests = [Request(video, settings.prompt, frames) for (_, video), frames in zip(named, ahead, strict=True)]
        answers = ask(self._engine, requests, settings)
        hidden = not self.progress if self.progress is not None else None if len(named) >= LONG_LIST else True
        shown = tqdm(zip(named, requests, answers, strict=True), total=len(named), unit="video", disable=hidden)
        for (name, _), request, answer in shown:
            yield prediction_by(settings, self._engine, name, request, answer)


def _named(videos: Any, fps: float | None) -> tuple[list[tuple[str, Any]], bool]:
    """Names and sources of what a caller passed, and whether it is a single video."""
    from vqathinker_verl.inference.scoring import find_videos

    if isinstance(videos, str | Path):
        if Path(videos).is_dir():
            return list(find_videos([Path(videos)]).items()), False
        return [(str(videos), Path(videos))], True
    if hasattr(videos, "shape"):
        return [_frames(videos, fps, "frames")], True
    if not isinstance(videos, Sequence):
        raise ValueError(
            f"videos: expected a path, frames (T, 3, H, W), or a list of them, got {type(videos).__name__}"
        )
    named = []
    for number, video in enumerate(videos):
        if isinstance(video, str | Path):
            named.append((str(video), Path(video)))
        else:
            named.append(_frames(video, fps, f"videos[{number}]"))
    return named, False


def _frames(frames: Any, fps: float | None, name: str) -> tuple[str, Any]:
    from vqathinker_verl.frames.image import IMAGE_FPS
    from vqathinker_verl.inference.engines.frame_array import FrameArray

    if not hasattr(frames, "shape"):
        raise ValueError(f"{name}: expected a path or frames (T, 3, H, W), got {type(frames).__name__}")
    array = FrameArray(frames, IMAGE_FPS if fps is None else fps, name)
    if fps is None and not array.is_image:
        raise ValueError(f"{name}: frames without their rate; pass fps, their number per second")
    return name, array
