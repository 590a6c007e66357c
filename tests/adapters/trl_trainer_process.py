"""Two steps of TRL's GRPOTrainer, as torchrun starts it: one video per process.

    python -m torch.distributed.run --nproc-per-node 2 trl_trainer_process.py RESULTS

Each process writes what its reward functions were called with to a JSON file in the folder RESULTS, and the first one
also what the trainer logged of the ranking reward.
"""

import json
import sys
from pathlib import Path

from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from vqathinker_verl.adapters.trl import RankingReward, RegressionReward

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from trl_rewards import CLIPS, tiny_model

CALLS = []


def record(completions, mos, video_id, **kwargs):
    CALLS.append({"completions": completions, "mos": mos, "video_id": video_id})
    return [0.0] * len(completions)


def main(results):
    set_seed(0)
    model, tokenizer = tiny_model()
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [{"prompt": clip, "mos": mos, "video_id": clip} for clip, mos in CLIPS.items()]
        ),
        reward_funcs=[RegressionReward(), RankingReward(), record],
        args=GRPOConfig(
            output_dir=results,
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=1,
            max_steps=2,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            seed=0,
        ),
    )
    trainer.train()
    logged = [entry["rewards/ranking_reward/mean"] for entry in trainer.state.log_history if "reward" in entry]
    process = trainer.accelerator.process_index
    Path(results, f"{process}.json").write_text(json.dumps({"calls": CALLS, "ranking": logged}))


if __name__ == "__main__":
    main(sys.argv[1])
