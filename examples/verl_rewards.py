"""The rewards in another verl project: the settings to add to its command line, checked with verl's own loader.

    pip install "vqathinker-verl[verl]"
    python examples/verl_rewards.py

verl calls the function once per response, so it gives the regression and the format reward; the recipes of this
project give all four. verl logs its extra columns together with the score.
"""

from hydra import compose, initialize_config_module
from verl.trainer.ppo.reward import get_custom_reward_fn

OVERRIDES = [
    "reward.custom_reward_function.path=pkg://vqathinker_verl.adapters.verl",
    "reward.custom_reward_function.name=compute_score",
    # Any field of vqathinker_verl.RewardConfig.
    "+reward.custom_reward_function.reward_kwargs.sigma=0.5",
    "+reward.custom_reward_function.reward_kwargs.format_weight=0.5",
]


def main() -> None:
    """Compose verl's configuration with the settings, load the function as verl does, and score two responses."""
    print("python -m verl.trainer.main_ppo \\\n    " + " \\\n    ".join(OVERRIDES) + "\n")
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=OVERRIDES)
    compute_score = get_custom_reward_fn(config)
    for response in ("<think>Sharp, a little noise.</think><answer>4.10</answer>", "4.10"):
        result = compute_score(data_source="LSVQ", solution_str=response, ground_truth=3.9, extra_info={})
        print(response)
        print("    " + ", ".join(f"{name} {value:.3f}" for name, value in result.items()))


if __name__ == "__main__":
    main()
