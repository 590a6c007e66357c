"""A file of answers that is added to line by line, so that a command that was stopped resumes where it stopped."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vqathinker_verl.files import json_line, write_json, write_jsonl
from vqathinker_verl.inference.model_identity import same_model

Row = dict[str, Any]

# Kept to be read, not compared: equal settings are equal wherever they come from.
ONLY_TOLD = ("origins",)


class ScoringError(ValueError):
    """Videos or an output file that cannot be used; the message says what to do."""


class AnswersFile:
    """A file of answers that is added to line by line, and beside it the settings that its lines were made with.

    Opening one that exists checks the settings and keeps its lines, but those with an error, which are to be tried
    again, and a last line that a kill cut off.

    Args:
        path: The JSONL file. The settings lie in PATH.settings.json.
        settings: All that decides what a response says: model, prompt, frames, sampling.
        key: The field that tells one line from another.

    Raises:
        ScoringError: The file was made with other settings, or is no file of answers.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], key: str = "video_id") -> None:
        self.path = path
        self.done: dict[str, Row] = {}
        settings_path = path.with_name(path.name + ".settings.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._check_settings(settings_path, settings)
            self.done = {line[key]: line for line in read_answers(path, key) if line["error"] is None}
            write_jsonl(path, self.done.values())
        else:
            write_json(settings_path, settings)

    def _check_settings(self, settings_path: Path, settings: Mapping[str, Any]) -> None:
        remedy = "choose another output, or delete that file to begin anew"
        if not settings_path.exists():
            raise ScoringError(f"{self.path}: exists, and nothing says how it was made; {remedy}")
        made_with = json.loads(settings_path.read_text(encoding="utf-8"))
        asked_for = json.loads(json.dumps(settings))
        for name in sorted({*made_with, *asked_for}):
            before, now = made_with.get(name), asked_for.get(name)
            if name in ONLY_TOLD:
                continue
            if name == "model" and same_model(before, now):
                continue
            if before != now:
                raise ScoringError(f"{self.path}: {_difference(name, before, now)}; {remedy}")

    def add(self, lines: Iterable[Row]) -> Iterator[Row]:
        """Write each line as it comes, to the disk, and pass it on."""
        with self.path.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(json_line(line))
                file.flush()
                yield line


def read_answers(path: Path, key: str = "video_id") -> list[Row]:
    """Lines of a file of answers; a last one without its end is left out.

    Raises:
        ScoringError: A line is not an answer; the message names it.
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
