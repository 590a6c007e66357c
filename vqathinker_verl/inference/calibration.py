"""A calibration file: what `vqathinker calibrate` writes, and `score`, `evaluate` and `VideoScorer` apply.

    {"kind": "logistic", "parameters": {"lower": 1.2, "upper": 4.8, "centre": 3.1, "scale": 0.6}, "num_videos": 50, …}

A map belongs to one model that is asked in one way. So the file keeps the settings of the predictions where they are
known (`predictions.jsonl.settings.json`), and scores of another model, prompt, frames or sampling are refused.
"""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqathinker_verl.inference.model_identity import same_model
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.metrics.calibration import Kind, MonotoneMap

LOGISTIC = ("lower", "upper", "centre", "scale")
ISOTONIC = ("scores", "mos")
# Settings that change what a model says; where it runs and the seed of its draws change no level.
DECISIVE = ("prompt", "answer_prefix", "frames", "sampling", "samples", "scoring", "system", "answer")


@dataclass(frozen=True)
class Calibration:
    """A map from a model's scores to MOS, and what it was made of.

    Attributes:
        name: The file, for messages.
        map: The map.
        num_videos: How many labelled videos it was fitted to.
        made_with: The settings of the predictions that it was fitted to; None: not known.
    """

    name: str
    map: MonotoneMap
    num_videos: int
    made_with: Mapping[str, Any] | None = None

    def apply(self, prediction: Prediction) -> Prediction:
        """Return a prediction with its score and spread calibrated, and the score before that kept."""
        raw = prediction.pred_mos
        return dataclasses.replace(
            prediction,
            pred_mos=math.nan if math.isnan(raw) else float(self.map([raw])[0]),
            pred_mos_std=self.map.spread(raw, prediction.pred_mos_std),
            pred_mos_raw=raw,
        )

    def check(self, settings: Mapping[str, Any]) -> None:
        """Compare the settings of scores that are to be calibrated with those that the map was made with.

        A warning says so where one of the two is not known.

        Raises:
            ValueError: They are of another model, or it is asked in another way.
        """
        if self.made_with is None:
            _warn(f"{self.name}: the file does not say of which model it is; make sure that it is this one")
            return
        before, now = self.made_with.get("model"), settings["model"]
        if not same_model(before, now):
            text = f"{self.name}: made for another model ({_name(before)}), asked for {_name(now)}"
            if _has_weights(before) and _has_weights(now):
                raise ValueError(f"{text}; make a calibration of this model with `vqathinker calibrate`")
            _warn(f"{text}; their weights cannot be compared")
        was, wanted = (_decisive(one) for one in (self.made_with, settings))
        for key in sorted({*was, *wanted}):
            if was.get(key) != wanted.get(key):
                raise ValueError(
                    f"{self.name}: made with {key} = {was.get(key)!r}, asked for {wanted.get(key)!r}; score as the "
                    "calibration was made, or make another with `vqathinker calibrate`"
                )

    @property
    def digest(self) -> str:
        """What tells one map from another."""
        return hashlib.sha256(json.dumps([self.map.kind, *self.map.parameters]).encode()).hexdigest()[:32]

    @property
    def description(self) -> str:
        """The map in a few words."""
        return f"{self.map.kind}, {self.num_videos} labelled videos"


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        ValueError: It cannot be read, or is not of that form.
    """
    remedy = "expected a file that `vqathinker calibrate` wrote"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise TypeError(f"expected a JSON object, got {type(facts).__name__}")
        made_with = facts.get("made_with")
        if not isinstance(made_with, dict | None):
            raise TypeError(f"made_with: expected an object or null, got {made_with!r}")
        return Calibration(
            str(path), _map_from(facts["kind"], facts["parameters"]), int(facts["num_videos"]), made_with
        )
    except KeyError as error:
        raise ValueError(f"{path}: no {error.args[0]} in the file; {remedy}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; {remedy}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}; {remedy}") from None


def parameters_as_json(fitted: MonotoneMap) -> dict[str, Any]:
    """Return the parameters of a map by name."""
    if fitted.kind == "logistic":
        return dict(zip(LOGISTIC, fitted.parameters, strict=True))
    half = len(fitted.parameters) // 2
    return {"scores": list(fitted.parameters[:half]), "mos": list(fitted.parameters[half:])}


def _map_from(kind: Kind, parameters: Mapping[str, Any]) -> MonotoneMap:
    if kind == "logistic":
        return MonotoneMap(kind, tuple(float(parameters[name]) for name in LOGISTIC))
    scores, mos = (parameters[name] for name in ISOTONIC) if kind == "isotonic" else ((), ())
    if len(scores) != len(mos):
        raise ValueError(f"parameters: expected as many mos as scores, got {len(mos)} and {len(scores)}")
    return MonotoneMap(kind, tuple(float(value) for value in (*scores, *mos)))


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal, one entry per setting."""
    found: dict[str, Any] = {}
    for key in DECISIVE:
        value = json.loads(json.dumps(settings.get(key)))
        if isinstance(value, dict):
            found |= {f"{key}.{name}": part for name, part in value.items() if name != "seed"}
        else:
            found[key] = value
    return found


def _name(model: Any) -> str:
    return str(model.get("name") if isinstance(model, dict) else model)


def _has_weights(model: Any) -> bool:
    return isinstance(model, dict) and bool(model.get("weights"))


def _warn(text: str) -> None:
    sys.stderr.write(f"vqathinker: warning: {text}\n")
