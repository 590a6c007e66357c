"""The recipe's config: composed by Hydra as verl composes it, and accepted by verl's own validation."""

import copy
import itertools
import shutil
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vqathinker_verl.config.compose import InputError, composed
from vqathinker_verl.perturbations import PerturbationConfig
from vqathinker_verl.plan.recipe import RECIPES, compose_recipe, flattened, recipe_overrides
from vqathinker_verl.plugin.config import TemporalConfig, extra_rewards
from vqathinker_verl.rewards.config import RewardConfig

PATHS = ["data.train_files=train.parquet", "data.val_files=val.parquet", "actor_rollout_ref.model.path=model"]
COMBINATIONS = list(itertools.product(("cpu", "gpu"), ("demo", "full")))
SCRIPTS = sorted(script for script in RECIPES.glob("run_*.sh") if script.name != "run_vqathinker.sh")


@pytest.fixture(scope="module")
def combinations(recipe_config_dir):
    return {
        (platform, experiment): composed(
            recipe_config_dir, "vqathinker", [f"platform={platform}", f"experiment={experiment}", *PATHS]
        )
        for platform, experiment in COMBINATIONS
    }


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def config(request, combinations):
    return combinations[request.param]


@pytest.fixture(
    scope="module", params=[*COMBINATIONS, *SCRIPTS], ids=lambda it: getattr(it, "stem", None) or "-".join(it)
)
def started(request, combinations):
    """What verl is started with: by the main recipe in each of its forms, and by every other."""
    if request.param in SCRIPTS:
        return compose_recipe(recipe_overrides(request.param, PATHS[:2]))
    return combinations[request.param]


def test_verl_accepts_it(started):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    assert need_reference_policy(started)
    assert not need_critic(started)
    validate_config(started, use_reference_policy=True, use_critic=False)


def test_verl_makes_its_dataclasses_of_it(started):
    from verl.utils.config import omega_conf_to_dataclass

    rollout = omega_conf_to_dataclass(started.actor_rollout_ref.rollout)
    assert rollout.agent.default_agent_loop == "vqathinker"
    assert omega_conf_to_dataclass(started.actor_rollout_ref.actor).strategy == "fsdp2"
    omega_conf_to_dataclass(started.algorithm)


def test_every_path_in_it_leads_somewhere(started):
    from verl.trainer.ppo.v1 import get_trainer_cls
    from verl.utils.import_utils import load_class_from_fqn, load_extern_object

    assert load_extern_object(started.data.custom_cls.path, started.data.custom_cls.name)
    assert load_class_from_fqn(started.actor_rollout_ref.rollout.agent.agent_loop_manager_class, "AgentLoopManager")
    assert get_trainer_cls(started.trainer.v1.trainer_mode)
    assert load_class_from_fqn(started.trainer.checkpoint_callback_class, "CheckpointCallback")
    import_module("vqathinker_verl.plugin.agent_loop")
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry

    assert started.actor_rollout_ref.rollout.agent.default_agent_loop in _agent_loop_registry


def test_no_other_path_is_in_it(started):
    """Every pkg:// path is one that the test above resolves, and every class that verl is told to make exists."""
    from verl.utils.import_utils import load_class_from_fqn

    leaves = dict(flattened(OmegaConf.to_container(started, resolve=True)))
    assert {name for name, value in leaves.items() if str(value).startswith("pkg://")} == {"data.custom_cls.path"}
    for target in {value for name, value in leaves.items() if name.endswith("_target_")}:
        assert load_class_from_fqn(target, target)


