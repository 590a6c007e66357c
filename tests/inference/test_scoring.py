"""Predictions and their file, with an engine that answers from a table."""

import json
from pathlib import Path

import pytest

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import scoring
from vqathinker_verl.inference.answers_file import AnswersFile as PredictionsFile
from vqathinker_verl.inference.answers_file import ScoringError
from vqathinker_verl.inference.answers_file import read_answers as read_predictions
from vqathinker_verl.inference.engines import Answer, ModelDefaults
from vqathinker_verl.inference.model_identity import model_identity, same_model
from vqathinker_verl.inference.scoring import find_videos, left_out
from vqathinker_verl.prompts import QUALITY_PROMPT


def score_videos(*args, **options):
    """The lines that are kept of the predictions."""
    return (one.as_json() for one in scoring.score_videos(*args, **options))


VIDEOS = {"a.mp4": Path("in/a.mp4"), "b.mp4": Path("in/b.mp4"), "c.mp4": Path("in/c.mp4")}


class TableEngine:
    """Answers by the video's name, and remembers what it was asked."""

    frames = FrameSpec(num_frames=4, max_pixels=3136)
    defaults = ModelDefaults()

    def __init__(self, responses):
        self.responses, self.asked = responses, []

    def generate(self, requests, *, samples=1):
        for request in requests:
            self.asked.append(request)
            texts = self.responses.get(request.video.name)
            yield Answer((), f"{request.video}: broken") if texts is None else Answer(tuple(texts))


def test_a_line_holds_score_reasoning_and_where_they_are_from():
    engine = TableEngine({"a.mp4": ["<think>Sharp.</think><answer>3.50</answer>"]})
    (line,) = score_videos({"a.mp4": VIDEOS["a.mp4"]}, engine)
    assert line == {
        "video_id": "a.mp4",
        "video": "in/a.mp4",
        "pred_mos": 3.5,
        "response": "<think>Sharp.</think><answer>3.50</answer>",
        "frames": 4,
        "error": None,
    }
    assert [request.prompt for request in engine.asked] == [QUALITY_PROMPT]


def test_a_response_without_a_score_gets_none_and_a_broken_video_its_reason():
    lines = list(score_videos(VIDEOS, TableEngine({"a.mp4": ["no idea"], "c.mp4": ["<answer>9.00</answer>"]})))
    assert [line["pred_mos"] for line in lines] == [None, None, None]
    assert [line["response"] for line in lines] == ["no idea", None, "<answer>9.00</answer>"]
    assert [line["error"] for line in lines] == [None, "in/b.mp4: broken", None]


def test_samples_give_mean_and_unbiased_spread_of_the_scores_there_are():
    texts = ["<answer>2.00</answer>", "babble", "<answer>3.00</answer>", "<answer>4.00</answer>"]
    engine = TableEngine({"a.mp4": texts, "b.mp4": ["babble", "<answer>2.50</answer>"], "c.mp4": ["babble"] * 2})
    several, one, none = score_videos(VIDEOS, engine, samples=4)
    assert several["samples"] == [2.0, None, 3.0, 4.0]
    assert several["responses"] == texts
    assert several["pred_mos"] == 3.0
    assert several["pred_mos_std"] == pytest.approx(1.0)  # of 2, 3, 4, divided by n - 1
    assert (one["pred_mos"], one["pred_mos_std"]) == (2.5, None)
    assert (none["pred_mos"], none["pred_mos_std"]) == (None, None)


def test_line_breaks_in_a_response_do_not_break_the_file(tmp_path):
    text = "one\ntwo\u2028three\x85four\r\n<answer>3.00</answer>"
    path = tmp_path / "predictions.jsonl"
    list(PredictionsFile(path, SETTINGS).add(score_videos(VIDEOS, TableEngine({name: [text] for name in VIDEOS}))))
    assert [line["response"] for line in read_predictions(path)] == [text] * 3


SETTINGS = {"model": "m", "prompt": "p", "frames": {"num_frames": 4, "size": (56, 56)}}
RIGHT = ["<answer>3.00</answer>"]


