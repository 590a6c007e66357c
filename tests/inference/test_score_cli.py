"""`vqathinker score` from its arguments to its file and exit code, on the tiny model through transformers."""

import json

import pytest

from vqathinker_verl.cli import main
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import options
from vqathinker_verl.inference.scoring import read_predictions

SMALL = ["--backend", "transformers", "--num-frames", "2", "--max-pixels", "3136", "--max-tokens", "4"]


@pytest.fixture
def score(tiny_model, capfd):
    def call(*args):
        code = main(["score", *map(str, args), "--model", str(tiny_model), *SMALL])
        return code, *capfd.readouterr()

    return call


def test_a_folder_is_scored_and_gone_on_with(score, clips, tmp_path):
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
    code, out, _ = score(clips[0], clips[1], "--samples", "2")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["video_id"] for line in lines] == ["clip_0.mp4", "clip_1.mp4"]
    assert all(len(line["responses"]) == 2 for line in lines)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--samples", "2", "--temperature", "0"], "2 samples at temperature 0"),
        (["--samples", "0"], "samples: expected at least 1"),
        (["--max-tokens", "0"], "max_tokens: expected at least 1"),
        (["--size", "56", "56", "--min-pixels", "1"], "either size or a budget"),
        (["--server", "http://127.0.0.1:9", "--backend", "auto"], "no OpenAI-compatible server"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(args, named, clips, tiny_model, capsys):
    assert main(["score", str(clips[0]), "--model", str(tiny_model), *SMALL, *args]) == 2
    assert named in capsys.readouterr().err


def parsed(model, *args):
    import argparse

    parser = argparse.ArgumentParser()
    options.add_engine_options(parser)
    return parser.parse_args(["--model", str(model), *args])


def test_an_exported_model_brings_its_frames_and_options_change_them(tmp_path):
    facts = {"frames": {"num_frames": 6, "size": None, "min_pixels": None, "max_pixels": 7056, "factor": 28}}
    (tmp_path / options.EXPORT_FILE).write_text(json.dumps(facts))
    assert options.frames_from(parsed(tmp_path)) == FrameSpec(6, max_pixels=7056)
    assert options.frames_from(parsed(tmp_path, "--num-frames", "8")) == FrameSpec(8, max_pixels=7056)
    assert options.frames_from(parsed(tmp_path, "--size", "56", "84")) == FrameSpec(6, size=(56, 84))
    assert options.frames_from(parsed("org/name")) == options.EVALUATION_FRAMES
    (tmp_path / options.EXPORT_FILE).write_text("{}")
    with pytest.raises(ValueError, match="export again"):
        options.frames_from(parsed(tmp_path))


def test_samples_are_drawn_at_temperature_1_unless_told(tmp_path):
    drawn = options.engine_settings(parsed(tmp_path), samples=3)["sampling"].temperature
    told = options.engine_settings(parsed(tmp_path, "--temperature", "0.5"), samples=3)["sampling"].temperature
    greedy = options.engine_settings(parsed(tmp_path))["sampling"].temperature
    assert (drawn, told, greedy) == (1.0, 0.5, 0.0)
    assert options.engine_settings(parsed(tmp_path, "--no-thinking"))["answer_prefix"] == "<answer>"