def test_verls_separate_async_trainer_takes_its_recipe(monkeypatch):
    """Its constructor checks batch sizes, the rollouts' GPUs and the weights' way, before it builds anything."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
    from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync

    class CheckedError(Exception):
        pass

    def after_the_checks(*_):
        raise CheckedError

    monkeypatch.setattr(PPOTrainer, "__init__", after_the_checks)
    overrides = recipe_overrides(RECIPES / "run_separate_async.sh", PATHS[:2])
    with pytest.raises(CheckedError):
        PPOTrainerSeparateAsync(compose_recipe(overrides))
    with pytest.raises(AssertionError, match="train_batch_size must equal"):
        PPOTrainerSeparateAsync(compose_recipe([*overrides, "data.train_batch_size=32"]))


def test_prompts_of_training_and_validation_fit(config):
    """Video tokens of the largest frames, plus the question, within max_prompt_length."""
    from vqathinker_verl.plugin.dataset import frame_spec

    for split in ("train", "val"):
        spec = frame_spec(split, 14, config.data)
        height, width = spec.target_size(1080, 1920)
        video_tokens = (spec.num_frames // 2) * (height // 28) * (width // 28)
        assert video_tokens + 160 <= config.data.max_prompt_length


def test_the_yaml_states_every_field_with_its_default(config):
    reward = OmegaConf.to_container(config.vqathinker.reward)
    assert reward == {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(RewardConfig()).items()}
    assert OmegaConf.to_container(config.vqathinker.temporal.perturbations) == asdict(PerturbationConfig())
    assert RewardConfig.from_mapping(OmegaConf.to_container(config.vqathinker.reward)) == RewardConfig()


class TestTemporal:
    def changed(self, combinations, *overrides):
        config = copy.deepcopy(combinations["cpu", "demo"])
        config.merge_with_dotlist(list(overrides))
        return config

    @pytest.mark.parametrize(("group_size", "expected"), [(1, 1), (4, 2), (5, 3), (8, 4)])
    def test_half_of_the_group_rounded_up_by_default(self, combinations, group_size, expected):
        config = self.changed(combinations, f"actor_rollout_ref.rollout.n={group_size}")
        assert TemporalConfig.from_config(config).perturbed_per_group(group_size) == expected

    def test_a_number_of_ones_own_or_none_at_all(self, combinations):
        config = self.changed(combinations, "vqathinker.temporal.num_perturbed=1")
        assert TemporalConfig.from_config(config).perturbed_per_group(8) == 1
        config = self.changed(combinations, "vqathinker.temporal.enable=false")
        assert TemporalConfig.from_config(config).perturbed_per_group(8) == 0

    @pytest.mark.parametrize("wrong", ["0", "9"])
    def test_more_than_the_group_or_none_is_refused(self, combinations, wrong):
        config = self.changed(combinations, f"vqathinker.temporal.num_perturbed={wrong}")
        with pytest.raises(ValueError, match="num_perturbed"):
            TemporalConfig.from_config(config)

    def test_the_weights_of_the_perturbations_are_config(self, combinations):
        config = self.changed(combinations, "vqathinker.temporal.perturbations.weights.shuffle=0")
        assert TemporalConfig.from_config(config).perturbations.weights["shuffle"] == 0


def test_a_field_that_does_not_exist_is_named(recipe_config_dir):
    with pytest.raises(InputError, match="sigmaa"):
        composed(recipe_config_dir, "vqathinker", [*PATHS, "vqathinker.reward.sigmaa=1"])


def test_extra_rewards_from_an_experiment_file(recipe_config_dir, tmp_path):
    """As docs/custom_rewards.md shows it; without one there is none."""
    folder = shutil.copytree(recipe_config_dir, tmp_path / "config")
    example = Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py"
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults: [full]\n"
        "vqathinker:\n"
        "  extra_rewards:\n"
        f"    brevity: {{path: {example}, name: brevity, weight: 0.2, kwargs: {{limit: 200}}}}\n"
        f"    listwise: {{path: {example}, name: listwise}}\n"
    )
    rewards = extra_rewards(composed(folder, "vqathinker", [*PATHS, "experiment=mine"]))
    assert [(name, reward.weight, reward.kwargs) for name, reward in rewards.items()] == [
        ("brevity", 0.2, {"limit": 200}),
        ("listwise", 1.0, {}),
    ]
    assert extra_rewards(composed(folder, "vqathinker", PATHS)) == {}
