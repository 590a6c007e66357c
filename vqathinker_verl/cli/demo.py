"""`vqathinker demo`: clips, labels and a tiny policy, so that the training runs without a GPU, data or a download."""

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vqathinker_verl.demo.clips import SPLITS, ClipLabel, make_split
from vqathinker_verl.demo.questions import write_questions
from vqathinker_verl.files import check_writable, write_bytes

SCENES_PER_BATCH = 4  # each with all nine distortions
# The warm-up's parts (see warmup.py): share of the steps, learning rate. GRPO learned fastest when the first part was
# long and the others were short (docs/learning.md).
WARMUP_PARTS = {"vision": (2 / 3, 3e-3), "caption": (2 / 9, 3e-3), "answer": (1 / 9, 2e-3)}
# With --question-steps N: N steps of text, and a tenth as many with videos.
QUESTION_PARTS = {"reading": (1, 2e-3), "choice": (1 / 10, 2e-3)}

EXAMPLE = "vqathinker demo --output-dir outputs/demo"
EXIT_CODES = "0: the demo is complete; 2: it could not be made"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker demo`."""
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder to write videos/, labels/ and model/ to"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed makes the same demo")
    parser.add_argument("--train-clips", type=int, default=126, metavar="N", help="clips to train on")
    parser.add_argument("--val-clips", type=int, default=45, metavar="N", help="clips to validate on")
    parser.add_argument(
        "--warmup-steps", type=int, default=900, metavar="N", help="warm-up steps of the tiny model, in three parts"
    )

    parser.add_argument(
        "--question-steps", type=int, default=0, metavar="N",
        help="further warm-up steps, in which the model also learns to answer questions on what a clip shows "
        "(`vqathinker understand`); default: none",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Make the missing parts of the demo under `args.output_dir`, and print a summary."""
    for name in ("train_clips", "val_clips", "warmup_steps"):
        if getattr(args, name) < 10:
            print(
                f"vqathinker demo: --{name.replace('_', '-')} must be at least 10, got {getattr(args, name)}",
                file=sys.stderr,
            )
            return 2
    if args.question_steps < 0:
        print(f"vqathinker demo: --question-steps must be at least 0, got {args.question_steps}", file=sys.stderr)
        return 2
    check_writable(args.output_dir / "demo.json")
    settings = {name: value for name, value in vars(args).items() if name in _SETTINGS}
    folder = args.output_dir
    try:
        facts = _known_facts(folder, settings)
    except ValueError as error:
        print(f"vqathinker demo: {error}", file=sys.stderr)
        return 2
    labels = {split: _make_clips(split, settings, folder) for split in SPLITS}
    write_questions(labels["val"], settings["seed"], folder / "labels" / "questions.jsonl")
    facts |= _make_policy(settings, folder / "model")
    if "measured" not in facts:
        facts["mos_histogram"] = {split: _histogram(labels[split]) for split in SPLITS}
        facts["measured"] = _measure(folder, labels["val"], settings["seed"])
        write_bytes(folder / "demo.json", json.dumps(facts, indent=2).encode())
    _print_summary(folder, facts)
    return 0


_SETTINGS = ("seed", "train_clips", "val_clips", "warmup_steps", "question_steps")


def _known_facts(folder: Path, settings: dict[str, int]) -> dict[str, Any]:
    """Return the facts in `demo.json` from an earlier, perhaps unfinished start with the same settings.

    Raises:
        ValueError: the folder holds a demo of other settings.
    """
    path = folder / "demo.json"
    if path.exists():
        facts: dict[str, Any] = json.loads(path.read_text())
        facts["settings"] = {"question_steps": 0, **facts["settings"]}  # demos of older versions
        if facts["settings"] != settings:
            raise ValueError(
                f"{folder} holds a demo made with other settings ({facts['settings']}; this call has {settings}): "
                "choose another --output-dir, or delete that folder"
            )
        return facts
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"settings": settings, "mos": "stand-in: 95 - 90 x strength, given by no viewer"}
    write_bytes(path, json.dumps(facts, indent=2).encode())
    return facts


def _announce(text: str) -> None:
    """Print a line where no progress bar is drawn: in a file or a pipe."""
    if not sys.stderr.isatty():
        print(f"vqathinker demo: {text}", file=sys.stderr)


def _make_clips(split: str, settings: dict[str, int], folder: Path) -> list[ClipLabel]:
    from tqdm import tqdm

    num_clips = settings[f"{split}_clips"]
    _announce(f"{num_clips} {split} clips")
    with tqdm(total=num_clips, desc=f"{split} clips", unit="clip", disable=None) as bar:
        return make_split(split, num_clips, settings["seed"], folder, bar.update)


def _make_policy(settings: dict[str, int], folder: Path) -> dict[str, Any]:
    """Warm up and save the policy, unless it exists; its facts are in the same folder, so they cannot get separated."""
    facts_path = folder / "warmup.json"
    if not facts_path.exists():
        draft = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        facts = _warm_up(settings, draft)
        (draft / facts_path.name).write_text(json.dumps(facts, indent=2))
        os.replace(draft, folder)
    warmed_up: dict[str, Any] = json.loads(facts_path.read_text())
    return warmed_up


def _warm_up(settings: dict[str, int], folder: Path) -> dict[str, Any]:
    from tqdm import tqdm

    from vqathinker_verl.demo.model import build_model, build_processor, save_policy
    from vqathinker_verl.demo.questions import question_texts
    from vqathinker_verl.demo.warmup import ask_score, ask_score_or_choice, train_answers, train_reading, train_vision
    from vqathinker_verl.demo.warmup_clips import batches

    start, seed = time.monotonic(), settings["seed"]
    processor = build_processor(question_texts() if settings["question_steps"] else ())
    model = build_model(processor.tokenizer, seed)
    num_steps = {part: round(share * settings["warmup_steps"]) for part, (share, _) in WARMUP_PARTS.items()}
    if asked := settings["question_steps"]:
        num_steps |= {part: max(1, round(share * asked)) for part, (share, _) in QUESTION_PARTS.items()}
    with_clips = sum(steps for part, steps in num_steps.items() if part != "reading")
    clips = batches(with_clips, SCENES_PER_BATCH, seed)
    train: dict[str, Callable[..., None]] = {
        "vision": train_vision,
        "caption": partial(train_answers, ask=partial(ask_score, question="")),
        "answer": train_answers,
        "reading": train_reading,
        "choice": partial(train_answers, ask=ask_score_or_choice),
    }
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    for part, steps in num_steps.items():
        _, learning_rate = (WARMUP_PARTS | QUESTION_PARTS)[part]
        losses: list[float] = []
        _announce(f"warm-up, {part}: {steps} steps")
        with tqdm(total=steps, desc=f"warm-up: {part}", unit="step", disable=None) as bar:

            def on_step(loss: float, losses: list[float] = losses, bar: Any = bar) -> None:
                losses.append(loss)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()

            options = {"num_steps": steps, "learning_rate": learning_rate, "seed": seed}
            train[part](model, processor, clips, **options, on_step=on_step)
        facts[f"{part}_loss"] = sum(losses[-20:]) / len(losses[-20:])
    facts["warmup_seconds"] = round(time.monotonic() - start, 1)
    save_policy(model, processor, folder)
    return facts


def _histogram(labels: list[ClipLabel]) -> dict[str, int]:
    """Number of clips at each stand-in MOS, worst first."""
    counts = Counter(label.mos for label in labels)
    return {f"{mos:g}": counts[mos] for mos in sorted(counts)}


def _measure(folder: Path, labels: list[ClipLabel], seed: int) -> dict[str, float]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vqathinker_verl.demo.measure import measure_policy
    from vqathinker_verl.frames.positions import use_true_times

    model = AutoModelForImageTextToText.from_pretrained(folder / "model", local_files_only=True)
    use_true_times(model.model)
    processor = AutoProcessor.from_pretrained(folder / "model", local_files_only=True)
    return measure_policy(model, processor, labels, folder / "videos", seed)


def _print_summary(folder: Path, facts: dict[str, Any]) -> None:
    settings, measured = facts["settings"], facts["measured"]
    print(f"demo in {folder}: {settings['train_clips']} clips to train on, {settings['val_clips']} held out")
    for split in SPLITS:
        counts = ", ".join(f"{mos}: {count}" for mos, count in facts["mos_histogram"][split].items())
        print(f"  {split} clips by stand-in MOS (0 to 100, from the known strength, no viewer gave it): {counts}")
    # By their keys: folders made by an older version name the parts differently.
    losses = [f"{key.removesuffix('_loss')} {loss:.2f}" for key, loss in facts.items() if key.endswith("_loss")]
    print(
        f"  policy: {facts['parameters'] / 1e6:.2f} M parameters, warmed up in {facts['warmup_seconds']:.0f} s; "
        f"loss by part of the warm-up: {', '.join(losses)}"
    )
    print(
        f"  after the warm-up, on held-out clips: format rate {measured['format_rate']:.3f}, "
        f"SRCC of the sampled scores with the stand-in MOS {measured['srcc']:+.3f} (near 0: it has not learned quality "
        f"yet), spread of a group's scores {measured['group_std']:.2f}, "
        f"distortion named correctly {100 * measured['named_right']:.0f}%"
    )
