"""The reward managers of the verl that comes first in PYTHONPATH, made by its own configuration and loader.

    python verl_process.py CASE RESULT

CASE is a JSON file with the rows of a batch and the settings, as they are written on verl's command line; what the
managers return goes into the JSON file RESULT. Nothing of verl is replaced; only the tokenizer is a small one.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import torch
import verl
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager
from verl.workers.reward_manager.batch import BatchRewardManager


class Characters:
    """A tokenizer with one token per character."""

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(token) for token in ids.tolist())


def config(settings):
    folder = Path(verl.__file__).parent / "trainer" / "config"
    with initialize_config_dir(str(folder), version_base=None):
        return compose("ppo_trainer", overrides=settings)


def batch(rows):
    """What verl has after the rollout: responses padded on the right, and the columns of the parquet file."""
    prompts = torch.full((len(rows), 3), ord("?"))
    responses = torch.zeros(len(rows), max(len(row["response"]) for row in rows), dtype=torch.long)
    for tokens, row in zip(responses, rows, strict=True):
        tokens[: len(row["response"])] = torch.tensor([ord(character) for character in row["response"]])
    return verl.DataProto.from_dict(
        tensors={
            "prompts": prompts,
            "responses": responses,
            "attention_mask": torch.cat([torch.ones_like(prompts), (responses != 0).long()], dim=1),
        },
        non_tensors={
            "data_source": np.array([row["data_source"] for row in rows], dtype=object),
            "reward_model": np.array([{"style": "rule", "ground_truth": row["mos"]} for row in rows], dtype=object),
            "extra_info": np.array([{"video_id": row["video_id"]} for row in rows], dtype=object),
        },
    )


def batch_manager(settings):
    cfg = config(settings)
    if "reward" in cfg:  # since 0.7, and there the configuration does not make this manager
        return BatchRewardManager(Characters(), num_examine=0, compute_score=get_custom_reward_fn(cfg))
    return load_reward_manager(cfg, Characters(), num_examine=0)  # as in verl's main_ppo.py


def one_by_one(settings, rows):
    """The rewards by the manager that verl makes by default."""
    cfg = config(settings)
    if "reward" not in cfg:
        return load_reward_manager(cfg, Characters(), num_examine=0)(batch(rows)).sum(dim=1).tolist()

    async def score():
        manager = load_reward_manager(cfg, Characters())
        return [(await manager.run_single(batch([row])))["reward_score"] for row in rows]

    return asyncio.run(score())


def main(case_file, result_file):
    case = json.loads(Path(case_file).read_text())
    manager = batch_manager(case["batch_settings"])
    assert type(manager) is BatchRewardManager
    result = manager(batch(case["rows"]), return_dict=True)
    outcome = {
        "version": verl.__version__,
        "token_rewards": result["reward_tensor"].tolist(),
        "columns": result["reward_extra_info"],
        "one_by_one": one_by_one(case["single_settings"], case["rows"]),
    }
    Path(result_file).write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
