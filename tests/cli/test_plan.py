import argparse
import json
import re

import pytest

from vqathinker_verl.cli import plan as cli
from vqathinker_verl.config.compose import InputError
from vqathinker_verl.plan.recipe import find_recipe, flattened, recipe_overrides


def plan(*arguments):
    """Run the command as the shell would."""
    parser = argparse.ArgumentParser()
    cli.configure(parser)
    return cli.run(parser.parse_args(arguments))


def test_the_page_says_all_that_it_should(capsys):
    assert plan("qwen2_5_vl_7b", "actor_rollout_ref.rollout.n=8", "vqathinker.temporal.num_perturbed=2") == 0
    out = capsys.readouterr().out
    for line in (
        "actor_rollout_ref.rollout.n: 8",
        "trainer.v1.trainer_mode: vqathinker_sync",
        "8,292,166,656 parameters, all trained",
        "train: 6 frames of 588x336 = 756 tokens",
        "28,056 rows (LSVQ's training split, as an example) / 32 videos a step = 876 steps per epoch; 2,628 steps in",
        "rollouts per step: 256 responses (32 videos x 8)",
        "the temporal pair adds 64 responses (+25%), at most 187,968 tokens",  # 64 x (889 + 2048)
        "logits",
        "vLLM: KV cache",
        "reference model 31",
    ):
        assert line in out
    assert "clip_ratio_c" not in out, "a field that is as in verl's own config is not listed"


def test_a_plan_that_does_not_fit_is_reported_and_fails(capsys):
    assert plan("qwen2_5_vl_7b", "--gpu-memory", "30", "--full") == 1
    captured = capsys.readouterr()
    assert "generation takes about" in captured.err
    assert "clip_ratio_c" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_recipe"], r"no_such_recipe: no such script.*run_qwen2_5_vl_7b"),
        (["vqathinker", "actor_rollout_ref.model.path=no/model"], "no/model: no config.json there"),
        (["qwen2_5_vl_7b", "vqathinker.reward.sigmaa=1"], "sigmaa"),
    ],
)
def test_bad_input_is_named(capsys, arguments, message):
    assert plan(*arguments) == 2
    assert re.search(message, capsys.readouterr().err, flags=re.DOTALL)


def test_a_video_size_is_two_numbers():
    assert cli.video_size("640x360") == (640, 360)
    with pytest.raises(argparse.ArgumentTypeError, match="WIDTHxHEIGHT"):
        cli.video_size("640")


def test_a_recipe_is_found_by_name_and_by_path():
    path = find_recipe("qwen3_vl_8b")
    assert path.name == "run_qwen3_vl_8b.sh"
    assert find_recipe(str(path)) == find_recipe("run_qwen3_vl_8b.sh") == path


def test_a_recipe_takes_its_variables_from_the_environment(monkeypatch):
    monkeypatch.setenv("MODEL_PATH", "here")
    monkeypatch.setenv("NNODES", "3")
    overrides = recipe_overrides(find_recipe("qwen2_5_vl_7b"), ["a=b c"])
    assert "actor_rollout_ref.model.path=here" in overrides
    assert "trainer.nnodes=3" in overrides
    assert overrides[-1] == "a=b c"


def test_a_script_that_fails_says_why(tmp_path):
    script = tmp_path / "broken.sh"
    script.write_text("echo 'no such thing' >&2; exit 3\n")
    with pytest.raises(InputError, match=r"broken\.sh: no such thing"):
        recipe_overrides(script)


def test_flattened_names_every_leaf():
    tree = json.loads('{"a": {"b": 1, "c": {}}, "d": [1, 2]}')
    assert dict(flattened(tree)) == {"a.b": 1, "a.c": {}, "d": [1, 2]}
