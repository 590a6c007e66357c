"""The rewards inside TRL's GRPOTrainer.

    pip install "vqathinker-verl" "trl" datasets
    python examples/trl_rewards.py

So that it runs anywhere in seconds, without a download or a GPU, the model is a tiny random one, and each word of its
vocabulary is a complete response: GRPO has to find, for each of four clips, the response whose score fits. With a real
model, hand over its name and your own data set; the lines that concern the rewards stay as they are.
"""

import tempfile

from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from vqathinker_verl.adapters.trl import FormatReward, RankingReward, RegressionReward

CLIPS = {"blurred.mp4": 1.5, "noisy.mp4": 2.5, "fair.mp4": 3.5, "sharp.mp4": 4.5}
RESPONSES = [f"<think>Looked.</think><answer>{tenths / 10:.2f}</answer>" for tenths in range(10, 51, 5)]
RESPONSES += ["3.00", "<answer>2</answer>", "<think>I cannot tell."]


def tiny_model() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a random model of one layer, and a tokenizer whose words are the clips and the responses."""
    words = ["<pad>", "<eos>", *CLIPS, *RESPONSES]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return (
        LlamaForCausalLM(config),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"),
    )


def main() -> None:
    """Train for 40 steps and print the mean rewards."""
    set_seed(0)
    model, tokenizer = tiny_model()

    # The rewards need `mos` and `video_id` in addition to the prompt; the ranking reward groups by `video_id`.
    dataset = Dataset.from_list([{"prompt": clip, "mos": mos, "video_id": clip} for clip, mos in CLIPS.items()])
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=dataset,
            reward_funcs=[RegressionReward(), RankingReward(), FormatReward()],
            args=GRPOConfig(
                output_dir=folder,
                # All four clips, eight responses each. On several processes each may hold fewer clips: the ranking
                # reward gathers the scores of all of them.
                per_device_train_batch_size=32,
                num_generations=8,
                max_completion_length=1,
                max_steps=40,
                learning_rate=3e-2,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
                seed=0,
            ),
        )
        trainer.remove_callback(PrinterCallback)  # the table below says what matters
        trainer.train()

    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    print(f"{'mean of':>20} {'first 5 steps':>14} {'last 5 steps':>13}")
    names = [f"rewards/{reward.__name__}/mean" for reward in trainer.reward_funcs]
    for name in ("reward", *names, "parse_failure_rate"):
        first, last = (sum(entry[name] for entry in part) / 5 for part in (steps[:5], steps[-5:]))
        print(f"{name.removeprefix('rewards/').removesuffix('/mean'):>20} {first:14.3f} {last:13.3f}")


if __name__ == "__main__":
    main()
