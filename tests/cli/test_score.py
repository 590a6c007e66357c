"""`vqathinker score` from its arguments to its file and exit code, on the tiny model through transformers."""

import json
from types import SimpleNamespace

import pytest

from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import engines, model_source, options, settings
from vqathinker_verl.inference.answers_file import read_answers as read_predictions
from vqathinker_verl.inference.engines import EVALUATION_FRAMES, Sampling
from vqathinker_verl.inference.engines.contract import EXPORT_FILE

SMALL = ["--backend", "transformers", "--num-frames", "2", "--max-pixels", "3136", "--max-tokens", "4"]


@pytest.fixture
def score(tiny_model, capfd):
    def call(*args):
        code = main(["score", *map(str, args), "--model", str(tiny_model), *SMALL])
        return code, *capfd.readouterr()

    return call


def test_a_folder_is_scored_and_a_second_call_resumes(score, clips, tmp_path):
    folder, output = tmp_path / "videos", tmp_path / "out" / "p.jsonl"
    folder.mkdir()
    for clip in clips[:2]:
        (folder / clip.name).write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_bytes(b"junk")
    code, out, err = score(folder, "--output", output)
    assert (code, out) == (1, "")
    assert "skipped" in err
    assert "broken.mp4: cannot be decoded" in err
    assert "2 of 3 videos answered" in err
    lines = {line["video_id"]: line for line in read_predictions(output)}
    assert {name: line["error"] is None for name, line in lines.items()} == {
        "broken.mp4": False,
        "clip_0.mp4": True,
        "clip_1.mp4": True,
    }

    (folder / "broken.mp4").write_bytes(clips[2].read_bytes())
    code, _, err = score(folder, "--output", output)
    assert code == 0
    assert "2 of 3 videos are in" in err
    again = {line["video_id"]: line for line in read_predictions(output)}
    assert again["broken.mp4"]["error"] is None
    assert again["clip_0.mp4"] == lines["clip_0.mp4"]
    assert score(folder, "--output", output)[0] == 0  # nothing left to do

    before = output.read_bytes()
    code, _, err = score(folder, "--output", output, "--prompt", "Another question?")
    assert code == 2
    assert "made with prompt = " in err
    assert output.read_bytes() == before


def test_without_an_output_the_lines_are_printed(score, clips):
    code, out, _ = score(clips[0], clips[1], "--num-samples", "2")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["video_id"] for line in lines] == ["clip_0.mp4", "clip_1.mp4"]
    assert all(len(line["responses"]) == 2 for line in lines)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--num-samples", "2", "--temperature", "0"], "2 samples at temperature 0"),
        (["--num-samples", "0"], "samples: expected at least 1"),
        (["--max-tokens", "0"], "max_tokens: expected at least 1"),
        (["--size", "56", "56", "--min-pixels", "1"], "either size or a budget"),
        (["--server", "http://127.0.0.1:9", "--backend", "auto"], "no OpenAI-compatible server"),
    ],
)
def test_an_impossible_call_is_reported_with_exit_code_2(args, named, clips, tiny_model, capsys):
    assert main(["score", str(clips[0]), "--model", str(tiny_model), *SMALL, *args]) == 2
    assert named in capsys.readouterr().err


def parsed(model, *args):
    import argparse

    parser = argparse.ArgumentParser()
    options.add_engine_options(parser)
    options.add_question_options(parser)
    return parser.parse_args(["--model", str(model), *args])


FACTS = {
    "frames": {"num_frames": 6, "size": None, "min_pixels": None, "max_pixels": 7056, "factor": 28, "later": 1},
    "prompt": "How good is it?",
    "sampling": {"max_tokens": 32, "temperature": 1.0, "top_p": 0.9, "samples": 8},
    "added later": True,
}


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A folder with what export writes of a run's validation; its weights are not looked at."""
    monkeypatch.setattr(settings, "usable_model", lambda model: model)
    (tmp_path / EXPORT_FILE).write_text(json.dumps(FACTS))
    return tmp_path


