"""From videos to predictions: the score and the reasoning of each, and a file of them that a second call goes on with.

A predictions file is JSONL, one line a video, as its answer comes in:

    {"video_id": "a.mp4", "video": "clips/a.mp4", "pred_mos": 3.42, "response": "<think>…", "frames": 12, "error": null}

`pred_mos` is null where the response gives no score, `response` is null where `error` says why there is none. With K
samples `responses` and `samples` hold all texts and scores (null: none), `pred_mos` is the mean of the scores,
`pred_mos_std` their standard deviation (null below two), and `response` the first text.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker_verl.frames import VideoError, probe
from vqathinker_verl.frames.suffixes import VIDEO_SUFFIXES
from vqathinker_verl.inference.engines import Answer, Engine, Request
from vqathinker_verl.parsing import parse_answer

Prediction = dict[str, Any]


class ScoringError(ValueError):
    """Videos or an output file that cannot be used; the message says what to do."""


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
                    f"{earlier} and {video} would both be called {video_id}; pass --video-root with a folder above both"
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
    """Ask for the quality of each video; yields a prediction (see above) a video, in order, as they become ready.

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
    answers = engine.generate([Request(video, prompt) for video in videos.values()], samples=samples)
    for (video_id, video), answer in zip(videos.items(), answers, strict=True):
        yield prediction(video_id, video, answer, num_frames=engine.frames.num_frames, samples=samples)


def prediction(video_id: str, video: Path, answer: Answer, *, num_frames: int, samples: int) -> Prediction:
    """One line of a predictions file."""
    scores = [parse_answer(response).score for response in answer.responses]
    known = [score for score in scores if not math.isnan(score)]
    line: Prediction = {
        "video_id": video_id,
        "video": os.fspath(video),
        "pred_mos": float(np.mean(known)) if known else None,
        "response": answer.responses[0] if answer.responses else None,
        "frames": num_frames,
        "error": answer.error,
    }
    if samples > 1:
        line["samples"] = [None if math.isnan(score) else score for score in scores]
        line["responses"] = list(answer.responses)
        line["pred_mos_std"] = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return line


def reasoning_of(response: str) -> str:
    """What a response says before its answer; the whole response where it does not separate the two.

    >>> reasoning_of("<think>Sharp, some noise.</think><answer>3.50</answer>")
    'Sharp, some noise.'
    """
    thoughts, closed, _ = response.partition("</think>")
    return thoughts.removeprefix("<think>").strip() if closed else response


class PredictionsFile:
    """A predictions file that is added to line by line, and beside it the settings that its lines were made with.

    Opening one that exists checks the settings and keeps its lines, but those with an error, which are to be tried
    again, and a last line that a kill cut off.

    Args:
        path: The JSONL file. The settings lie in PATH.settings.json.
        settings: All that decides what a response says: model, prompt, frames, sampling.
        key: The field that tells one line from another; other files of answers than predictions have their own.

    Raises:
        ScoringError: The file was made with other settings, or is no predictions file.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], key: str = "video_id") -> None:
        self.path = path
        self.done: dict[str, Prediction] = {}
        settings_path = path.with_name(path.name + ".settings.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._check_settings(settings_path, settings)
            self.done = {line[key]: line for line in read_predictions(path, key) if line["error"] is None}
            _replace(path, "".join(_as_line(line) for line in self.done.values()))
        else:
            _replace(settings_path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")

    def _check_settings(self, settings_path: Path, settings: Mapping[str, Any]) -> None:
        remedy = "choose another --output, or delete that file to begin anew"
        if not settings_path.exists():
            raise ScoringError(f"{self.path}: exists, and nothing says how it was made; {remedy}")
        made_with = json.loads(settings_path.read_text(encoding="utf-8"))
        asked_for = json.loads(json.dumps(settings))
        for name in sorted({*made_with, *asked_for}):
            before, now = made_with.get(name), asked_for.get(name)
            if name == "model" and same_model(before, now):
                continue
            if before != now:
                raise ScoringError(f"{self.path}: {_difference(name, before, now)}; {remedy}")

    def add(self, lines: Iterable[Prediction]) -> Iterator[Prediction]:
        """Write each line as it comes, to the disk, and pass it on."""
        with self.path.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(_as_line(line))
                file.flush()
                yield line


def read_predictions(path: Path, key: str = "video_id") -> list[Prediction]:
    """Lines of a predictions file; a last one without its end is left out.

    Raises:
        ScoringError: A line is not a prediction; the message names it.
    """
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            line = json.loads(text)
            lines.append(line)
            line[key], line["error"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ScoringError(
                f"{path}, line {number}: no answer of an earlier start ({error}); expected a JSON object with {key}, "
                "response and error, as this command writes it"
            ) from None
    return lines


def model_identity(model: str) -> dict[str, Any]:
    """What tells one model from another: a digest of each weight file of a folder, and its name for messages.

    A digest covers the size and 256 blocks spread over the file, which takes no time; training changes all of it.
    """
    folder = Path(model)
    if not folder.is_dir():
        return {"name": model}
    weights = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin"))
    return {"name": os.fspath(folder.resolve()), "weights": {file.name: _digest(file) for file in weights}}


def same_model(before: Any, now: Any) -> bool:
    """Whether two identities are of the same model, wherever it lies."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return False
    return bool(before == now or (before.get("weights") and before["weights"] == now.get("weights")))


def _digest(path: Path, blocks: int = 256, block_bytes: int = 65536) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(blocks):
            file.seek(max(0, size - block_bytes) * number // max(1, blocks - 1))
            digest.update(file.read(block_bytes))
            if size <= block_bytes:
                break
    return digest.hexdigest()[:32]


def _difference(name: str, before: Any, now: Any) -> str:
    """Which setting differs, and how, in a few words."""
    if name == "model":
        return f"made with another model ({before.get('name') if isinstance(before, dict) else before})"
    if isinstance(before, dict) and isinstance(now, dict):
        name, before, now = next(
            (f"{name}.{key}", before.get(key), now.get(key))
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        )
    return f"made with {name} = {before!r}, asked for {now!r}"


def _as_line(line: Prediction) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
