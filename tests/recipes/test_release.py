"""release.yaml against the released code: every value, as read there.

The sources are files of github.com/clh124/VQAThinker at commit ee47a40, below train/ and test/:
  script   train/run_scripts/run_grpo_vqa_internvl.sh
  grpo     train/src/open-r1-multimodal/src/open_r1/grpo_jsonl.py
  config   train/src/open-r1-multimodal/src/open_r1/trainer/grpo_config.py
  trainer  train/src/open-r1-multimodal/src/open_r1/trainer/grpo_trainer.py
  model    train/src/open-r1-multimodal/src/open_r1/vlm_modules/internvl_module.py
  infer    test/batch_infer.py
  hf       a default of transformers.TrainingArguments, which none of these changes
"""

from dataclasses import fields

import pytest
from omegaconf import OmegaConf

from vqathinker_verl import RewardConfig
from vqathinker_verl.plan.recipe import RECIPES, compose_recipe, flattened, recipe_overrides
from vqathinker_verl.plan.steps import count_steps
from vqathinker_verl.plugin.config import TemporalConfig, frame_spec, validation_response_length
from vqathinker_verl.prompts import QUALITY_PROMPT

RELEASE = {
    # script: --model_name_or_path, InternVL3-8B; here in the Hugging Face format.
    "actor_rollout_ref.model.path": "OpenGVLab/InternVL3-8B-hf",
    # grpo: rank_reward and regression_reward.
    "vqathinker.reward.sigma": 0.5,
    "vqathinker.reward.decimal_penalty": 0.8,
    "vqathinker.reward.min_decimals": 2,
    "vqathinker.reward.eps": 1e-6,
    "vqathinker.reward.fallback": "text",  # the text itself where no answer block matches
    "vqathinker.reward.decimals": "value",  # counted after rstrip("0")
    "vqathinker.reward.numbers": "first",  # re.search of a number, whatever stands beside it
    "vqathinker.reward.prompt_opens_think": False,  # format_reward: re.fullmatch with <think>
    "vqathinker.reward.score_range": None,
    "vqathinker.reward.cross_dataset": True,  # data sets are not told apart
    # trainer: the rewards are computed, and the bonuses added, before the processes gather: 8 responses, G = 4.
    "vqathinker.reward.ranking_chunk_size": 2,
    "vqathinker.reward.temporal_scope": "batch",
    "vqathinker.reward.temporal_margin": 0.0,  # trainer: >=
    "vqathinker.reward.perturbed_ranked_against": "perturbed",
    "vqathinker.reward.temporal_bonus": 0.3,
    "vqathinker.reward.ranking_threshold": 0.5,
    "vqathinker.reward.regression_threshold": 0.9,
    # config: reward_weights is None, so each counts once; script: --reward_funcs rank reg format.
    "vqathinker.reward.regression_weight": 1.0,
    "vqathinker.reward.ranking_weight": 1.0,
    "vqathinker.reward.format_weight": 1.0,
    # grpo: temporal is true by default. The published script switches it off; the paper trains with it.
    "vqathinker.temporal.enable": True,
    "vqathinker.temporal.num_perturbed": 4,  # trainer: one shuffled response for each response
    "vqathinker.temporal.per_response": True,  # model: prepare_model_inputs draws for each copy
    # model: random.choice over the six kinds; apply_temporal_perturbation.
    "vqathinker.temporal.perturbations.weights": dict.fromkeys(
        ("shuffle", "local_shuffle", "reverse", "jitter", "duplicate", "random_drop"), 1.0
    ),
    "vqathinker.temporal.perturbations.window": 4,
    "vqathinker.temporal.perturbations.max_duplicates": 3,
    "vqathinker.temporal.perturbations.max_drops": 3,
    "vqathinker.temporal.perturbations.duplicate_place": "random",
    "vqathinker.temporal.perturbations.drop_fill": "mean",  # zeros, after build_transform has normalised
    "vqathinker.temporal.perturbations.redraw_identity": False,
    # script: --num_generations 4, --max_completion_length 2048, --num_train_epochs 3, --save_steps 100; 8 processes.
    "actor_rollout_ref.rollout.n": 4,
    "data.max_response_length": 2048,
    "trainer.total_epochs": 3,
    "trainer.save_freq": 100,
    "trainer.n_gpus_per_node": 8,
    "trainer.nnodes": 1,
    # trainer: GenerationConfig(do_sample=True, temperature=1); top_k and top_p are transformers' defaults.
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_k": 50,
    "actor_rollout_ref.rollout.top_p": 1,
    # config: learning_rate 1e-6. hf: weight_decay 0, no warm-up, Adam's betas, gradients clipped at 1.
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.optim.weight_decay": 0.0,
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": 0.0,
    "actor_rollout_ref.actor.optim.betas": [0.9, 0.999],
    "actor_rollout_ref.actor.optim.clip_grad": 1.0,
    # hf: lr_scheduler_type "linear", to 0. verl's FSDP engine has "constant" and "cosine" alone.
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "cosine",
    "actor_rollout_ref.actor.optim.num_cycles": 0.5,
    "actor_rollout_ref.actor.optim.min_lr_ratio": 0.0,
    # script: --beta 0.04. trainer: exp(r) - r - 1 in the loss, r the log of reference over policy.
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.04,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "algorithm.use_kl_in_reward": False,
    # trainer: mean over a response's tokens, then over responses; advantages over the group's standard deviation.
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-mean",
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.clip_ratio": 0.2,  # config: epsilon
    "actor_rollout_ref.actor.ppo_epochs": 1,  # config: num_iterations
    "algorithm.adv_estimator": "grpo",
    "algorithm.norm_adv_by_std_in_grpo": True,
    # grpo: freeze_vision_modules is false.
    "actor_rollout_ref.actor.freeze_vision_tower": False,
    # infer: max_new_tokens=1024, do_sample=False.
    "vqathinker.validation_response_length": 1024,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": False,
    "actor_rollout_ref.rollout.val_kwargs.n": 1,
}


