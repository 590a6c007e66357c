"""What a user gets wrong, and the one line that says so before anything starts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers.training_inputs import row, write_inputs

from vqathinker_verl.config.compose import InputError, hydra_text
from vqathinker_verl.plugin.config import extra_rewards
from vqathinker_verl.runner.preflight import check


@pytest.fixture
def inputs(tmp_path):
    """A model folder, a video and label files that are fine; tests break one of them."""
    write_inputs(tmp_path)
    return tmp_path


def run(config_dir, folder, *overrides):
    paths = [
        f"data.train_files={folder}/train.parquet",
        f"data.val_files={folder}/val.parquet",
        f"actor_rollout_ref.model.path={folder}/model",
    ]
    sizes = ["platform=cpu", "experiment=demo", "trainer.n_gpus_per_node=1"]
    return check(config_dir, "vqathinker", [*sizes, *paths, *overrides])


def refused(config_dir, folder, *overrides):
    with pytest.raises(InputError) as caught:
        run(config_dir, folder, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_good_input_passes(recipe_config_dir, inputs):
    assert run(recipe_config_dir, inputs).data.train_batch_size == 16


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("vqathinker.reward.sigmaa=1", "sigmaa"),
        ("vqathinker.reward.sigma=-1", "sigma"),
        ("vqathinker.reward.fallback=guess", "fallback"),
        ("vqathinker.temporal.num_perturbed=99", "num_perturbed"),
        ("vqathinker.temporal.per_response=2", "per_response: expected true or false, got 2"),
        ("vqathinker.temporal.perturbations.drop_fill=white", "drop_fill: expected one of 'black', 'mean'"),
        ("vqathinker.reward.temporal_margin=-1", "temporal_margin: expected a finite number of at least 0, got -1"),
        ("vqathinker.validation_response_length=0", "validation_response_length: expected a whole number from 1 to"),
        ("vqathinker.validation_response_length=33", "(32), or null, got 33"),
        (
            "vqathinker.temporal.perturbations.weights.shuffle=-1",
            "vqathinker.temporal.perturbations: weights.shuffle: ",
        ),
        ("trainer.no_such_field=1", "no_such_field"),
        ("platform=tpu", "tpu"),
        ("++data.frames.val.size=[84,84]", "data.frames.val: give either size or a budget"),
        ("data.frames.train.num_frames=0", "data.frames.train: "),
        ("++data.frames.train.fps=2", "fps"),
        ("not an override", "not an override"),
        ("data.train_batch_size=64", "train_batch_size"),
        ("actor_rollout_ref.model.use_remove_padding=true", "attn_implementation=sdpa"),
        ("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=24", "actor.ppo_micro_batch_size_per_gpu=24"),
        ("actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=24", "ref.log_prob_micro_batch_size_per_gpu=24"),
        ("trainer.n_gpus_per_node=8", "each of 8 workers"),
        ("algorithm.filter_groups.enable=true", "algorithm.filter_groups.enable"),
        (
            "trainer.total_training_steps=abc",
            "trainer.total_training_steps (--steps, TOTAL_STEPS): expected a positive",
        ),
        ("trainer.nnodes=0", "trainer.nnodes (--nodes, NNODES): expected a positive integer, got 0"),
        (
            "data.train_batch_size=8",
            "ppo_mini_batch_size=16 is above data.train_batch_size=8; --videos-per-step 8 sets",
        ),
        ("data.train_batch_siz=8", "did you mean data.train_batch_size?"),
        ("experiment=dem", "did you mean demo? (known: "),
        ("--total-steps", "override '--total-steps': expected FIELD=VALUE"),
    ],
)
def test_a_wrong_override_is_named(recipe_config_dir, inputs, override, named):
    assert named in refused(recipe_config_dir, inputs, override)


EXTRA = "+vqathinker.extra_rewards.brevity"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py"


def test_an_extra_reward_is_loaded_before_the_start(recipe_config_dir, inputs):
    setting = f"{EXTRA}={{path: {EXAMPLE}, name: brevity, weight: 0.2, kwargs: {{limit: 50}}}}"
    reward = extra_rewards(run(recipe_config_dir, inputs, setting))["brevity"]
    assert (reward.function.__name__, reward.weight, reward.kwargs) == ("brevity", 0.2, {"limit": 50})


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (f"{EXTRA}={{path: /no/such.py, name: brevity}}", "/no/such.py: no such Python file"),
        (f"{EXTRA}={{path: pkg://no_such_project.rewards, name: brevity}}", "No module named 'no_such_project'"),
        (f"{EXTRA}={{path: {EXAMPLE}, name: brevitty}}", "has no 'brevitty'"),
        (f"{EXTRA}={{path: {EXAMPLE}, name: brevity, weight: high}}", "weight: expected a finite number, got 'high'"),
        (f"{EXTRA}={{path: {EXAMPLE}, name: brevity, kwargs: {{limits: 5}}}}", "takes (batch, limit)"),
        (f"+vqathinker.extra_rewards.ranking={{path: {EXAMPLE}, name: listwise}}", "'ranking': this name is taken"),
        (f"{EXTRA}=pkg://my_project.rewards", "expected a mapping with path, name, weight, kwargs"),
    ],
)
def test_a_wrong_extra_reward_is_named(recipe_config_dir, inputs, setting, named):
    message = refused(recipe_config_dir, inputs, setting)
    assert message.startswith("vqathinker.extra_rewards: extra")
    assert named in message


def test_a_model_that_does_not_exist(recipe_config_dir, inputs):
    message = refused(recipe_config_dir, inputs, "actor_rollout_ref.model.path=/no/such/model")
    assert "/no/such/model" in message
    assert "MODEL_PATH" in message


def test_a_model_folder_without_a_model(recipe_config_dir, inputs):
    (inputs / "model" / "config.json").unlink()
    assert "config.json" in refused(recipe_config_dir, inputs)


def test_a_label_file_that_does_not_exist(recipe_config_dir, inputs):
    (inputs / "val.parquet").unlink()
    assert "val.parquet" in refused(recipe_config_dir, inputs)


def test_a_label_file_that_is_empty_or_something_else(recipe_config_dir, inputs):
    (inputs / "train.parquet").write_bytes(b"")
    assert "train.parquet" in refused(recipe_config_dir, inputs)
    (inputs / "train.parquet").write_text("video,mos\n")
    assert "not a readable parquet" in refused(recipe_config_dir, inputs)


def test_a_label_file_under_another_name(recipe_config_dir, inputs):
    """verl chooses the reader by the suffix: parquet inside a .csv ends the run after its start."""
    (inputs / "train.parquet").rename(inputs / "out.csv")
    assert "does not end in .parquet" in refused(recipe_config_dir, inputs, f"data.train_files={inputs}/out.csv")


def test_overrides_that_are_text_reach_hydra_as_they_are(recipe_config_dir, inputs):
    path = "/odd (1), 'name' = [2]"
    config = run(recipe_config_dir, inputs, f"trainer.default_local_dir={hydra_text(path)}")
    assert config.trainer.default_local_dir == path


def test_a_label_without_its_video_names_row_and_file(recipe_config_dir, inputs):
    rows = [row(inputs / "video.mp4", number) for number in range(16)]
    rows[3] = row(inputs / "gone.mp4", 3)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), inputs / "train.parquet")
    message = refused(recipe_config_dir, inputs)
    assert "row 3" in message
    assert "gone.mp4" in message


@pytest.mark.parametrize("mos", [0.5, 5.5, float("nan"), 72.0])
def test_a_mos_outside_the_scale(recipe_config_dir, inputs, mos):
    rows = [row(inputs / "video.mp4", number) for number in range(16)]
    rows[1]["reward_model"]["ground_truth"] = mos
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), inputs / "train.parquet")
    assert "row 1: MOS" in refused(recipe_config_dir, inputs)


def test_many_faults_are_counted_not_listed_without_end(recipe_config_dir, inputs):
    rows = [row(inputs / f"gone{number}.mp4", number) for number in range(40)]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), inputs / "train.parquet")
    assert "(and 35 more)" in refused(recipe_config_dir, inputs)
