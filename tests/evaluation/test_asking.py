import json
from pathlib import Path

import pytest
from helpers.evaluation_files import evaluate_cli, write_labels

from vqathinker_verl.evaluation import asking
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import settings as asking_settings
from vqathinker_verl.inference.engines import Answer

MOS = {f"{k}.mp4": 1 + k / 2 for k in range(8)}


class KnowingEngine:
    """Answers with the number in the file's name; cannot open 7.mp4."""

    frames = FrameSpec(2)

    def __init__(self):
        self.asked = []

    def generate(self, requests, *, samples=1):
        for request in requests:
            self.asked.append(request.video)
            number = int(request.video.stem)
            if number == 7:
                yield Answer((), f"{request.video}: no frame can be decoded")
            else:
                yield Answer((f"<think>ok</think><answer>{1 + number / 3:.2f}</answer>",) * samples)


@pytest.fixture
def engine(monkeypatch):
    engine = KnowingEngine()
    monkeypatch.setattr(asking_settings, "open_engine", lambda model, **settings: engine)
    monkeypatch.setattr(asking, "check_videos", lambda videos: None)  # they are names only
    monkeypatch.setattr(asking_settings, "usable_model", lambda model: model)
    return engine


def test_every_labelled_video_is_asked_about_once(tmp_path, engine, capsys):
    labels = write_labels(tmp_path / "labels.csv", MOS)
    arguments = ["--model", tmp_path / "model", "--labels", labels, "--dataset", "mine", "--scale", 1, 5]
    arguments += ["--video-root", tmp_path / "videos", "--output-dir", tmp_path / "out", "--bootstrap-samples", 10]
    assert evaluate_cli(*arguments) == 1
    assert engine.asked == [tmp_path / "videos" / name for name in MOS]
    assert "1 of 8 videos failed: mine/7.mp4" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"][0]
    assert found["name"] == "model"
    assert found["benchmarks"][0]["metrics"]["srcc"]["value"] == 1.0
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 8

    # Again: what was answered stands, what failed is tried once more.
    engine.asked.clear()
    assert evaluate_cli(*arguments) == 1
    assert engine.asked == [Path(tmp_path, "videos", "7.mp4")]

    assert evaluate_cli(*arguments, "--prompt", "How good?") == 2
    assert "made with prompt = " in capsys.readouterr().err


def test_without_an_output_nothing_is_kept(tmp_path, engine):
    labels = write_labels(tmp_path / "labels.csv", dict(list(MOS.items())[:6]))
    arguments = ["--model", "m", "--labels", labels, "--dataset", "mine", "--scale", 1, 5, "--bootstrap-samples", 10]
    assert evaluate_cli(*arguments, "--video-root", tmp_path) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]