@pytest.fixture(scope="module")
def config():
    return compose_recipe(recipe_overrides(RECIPES / "run_release.sh"))


@pytest.mark.parametrize("name", RELEASE)
def test_the_value_is_the_releases(config, name):
    value = OmegaConf.select(config, name, throw_on_missing=True)
    assert (OmegaConf.to_container(value) if OmegaConf.is_config(value) else value) == RELEASE[name]


def test_no_reward_setting_is_left_out():
    names = {name.removeprefix("vqathinker.reward.") for name in RELEASE if name.startswith("vqathinker.reward.")}
    assert names == {entry.name for entry in fields(RewardConfig)}


def test_the_rewards_are_the_release_mode_in_pairs(config):
    reward = RewardConfig.from_mapping(OmegaConf.to_container(config.vqathinker.reward, resolve=True))
    released = RewardConfig.release()
    assert {entry.name for entry in fields(reward) if getattr(reward, entry.name) != getattr(released, entry.name)} == {
        "ranking_chunk_size"
    }


def test_an_update_is_of_as_many_responses(config):
    """Script: --nproc_per_node 8, --per_device_train_batch_size 8, --gradient_accumulation_steps 2."""
    steps = count_steps(config)
    assert steps.responses == 8 * 8 * 2
    assert steps.perturbed == steps.responses
    assert steps.updates == 1
    # A GPU's 8 responses are of as many videos as are ranked against each other.
    assert steps.ranked == 8 // config.actor_rollout_ref.rollout.n
    assert TemporalConfig.from_config(config).perturbed_per_group(config.actor_rollout_ref.rollout.n) == 4


def test_frames_are_squashed_to_a_square(config):
    """Model: 6 of 448 x 448; infer: 12, of 560 x 560, which the Hugging Face processor would resize to 448 again."""
    train, val = (frame_spec(split, 14, config.data) for split in ("train", "val"))
    assert (train.num_frames, val.num_frames) == (6, 12)
    for spec in (train, val):
        assert spec.target_size(1080, 1920) == spec.target_size(1920, 1080) == (448, 448)


def test_responses_of_validation_may_be_half_as_long(config):
    assert validation_response_length(config) == 1024


def test_the_question_is_the_releases():
    """The question of the labels (its README), then get_question_template of model."""
    assert QUALITY_PROMPT == (
        "You are doing the video quality assessment task. Here is the question: What is your overall rating on the "
        "quality of this video? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 "
        "representing very poor quality and 5 representing excellent quality. First output the thinking process in "
        "<think> </think> tags and then output the final answer in <answer> </answer> tags."
    )


def test_everything_else_is_as_in_the_recipe_of_its_model(config):
    """release.yaml changes nothing that is not held to the release above."""
    plain = compose_recipe(recipe_overrides(RECIPES / "run_internvl3_8b.sh"))
    ours, theirs = (dict(flattened(OmegaConf.to_container(tree, resolve=True))) for tree in (config, plain))
    changed = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    # verl's own copies of fields that are listed, and names of the run.
    names = ("experiment_name", "default_local_dir")
    rest = {name for name in changed if not name.startswith("critic.") and not name.endswith(names)}
    assert rest <= RELEASE.keys()
    assert "actor_rollout_ref.actor.loss_agg_mode" in rest


def test_verl_still_has_no_linear_schedule_and_a_fixed_epsilon():
    """Once either changes, release.yaml should follow the release there too."""
    import inspect

    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
    from verl.trainer.ppo.ray_trainer import compute_advantage
    from verl.workers.config import FSDPOptimizerConfig

    with pytest.raises(AssertionError):
        FSDPOptimizerConfig(lr=1e-6, lr_scheduler_type="linear")
    assert inspect.signature(compute_grpo_outcome_advantage).parameters["epsilon"].default == 1e-6
    assert "epsilon" not in inspect.getsource(compute_advantage)