def test_an_exported_model_brings_its_frames_and_options_change_them(exported):
    def frames(*args):
        return options.asking_from(parsed(exported, *args)).frames

    assert frames() == FrameSpec(6, max_pixels=7056)
    assert frames("--num-frames", "8") == FrameSpec(8, max_pixels=7056)
    assert frames("--size", "56", "84") == FrameSpec(6, size=(56, 84))
    assert options.asking_from(parsed("org/name")).frames == EVALUATION_FRAMES
    (exported / EXPORT_FILE).write_text('{"frames": {}}')
    with pytest.raises(ValueError, match="export again"):
        frames()


def test_an_exported_model_brings_its_question_and_sampling(exported):
    own = options.asking_from(parsed(exported))
    assert (own.prompt, own.num_samples) == ("How good is it?", 8)
    assert own.sampling == Sampling(32, 1.0, 0.9)
    other = options.asking_from(parsed(exported, "--prompt", "Why?", "--max-tokens", "9", "--num-samples", "1"))
    assert (other.prompt, other.num_samples, other.sampling) == ("Why?", 1, Sampling(9, 0.0, 0.9))
    assert options.asking_from(parsed(exported, "--temperature", "0")).num_samples == 1
    assert options.likeliest_from(parsed(exported), "Q").sampling.temperature == 0  # other questions than for a score


def test_python_asks_as_the_command_does(exported, monkeypatch):
    """Frames, question and sampling: the same model and video get the same score from both."""
    opened = []
    monkeypatch.setattr("vqathinker_verl.inference.model_source.usable_model", lambda model: model)
    monkeypatch.setattr(engines, "_opened", lambda *args: opened.append(args) or SimpleNamespace())
    engine = engines.open_engine(str(exported))
    by_command = options.asking_from(parsed(exported))
    assert (engine.defaults.frames, engine.defaults.sampling) == (
        by_command.frames,
        by_command.sampling,
    )
    assert (engine.defaults.prompt, engine.defaults.samples) == (by_command.prompt, by_command.num_samples)
    # Sampling that is given says how many answers there are, too.
    assert engines.open_engine(str(exported), sampling=Sampling(8)).defaults.samples == 1


def test_samples_are_drawn_at_temperature_1_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "usable_model", lambda model: model)

    def temperature(*args):
        return options.asking_from(parsed(tmp_path, *args)).sampling.temperature

    assert temperature("--num-samples", "3") == 1.0
    assert temperature("--num-samples", "3", "--temperature", "0.5") == 0.5
    assert temperature() == 0.0
    assert options.likeliest_from(parsed(tmp_path, "--no-thinking"), "Q").answer_prefix == "<answer>"


def test_a_training_run_is_exported_once(tmp_path, monkeypatch, capsys):
    exports = []

    def export(run, target):
        exports.append(run)
        target.mkdir()

    actor = tmp_path / "run" / "checkpoints" / "global_step_5" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    (actor / "huggingface" / "config.json").touch()
    (actor / "model_world_size_1_rank_0.pt").touch()
    monkeypatch.setattr(model_source, "export_checkpoint", export)
    for _ in range(2):
        assert model_source.usable_model(str(tmp_path / "run")) == str(actor.parent / "huggingface_model")
    assert exports == [tmp_path / "run"]
    assert "is a training run; exporting its last checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "content"), [("nothere.mp4", None), ("fake.mp4", b"junk"), ("ratings.csv", b"a,b")])
def test_a_path_without_a_video_is_refused_before_a_model_is_looked_for(tmp_path, capsys, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["score", str(tmp_path / name), "--model", "/no/such/model"]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert said.count("\n") == 1


def test_the_terminal_gets_a_table(score, clips, monkeypatch):
    code, out, err = score(*clips, "--format", "table")
    assert code == 0
    rows = [line for line in out.splitlines() if "clip_" in line]
    assert [name for row in rows for name in row.split() if name.startswith("clip_")] == [clip.name for clip in clips]
    assert "warning: 3 of 3 responses hold no valid score" in out
    assert "3 of the answers have no score" in err
