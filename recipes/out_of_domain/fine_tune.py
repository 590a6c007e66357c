"""Fine-tune the demo's policy on written answers: the supervised arm of recipes/run_out_of_domain.sh.

    python recipes/out_of_domain/fine_tune.py --model outputs/demo/model --clips CLIPS --output-dir MODEL

The answer to a labelled clip names what it shows and gives its MOS on the scale of the question:
<think>It looks very smeared</think><answer>1.36</answer>. The vision tower is frozen, as in the demo's GRPO.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas
import torch
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor

from vqathinker_verl.data.scale import map_mos
from vqathinker_verl.demo.degradations import MOS_SCALE
from vqathinker_verl.demo.measure import load_sampled_frames
from vqathinker_verl.demo.model import save_policy
from vqathinker_verl.demo.warmup import seen_text, train_answers
from vqathinker_verl.demo.warmup_clips import WarmupClip
from vqathinker_verl.frames.positions import use_true_times
from vqathinker_verl.prompts import QUALITY_PROMPT


@dataclass(frozen=True)
class LabelledClip(WarmupClip):
    """A clip with its MOS on the scale of the question."""

    mos: float


def read_clips(folder: Path) -> list[LabelledClip]:
    """Return the clips of train.csv."""
    clips = []
    for row in pandas.read_csv(folder / "train.csv").itertuples():
        frames = load_sampled_frames(folder / row.video)
        clips.append(LabelledClip(frames, row.distortion, row.strength, row.seconds, map_mos(row.mos, MOS_SCALE)))
    return clips


def written_answer(clip: LabelledClip, rng: numpy.random.Generator) -> tuple[str, str]:
    """Return the question, and the response to learn."""
    return QUALITY_PROMPT, f"<think>{seen_text(clip)}</think><answer>{clip.mos:.2f}</answer>"


def shuffled_batches(clips: list[LabelledClip], size: int, seed: int) -> Iterator[list[LabelledClip]]:
    """Yield batches without end; every clip once before any is shown again."""
    rng, waiting = numpy.random.default_rng(seed), []
    while True:
        while len(waiting) < size:
            waiting += rng.permutation(len(clips)).tolist()
        yield [clips[number] for number in waiting[:size]]
        del waiting[:size]


def main() -> int:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="policy of `vqathinker demo`")
    parser.add_argument("--clips", type=Path, required=True, help="folder of make_clips.py")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=240, help="updates; 240 of 16 clips: as many responses as GRPO's")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="the highest, as in the demo's GRPO")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = AutoModelForImageTextToText.from_pretrained(args.model, local_files_only=True)
    use_true_times(model.model)
    model.model.visual.requires_grad_(False)
    processor = AutoProcessor.from_pretrained(args.model, local_files_only=True)
    batches = shuffled_batches(read_clips(args.clips), args.batch_size, args.seed)
    with tqdm(total=args.steps, desc="fine-tuning", unit="step", disable=None) as bar:

        def on_step(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        train_answers(
            model,
            processor,
            batches,
            num_steps=args.steps,
            learning_rate=args.learning_rate,
            seed=args.seed,
            on_step=on_step,
            ask=written_answer,
            targets=lambda ids, tokenizer: torch.nn.functional.one_hot(ids, len(tokenizer)).float(),
        )
    save_policy(model, processor, args.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
