"""Presets: what they hold, how they reach the model, and how their answers become scores from 1 to 5."""

import json
import math
from types import SimpleNamespace

import pytest
from helpers.asking import told

from vqathinker_verl import VideoScorer
from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import export, settings
from vqathinker_verl.inference.engines import Sampling, read_defaults
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, PLAIN_ANSWER, AnswerForm, ModelDefaults
from vqathinker_verl.inference.engines.prompting import Prompting
from vqathinker_verl.inference.engines.server_engine import ServerEngine
from vqathinker_verl.inference.preset import preset_names, read_preset, read_text_of
from vqathinker_verl.inference.settings import asking_settings

__all__ = ["told"]

NAMES = ["q-insight", "visualquality-r1", "vq-insight", "vqathinker"]


def thought(answer):
    return f"<think>It is a bit blurry, 2 of 5.</think>\n<answer>{answer}</answer>"


def test_the_presets_of_this_package():
    assert preset_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_names_its_sources_and_what_differs(name):
    found = read_preset(name)
    assert found.preset == name
    assert found.prompt
    assert found.notes
    facts = json.loads(read_text_of(name))
    assert all(source.startswith("https://github.com/") for source in facts["source"])
    assert "arXiv" in facts["description"]
    assert f"between {found.answer.range[0]:g} and {found.answer.range[1]:g}" in found.prompt


@pytest.mark.parametrize(
    ("name", "answer", "score"),
    [
        ("visualquality-r1", "3.52", 3.52),
        ("visualquality-r1", "no idea", math.nan),
        ("q-insight", '{"rating": 3.52}', 3.52),
        ("q-insight", '```json\n{\n  "rating" : 2.00\n}\n```', 2.0),
        ("q-insight", '{"reason": "4 faults", "rating": 1.25}', 1.25),
        ("q-insight", "3.52", math.nan),  # the authors look for the key, too
        ("q-insight", '{"rating": 35}', math.nan),
        ("vq-insight", "67.5", 3.7),
        ("vq-insight", "0", 1.0),
        ("vq-insight", "100", 5.0),
        ("vq-insight", "67.5/100", 3.7),
        ("vq-insight", "101", math.nan),
        ("vqathinker", "4.20", 4.2),
    ],
)
def test_an_answer_in_the_authors_form_is_a_score_from_1_to_5(name, answer, score):
    assert read_preset(name).answer.score(thought(answer)) == pytest.approx(score, nan_ok=True, abs=1e-12)


def test_other_tags():
    form = AnswerForm((0, 10), ("<score>", "</score>"))
    assert form.score("<answer>9</answer><score>5</score>") == 3.0
    assert math.isnan(form.score(thought("5")))
    assert AnswerForm().score(thought("3.25")) == 3.25


def test_system_and_question_reach_the_model_in_this_order(tiny_model):
    found = read_preset("q-insight")
    text = Prompting(str(tiny_model), found.frames, system=found.system).text(found.prompt)
    assert text.index(f"system\n{found.system}") < text.index("<|video_pad|>") < text.index(found.prompt)
    plain = Prompting(str(tiny_model), found.frames).text(found.prompt)
    assert text.endswith(plain)
    assert "system" not in plain.partition(found.prompt)[0]


def test_a_server_gets_system_and_top_k(clips, monkeypatch):
    from vqathinker_verl.frames import decode

    engine = ServerEngine.__new__(ServerEngine)  # without a server
    engine.model, engine.answer_prefix, engine.system = "m", "", "Be strict."
    engine.sampling = Sampling(16, 1.0, 0.95, top_k=50)
    engine.times = SimpleNamespace(of=lambda video: None, vllm=lambda shown: {})
    asked = engine.arguments("Q", decode(clips[0], FrameSpec(1, max_pixels=3136)), 1)
    assert asked["messages"][0] == {"role": "system", "content": "Be strict."}
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["extra_body"]["top_k"] == 50


