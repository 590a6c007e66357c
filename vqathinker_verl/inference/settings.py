"""How a model is run and asked: one frozen record, made once by a command or by `VideoScorer`.

What is not given comes from the model itself (`vqathinker.json`, which `vqathinker export` writes), so that the same
model and video get the same score from the command line and from Python.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.calibration import Calibration, read_calibration
from vqathinker_verl.inference.engines import (
    AnswerForm,
    Backend,
    Engine,
    ModelDefaults,
    Sampling,
    open_engine,
    read_defaults,
)
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, PLAIN_ANSWER, check_samples
from vqathinker_verl.inference.model_identity import model_identity
from vqathinker_verl.inference.model_source import usable_model
from vqathinker_verl.inference.preset import read_preset
from vqathinker_verl.prompts import SCORE_RANGE

# How a score follows from what the model says (docs/scoring.md).
Scoring = Literal["greedy", "mean", "expectation"]


@dataclass(frozen=True)
class AskingSettings:
    """All that decides what a model says about a video.

    Attributes:
        model: Folder or name that can be loaded, or the name under which a server has the model.
        frames: What the model is shown.
        sampling: How tokens are drawn.
        prompt: The question.
        num_samples: Responses per video.
        backend: See `open_engine`.
        server: Address of a server, or None.
        dtype: A torch dtype's name, or "auto".
        answer_prefix: What every response begins with.
        expectation: Whether the score is the expectation over the score's digits, instead of the number written.
        calibration: Maps scores to the level of a set of labels; None leaves them as they are.
        system: What the system says before the question; "": what the chat template says.
        answer: How a response gives its score.
        defaults: What was not given as an option, and the preset that it comes from, if it does.
        origins: Where each setting comes from: "option", "preset NAME", "model" (its vqathinker.json), or "default".
    """

    model: str
    frames: FrameSpec
    sampling: Sampling
    prompt: str
    num_samples: int = 1
    backend: Backend = "auto"
    server: str | None = None
    dtype: str = "auto"
    answer_prefix: str = ""
    expectation: bool = False
    calibration: Calibration | None = None
    system: str = ""
    answer: AnswerForm = PLAIN_ANSWER
    defaults: ModelDefaults = field(default_factory=ModelDefaults, compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def open(self) -> Engine:
        """Load the model, or reach the server that has.

        Raises:
            ValueError: Backend and server do not go together, or the model's files show that it cannot be used.
            EngineError: The model cannot be loaded.
        """
        return open_engine(
            self.model,
            backend=self.backend,
            server=self.server,
            frames=self.frames,
            sampling=self.sampling,
            answer_prefix=self.answer_prefix,
            dtype=self.dtype,
            expectation=self.expectation,
            system=self.system,
            answer=self.answer,
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the scores must know, one sentence each."""
        notes = []
        if preset := self.defaults.preset:
            taken: dict[str, list[str]] = {}
            for name, origin in self.origins.items():
                taken.setdefault(origin, []).append(name)
            notes.append(
                f"preset {preset}: " + "; ".join(f"{', '.join(names)} from {_of(o)}" for o, names in taken.items())
            )
            notes += [f"differs from {preset} as published: {text}" for text in self.defaults.notes]
        if self.answer.mapped:
            lowest, highest = self.answer.range
            low, high = SCORE_RANGE
            notes.append(f"scores are mapped from [{lowest:g}, {highest:g}] to [{low:g}, {high:g}]")
        if (used := self.calibration) is not None:
            notes.append(f"scores are calibrated by {used.name} ({used.description})")
        return notes

    def as_json(self) -> dict[str, Any]:
        """What an output file keeps: answers made with other settings are not added to it."""
        facts = {
            "model": model_identity(self.model),
            "backend": self.backend,
            "server": self.server,
            "dtype": self.dtype,
            "prompt": self.prompt,
            "answer_prefix": self.answer_prefix,
            "frames": dataclasses.asdict(self.frames),
            "sampling": self.sampling.as_json(),
            "samples": self.num_samples,
            "origins": dict(self.origins),
        }
        if self.system:
            facts["system"] = self.system
        if self.answer != PLAIN_ANSWER:
            facts["answer"] = self.answer.as_json()
        if self.expectation:
            facts["scoring"] = "expectation"
        if self.calibration is not None:
            facts["calibration"] = self.calibration.digest
        return facts


