"""What an engine takes and gives: the same for transformers, vLLM in this process, and a server."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from vqathinker_verl.frames import DecodedVideo, FrameSpec
from vqathinker_verl.frames.suffixes import is_image
from vqathinker_verl.inference.engines.expectation import ScoreDistribution
from vqathinker_verl.inference.engines.frame_array import FrameArray
from vqathinker_verl.parsing import parse_answer
from vqathinker_verl.prompts import QUALITY_PROMPT, SCORE_RANGE, question_about

Backend = Literal["auto", "vllm", "transformers", "server"]

# config/vqathinker.yaml, data.frames.val: what a model sees at validation (docs/data.md). A test compares the two.
EVALUATION_FRAMES = FrameSpec(num_frames=12, max_pixels=560 * 560)

# Written by `vqathinker export`: what the model was shown at validation, and whether frames had their true times.
EXPORT_FILE = "vqathinker.json"


class EngineError(RuntimeError):
    """The engine cannot answer at all: no model, no server, a server that refuses. A broken video is no such error."""


@dataclass(frozen=True)
class Request:
    """One question about one video.

    Args:
        video: The video file or still image, or frames in memory.
        prompt: The question as text; the frames come before it, as in training. Of the built-in question for a score
            it becomes the wording for an image where `video` is one.
        decoded: The frames that the model is shown, where the caller decodes them; None: the engine does.
    """

    video: Path | FrameArray
    prompt: str
    decoded: "Future[DecodedVideo] | None" = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", question_about(self.prompt, image=self.about_image))

    @property
    def about_image(self) -> bool:
        """Whether it is about a still image."""
        return self.video.is_image if isinstance(self.video, FrameArray) else is_image(self.video)

    def num_frames(self, frames: FrameSpec) -> int:
        """How many frames of `video` are shown."""
        return frames.image_frames if self.about_image else frames.num_frames


@dataclass(frozen=True)
class Answer:
    """What the model said to one request.

    Args:
        responses: One text a sample, empty where there is none. With an answer prefix they begin with it.
        error: Why there is no response, naming the video; None where there is one.
        distribution: Of the score, after the response's reasoning; None where it was not asked for, or the response
            opens no `<answer>`.
    """

    responses: tuple[str, ...]
    error: str | None = None
    distribution: ScoreDistribution | None = None


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        max_tokens: Longest response, in tokens.
        temperature: 0 takes the likeliest token each time, whatever `seed` is.
        top_p: Share of the probability that is drawn from.
        top_k: How many of the likeliest tokens are drawn from; 0: all.
        seed: Seed of the draws. Each request's own is derived from this, its prompt and its frames, so that an answer
            depends neither on the other requests nor on their order.

    Raises:
        ValueError: A number is out of range.
    """

    max_tokens: int = 2048
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: expected at least 1, got {self.max_tokens}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature: expected 0 or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected a share in (0, 1], got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k: expected 0 or more, got {self.top_k}")

    def as_json(self) -> dict[str, Any]:
        """The fields; `top_k`, which came later, only where it is used, so that earlier files stay equal."""
        fields = asdict(self)
        return fields if self.top_k else {name: value for name, value in fields.items() if name != "top_k"}


@dataclass(frozen=True)
class AnswerForm:
    """How a response gives its score.

    Args:
        range: Lowest and highest score; scores are mapped from here to [1, 5].
        tags: What opens and closes the answer.
        key: The name of the score in an answer that is JSON; None: the answer is the number.

    Raises:
        ValueError: The range is empty, or a tag is.
    """

    range: tuple[float, float] = SCORE_RANGE
    tags: tuple[str, str] = ("<answer>", "</answer>")
    key: str | None = None

    def __post_init__(self) -> None:
        lowest, highest = self.range
        if not (math.isfinite(lowest) and math.isfinite(highest) and lowest < highest):
            raise ValueError(f"answer.range: expected the lowest and the highest score, got {list(self.range)}")
        if not all(self.tags) or self.tags[0] == self.tags[1]:
            raise ValueError(f"answer.tags: expected two different texts, got {list(self.tags)}")
        if self.key == "":
            raise ValueError("answer.key: expected the name of the score in the JSON of the answer, got ''")

    @property
    def mapped(self) -> bool:
        """Whether scores come on another scale than [1, 5]."""
        return tuple(self.range) != SCORE_RANGE

    def score(self, response: str) -> float:
        """Return the score of a response, mapped to [1, 5]; NaN where it gives none."""
        found = parse_answer(response, score_range=self.range, tags=self.tags, key=self.key).score
        if not self.mapped:
            return found
        (lowest, highest), (low, high) = self.range, SCORE_RANGE
        return low + (high - low) * (found - lowest) / (highest - lowest)

    def as_json(self) -> dict[str, Any]:
        """What `read_defaults` reads back."""
        return {"range": list(self.range), "tags": list(self.tags), "key": self.key}


# What the paper's question asks for.
PLAIN_ANSWER = AnswerForm()


@dataclass(frozen=True)
class ModelDefaults:
    """Frames, question and sampling of one model.

    Args:
        frames: Which frames it is shown.
        sampling: How tokens are drawn.
        prompt: The question.
        samples: Responses per video; the score is their mean.
        system: What the system says before the question; "": what the chat template says.
        answer: How a response gives its score.
        preset: The name of the preset that they are, or "".
        notes: What a reader of the scores must know of them.

    Raises:
        ValueError: Several samples at temperature 0.
    """

    frames: FrameSpec = EVALUATION_FRAMES
    sampling: Sampling = Sampling()
    prompt: str = QUALITY_PROMPT
    samples: int = 1
    system: str = ""
    answer: AnswerForm = PLAIN_ANSWER
    preset: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_samples(self.samples, self.sampling)

    def as_json(self) -> dict[str, Any]:
        """What `read_defaults` reads back."""
        sampling = self.sampling.as_json() | {"samples": self.samples}
        del sampling["seed"]
        facts = {"frames": asdict(self.frames), "prompt": self.prompt, "sampling": sampling}
        if self.system:
            facts["system"] = self.system
        if self.answer != PLAIN_ANSWER:
            facts["answer"] = self.answer.as_json()
        if self.preset:
            facts |= {"preset": self.preset, "differences": list(self.notes)}
        return facts


class Engine(Protocol):
    """Answers requests. Made by `open_engine`."""

    frames: FrameSpec  # what the model is shown, with the model's own factor
    defaults: ModelDefaults  # how the model is asked unless told otherwise

    def generate(self, requests: Sequence[Request], *, samples: int = 1, expectation: bool = False) -> Iterator[Answer]:
        """Answer each request `samples` times; yields in the order of the requests, as they become ready.

        With `expectation` an answer also has the distribution of the score after its first response's reasoning.
        A video that cannot be decoded gives an Answer with an error, and the others are answered.

        Raises:
            ValueError: More than one sample is asked for at temperature 0, where all would be equal; or the
                vocabulary does not allow the expectation.
            EngineError: No request can be answered.
        """
        ...

    def close(self) -> None:
        """Give back the memory of the model; the engine answers no more."""
        ...


def check_samples(samples: int, sampling: Sampling) -> None:
    """Raise ValueError if `samples` responses cannot be drawn."""
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    if samples > 1 and sampling.temperature == 0:
        raise ValueError(f"{samples} samples at temperature 0 would all be equal; expected a temperature above 0")