def test_a_second_call_resumes_and_tries_the_broken_ones_again(tmp_path):
    path = tmp_path / "out" / "predictions.jsonl"
    first = TableEngine({"a.mp4": RIGHT})
    written = PredictionsFile(path, SETTINGS).add(
        score_videos({name: VIDEOS[name] for name in ("a.mp4", "b.mp4")}, first)
    )
    assert len(list(written)) == 2
    with path.open("a") as file:
        file.write('{"video_id": "c.mp4", "pred')  # killed while it wrote

    again = PredictionsFile(path, SETTINGS)
    assert list(again.done) == ["a.mp4"]
    second = TableEngine({name: RIGHT for name in VIDEOS})
    missing = {name: video for name, video in VIDEOS.items() if name not in again.done}
    list(again.add(score_videos(missing, second)))
    assert [request.video.name for request in second.asked] == ["b.mp4", "c.mp4"]
    assert [line["video_id"] for line in read_predictions(path)] == ["a.mp4", "b.mp4", "c.mp4"]
    assert all(line["error"] is None for line in read_predictions(path))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model": "other"}, r"made with another model \(m\)"),
        ({"prompt": "q"}, "prompt"),
        ({"frames": {"num_frames": 5, "size": (56, 56)}}, r"made with frames\.num_frames = 4, asked for 5"),
        ({"more": 1}, "more = None, asked for 1"),
    ],
)
def test_other_settings_are_refused_by_name_and_nothing_is_lost(tmp_path, changed, named):
    path = tmp_path / "predictions.jsonl"
    list(PredictionsFile(path, SETTINGS).add(score_videos(VIDEOS, TableEngine({}))))
    before = path.read_bytes()
    with pytest.raises(ScoringError, match=named):
        PredictionsFile(path, {**SETTINGS, **changed})
    assert path.read_bytes() == before


def test_a_file_of_unknown_settings_is_refused(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text("")
    with pytest.raises(ScoringError, match="exists, but its settings file does not"):
        PredictionsFile(path, SETTINGS)


@pytest.mark.parametrize("text", ["[]\n", "nonsense\n", '{"video_id": "a"}\n'])
def test_a_line_that_is_no_prediction_is_named(tmp_path, text):
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"video_id": "a", "error": null}\n' + text)
    with pytest.raises(ScoringError, match="line 2: no answer of an earlier start"):
        read_predictions(path)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "deep/a.MKV", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_videos_of_a_folder_are_named_relative_to_it(folder):
    assert find_videos([folder]) == {"b.mp4": folder / "b.mp4", "deep/a.MKV": folder / "deep" / "a.MKV"}
    assert find_videos([folder / "deep" / "a.MKV", folder / "missing.mp4"]).keys() == {"a.MKV", "missing.mp4"}
    assert find_videos([folder / "deep"], root=folder).keys() == {"deep/a.MKV"}
    assert len(find_videos([folder, folder])) == 2  # the same video twice is one


def test_every_suffix_that_the_decoder_takes_and_a_list_of_the_others(folder):
    for name in ("a.mpg", "b.Y4M", "c.webp", "d.3gp", "e.yuv", ".hidden"):
        (folder / name).touch()
    assert list(find_videos([folder])) == ["a.mpg", "b.Y4M", "b.mp4", "c.webp", "d.3gp", "deep/a.MKV"]
    assert left_out([folder, folder / "a.mpg"]) == [str(folder / "e.yuv"), str(folder / "notes.txt")]


def test_folders_that_cannot_be_named_are_refused(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(ScoringError, match="no video in this folder"):
        find_videos([other])
    (other / "b.mp4").touch()
    with pytest.raises(ScoringError, match=r"would both be called b\.mp4"):
        find_videos([folder, other])
    with pytest.raises(ScoringError, match="not under --video-root"):
        find_videos([other], root=folder)


def test_a_model_that_was_trained_on_is_another_model(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    before = model_identity(str(tmp_path))
    assert before == model_identity(str(tmp_path))
    assert json.loads(json.dumps(before)) == before
    weights.write_bytes(b"other")
    assert not same_model(model_identity(str(tmp_path)), before)
    assert model_identity("org/name") == {"name": "org/name"}


def test_a_model_that_was_moved_or_copied_is_the_same(tmp_path):
    identities = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
        identities.append(model_identity(str(tmp_path / name)))
    assert same_model(*identities)
    output = tmp_path / "p.jsonl"
    PredictionsFile(output, SETTINGS | {"model": identities[0]})
    output.touch()
    PredictionsFile(output, SETTINGS | {"model": identities[1]})
    with (tmp_path / "two" / "model.safetensors").open("r+b") as file:
        file.seek(500_000)
        file.write(b"trained")
    identities[1] = model_identity(str(tmp_path / "two"))
    with pytest.raises(ScoringError, match="made with another model"):
        PredictionsFile(output, SETTINGS | {"model": identities[1]})