def test_the_transformers_engine_draws_by_the_presets_rules(tiny_model, clips):
    options = {"engine": "transformers", "max_tokens": 4, "max_pixels": 3136}
    with VideoScorer(tiny_model, preset="q-insight", **options) as scorer:
        config = scorer._engine._generation_config(1)
        assert (config.top_k, config.top_p, config.temperature, config.do_sample) == (50, 0.95, 1.0, True)
        assert (config.max_new_tokens, scorer._engine.frames.num_frames) == (4, 1)
        assert scorer._engine.prompting.system == read_preset("q-insight").system
        first = scorer.score(clips[0])
        assert first.error is None
        assert first.response == scorer.score(clips[0]).response
        with pytest.raises(ValueError, match="pass num_samples above 1"):
            scorer.compare(clips[0], clips[1])


def test_options_win_over_the_preset_and_the_settings_say_what_came_from_where(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "usable_model", lambda model: model)
    found = asking_settings("m", preset="vq-insight", num_frames=8, prompt="Why?")
    own = read_preset("vq-insight")
    assert (found.prompt, found.frames) == ("Why?", FrameSpec(8, min_pixels=100352, max_pixels=105369))
    assert (found.system, found.sampling, found.answer) == (own.system, own.sampling, own.answer)
    origins = found.as_json()["origins"]
    assert {name for name, origin in origins.items() if origin == "option"} == {"prompt", "num_frames"}
    assert origins["system"] == origins["frame size"] == "preset vq-insight"
    assert found.notes[0].endswith("prompt, num_frames from the options")
    assert found.notes[-1] == "scores are mapped from [0, 100] to [1, 5]"
    plain = asking_settings("m", temperature=0.5)
    assert set(plain.origins.values()) == {"default", "option"}
    assert plain.notes == []
    with pytest.raises(ValueError, match="the answer has another form"):
        asking_settings("m", preset="q-insight", scoring="expectation")
    assert asking_settings("m", preset="vqathinker", scoring="expectation").expectation


def test_the_command_maps_the_scores_and_says_so(told, clips, tmp_path, capfd):
    engine = told(lambda name, prompt: thought({"clip_0.mp4": "67.5", "clip_1.mp4": "10"}.get(name, "none")))
    output = tmp_path / "p.jsonl"
    call = ["score", *map(str, clips), "--model", "m", "--preset", "vq-insight", "--output", str(output)]
    assert main([*call, "--html", str(tmp_path / "p.html")]) == 0
    said = capfd.readouterr().err
    assert "scores are mapped from [0, 100] to [1, 5]" in said
    assert "differs from vq-insight as published: the authors show two frames per second" in said
    assert [line["pred_mos"] for line in map(json.loads, output.read_text().splitlines())] == [3.7, 1.4, None]
    assert engine.asked[0] == ("clip_0.mp4", read_preset("vq-insight").prompt)
    kept = json.loads((tmp_path / "p.jsonl.settings.json").read_text())
    assert kept["answer"] == {"range": [0, 100], "tags": ["<answer>", "</answer>"], "key": None}
    assert kept["system"] == read_preset("vq-insight").system
    assert kept["origins"]["prompt"] == "preset vq-insight"
    assert "scores are mapped from [0, 100] to [1, 5]" in (tmp_path / "p.html").read_text()
    # The same settings by an option are the same settings; another preset is another question.
    assert main([*call, "--num-frames", "16"]) == 0
    assert "3 of 3 videos are in" in capfd.readouterr().err
    assert main([*call[:-4], "--preset", "vqathinker", "--output", str(output)]) == 2
    assert "made with" in capfd.readouterr().err