def asking_settings(
    model: str,
    *,
    backend: Backend = "auto",
    server: str | None = None,
    dtype: str = "auto",
    prompt: str | None = None,
    scoring: Scoring | None = None,
    num_samples: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    thinking: bool = True,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    calibration: str | Path | None = None,
    preset: str | Path | None = None,
) -> AskingSettings:
    """Return settings; None for an argument means the model's own.

    Args:
        model: Hugging Face folder or name, or a training run, which is exported; for a server also its name there.
        backend: See `open_engine`.
        server: Address of an OpenAI-compatible server.
        dtype: A torch dtype's name; "auto" is bfloat16 on a GPU and float32 without one.
        prompt: The question.
        scoring: "greedy": the number in the likeliest response. "mean": the mean over `num_samples` drawn responses.
            "expectation": after the likeliest reasoning, the expected value of the number. None: as at the model's
            validation, or "mean" where several samples are asked for.
        num_samples: Responses per video.
        temperature: 0 takes the likeliest tokens; None for several samples that are not the model's own number: 1.
        top_p: Share of the probability that is drawn from.
        max_tokens: Longest response, in tokens.
        seed: Seed of the draws.
        thinking: False: the responses begin with `<answer>`, without reasoning.
        num_frames: Frames shown.
        size: One fixed (height, width) of the frames, in place of a budget of pixels.
        min_pixels: Fewest pixels of a frame.
        max_pixels: Most pixels of a frame.
        calibration: A file of `vqathinker calibrate`, made with this model and these settings.
        preset: Name or file of a preset, in place of what the model itself says; the other arguments win over it.

    Raises:
        ValueError: A value is out of range, values contradict each other, the model cannot be used, or the calibration
            is not of this model and these settings.
    """
    # Their files before the model's, which may have to be exported first.
    chosen = None if preset is None else read_preset(str(preset))
    mapping = None if calibration is None else read_calibration(Path(calibration))
    if server is None:
        model = usable_model(model)
    defaults = chosen if chosen is not None else read_defaults(model)
    samples, heat = _samples_and_temperature(defaults, scoring, num_samples, temperature)
    own = defaults.sampling
    sampling = Sampling(
        max_tokens if max_tokens is not None else own.max_tokens,
        heat,
        top_p if top_p is not None else own.top_p,
        seed,
        own.top_k,
    )
    frames = frames_from(
        defaults.frames, num_frames=num_frames, size=size, min_pixels=min_pixels, max_pixels=max_pixels
    )
    check_samples(samples, sampling)  # before a model is loaded
    expectation = scoring == "expectation"
    if expectation and defaults.answer != PLAIN_ANSWER:
        raise ValueError(
            "scoring 'expectation' reads a number from 1 to 5 right after <answer>, and the answer has another form "
            "here; use 'greedy', or 'mean' with several samples"
        )
    given = {
        "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "samples": num_samples,
        "num_frames": num_frames, "size": size, "min_pixels": min_pixels, "max_pixels": max_pixels, "scoring": scoring,
    }  # fmt: skip
    settings = AskingSettings(
        model=model,
        frames=frames,
        sampling=sampling,
        prompt=prompt if prompt is not None else defaults.prompt,
        num_samples=samples,
        backend=backend,
        server=server,
        dtype=dtype,
        answer_prefix="" if thinking else defaults.answer.tags[0],
        expectation=expectation,
        system=defaults.system,
        answer=defaults.answer,
        defaults=defaults,
        origins=_origins(model, defaults, preset is not None, given),
    )
    if mapping is None:
        return settings
    mapping.check(settings.as_json())
    return dataclasses.replace(settings, calibration=mapping)


def frames_from(
    defaults: FrameSpec,
    *,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> FrameSpec:
    """Return the frames asked for; what is None comes from `defaults`.

    Raises:
        ValueError: They contradict each other.
    """
    fields = dataclasses.asdict(defaults)
    if size is not None:
        fields |= {"size": tuple(size), "min_pixels": None, "max_pixels": None}
    elif min_pixels is not None or max_pixels is not None:
        fields["size"] = None
    asked_for = {"num_frames": num_frames, "min_pixels": min_pixels, "max_pixels": max_pixels}
    return FrameSpec(**fields | {name: value for name, value in asked_for.items() if value is not None})


def _origins(model: str, defaults: ModelDefaults, from_preset: bool, given: Mapping[str, Any]) -> dict[str, str]:
    """Where each setting comes from; a fixed size and a budget of pixels are one setting."""
    if from_preset:
        origin = f"preset {defaults.preset}"
    else:
        origin = "model" if (Path(model) / EXPORT_FILE).is_file() else "default"
    options = {name for name, value in given.items() if value is not None}
    found = {"system": origin, "answer": origin, "top_k": origin}
    for name, fields in (
        ("prompt", {"prompt"}),
        ("num_frames", {"num_frames"}),
        ("frame size", {"size", "min_pixels", "max_pixels"}),
        ("max_tokens", {"max_tokens"}),
        ("temperature", {"temperature", "scoring", "samples"}),
        ("top_p", {"top_p"}),
        ("samples", {"samples", "scoring"}),
    ):
        found[name] = "option" if fields & options else origin
    return found


def _of(origin: str) -> str:
    return {"option": "the options", "model": "the model", "default": "the defaults"}.get(origin, "it")


def _samples_and_temperature(
    defaults: ModelDefaults, scoring: Scoring | None, num_samples: int | None, temperature: float | None
) -> tuple[int, float]:
    if scoring is not None and scoring not in get_args(Scoring):
        raise ValueError(f"scoring: expected one of {', '.join(get_args(Scoring))}, got {scoring!r}")
    if scoring in ("greedy", "expectation"):
        if (num_samples or 1) != 1 or (temperature or 0) != 0:
            raise ValueError(
                f"scoring {scoring!r} takes the likeliest reasoning; leave out number of samples and temperature"
            )
        return 1, 0.0
    samples = num_samples if num_samples is not None else 1 if temperature == 0 else defaults.samples
    if scoring == "mean" and samples < 2:
        raise ValueError("scoring 'mean' averages drawn responses; give a number of samples above 1")
    if temperature is None:
        own = num_samples is None or num_samples == defaults.samples
        temperature = defaults.sampling.temperature if own else float(samples > 1)
    return samples, temperature
