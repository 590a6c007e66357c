import json

import pytest

from vqathinker_verl.cli.main import main


def demo(folder, *, train_clips=18, val_clips=18, warmup_steps=10):
    sizes = {"train": train_clips, "val": val_clips}
    options = [part for split, size in sizes.items() for part in (f"--{split}-clips", str(size))]
    return main(["demo", "--output-dir", str(folder), "--warmup-steps", str(warmup_steps), *options])


def test_too_small_a_demo_is_refused(tmp_path, capsys):
    assert demo(tmp_path / "demo", val_clips=3) == 2
    assert "--val-clips must be at least 10, got 3" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.e2e
def test_demo_is_made_once_repaired_if_incomplete_and_never_mixed(tmp_path, capsys):
    assert demo(tmp_path) == 0
    assert "stand-in MOS" in capsys.readouterr().out
    facts = json.loads((tmp_path / "demo.json").read_text())
    assert facts["mos_histogram"]["train"].keys() >= {"95"}
    assert 0 <= facts["measured"]["format_rate"] <= 1
    assert len((tmp_path / "labels" / "questions.jsonl").read_text().splitlines()) == 3 * 18
    weights = tmp_path / "model" / "model.safetensors"
    made = weights.stat().st_mtime_ns

    clip = min((tmp_path / "videos").glob("*.mp4"))
    content = clip.read_bytes()
    clip.unlink()
    assert demo(tmp_path) == 0
    assert clip.read_bytes() == content
    assert weights.stat().st_mtime_ns == made
    capsys.readouterr()

    assert demo(tmp_path, warmup_steps=11) == 2
    assert "holds a demo made with other settings" in capsys.readouterr().err


@pytest.mark.soak
def test_default_demo_answers_in_the_format_and_knows_nothing_about_quality(tmp_path):
    assert main(["demo", "--output-dir", str(tmp_path)]) == 0
    measured = json.loads((tmp_path / "demo.json").read_text())["measured"]
    assert measured["format_rate"] > 0.98
    assert abs(measured["srcc"]) < 0.15
    assert measured["group_std"] > 0.8
    assert measured["named_right"] > 0.75