def test_an_exported_model_carries_its_preset(tmp_path, monkeypatch, capfd):
    actor = tmp_path / "run" / "checkpoints" / "global_step_5" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    (actor / "huggingface" / "config.json").write_text("{}")
    (actor / "model_world_size_1_rank_0.pt").touch()
    monkeypatch.setattr(export, "_merge", lambda actor, target, dtype: (target / "config.json").touch())
    monkeypatch.setattr(settings, "usable_model", lambda model: model)
    folder = tmp_path / "model"
    call = ["export", str(tmp_path / "run"), "--output-dir", str(folder)]
    monkeypatch.setattr("vqathinker_verl.cli.export.find_spec", lambda name: True)
    assert main([*call, "--preset", "q-insight"]) == 0
    assert read_defaults(str(folder)) == read_preset("q-insight")
    assert json.loads((folder / EXPORT_FILE).read_text())["true_times"] is True
    found = asking_settings(str(folder))
    assert (found.prompt, found.answer.key) == (read_preset("q-insight").prompt, "rating")
    assert set(found.origins.values()) == {"model"}
    assert found.notes[0].startswith("preset q-insight: system, answer")
    assert asking_settings(str(folder), preset="vqathinker").answer == PLAIN_ANSWER
    assert main([*call, "--preset", "q-insight"]) == 0  # done already
    assert main(call) == 2  # a folder with a preset is not one without
    assert main([*call, "--preset", "q-insigth"]) == 2
    assert "did you mean q-insight?" in capfd.readouterr().err


OWN = {
    "prompt": "Rate it from 0 to 10.",
    "answer": {"range": [0, 10]},
    "frames": {"num_frames": 4, "max_pixels": 7056},
    "sampling": {"max_tokens": 64, "temperature": 0.7, "samples": 3},
}


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(OWN))
    assert read_preset(str(path)) == ModelDefaults(
        FrameSpec(4, max_pixels=7056),
        Sampling(64, 0.7),
        "Rate it from 0 to 10.",
        3,
        answer=AnswerForm((0, 10)),
        preset="mine",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "prompt: input should be a valid string, got None"),
        ({"prompt": ""}, "prompt: string should have at least 1 character"),
        ({"promt": "x"}, "unknown field 'promt'; the fields are prompt, frames, answer"),
        ({"frames": {}}, "frames: num_frames: missing; it has no default"),
        ({"frames": {"num_frames": "4"}}, "frames: num_frames: input should be a valid integer, got '4'"),
        ({"frames": {"num_frames": 0}}, "num_frames: expected at least 1, got 0"),
        ({"frames": {"num_frame": 4}}, "frames: unknown field 'num_frame'; the fields are num_frames, size"),
        ({"frames": 4}, "frames: "),
        ({"answer": {"range": [10, 0]}}, "answer.range: expected the lowest and the highest score, got [10.0, 0.0]"),
        ({"answer": {"range": ["0", "10"]}}, "answer: range: 0: input should be a valid number, got '0'"),
        ({"answer": {"range": [0, 5, 10]}}, "answer: range: "),
        ({"answer": {"tags": ["<a>", "<a>"]}}, "answer.tags: expected two different texts"),
        ({"answer": {"key": 3}}, "answer: key: input should be a valid string, got 3"),
        ({"sampling": {"temperature": True}}, "sampling: temperature: input should be a valid number, got True"),
        ({"sampling": {"samples": 4}}, "4 samples at temperature 0"),
        ({"sampling": {"top_k": -1}}, "top_k: expected 0 or more, got -1"),
        ({"system": 3}, "system: input should be a valid string, got 3"),
    ],
)
def test_a_faulty_file_names_the_field(tmp_path, clips, capsys, change, said):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(OWN | change))
    assert main(["score", str(clips[0]), "--model", "m", "--preset", str(path)]) == 2
    err = capsys.readouterr().err
    assert str(path) in err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("content", "said"), [("junk", "cannot be read as JSON"), ("[]", "mine.json: ")])
def test_a_file_that_is_no_preset(tmp_path, content, said):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        read_preset(str(path))
    with pytest.raises(ValueError, match="no such file, and none of q-insight, visualquality-r1"):
        read_preset(str(tmp_path / "gone.json"))
