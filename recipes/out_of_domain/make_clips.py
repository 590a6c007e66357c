"""Make the demo clips of recipes/run_out_of_domain.sh: clips to train on, sources of chains, and four test sets.

    python recipes/out_of_domain/make_clips.py outputs/out_of_domain/clips-seed0 --seed 0

For every set it writes SET/*.mp4 and SET.csv (video, mos, distortion, strength, seconds, source). The MOS is the demo's
stand-in, a function of the strength alone. No scene is in two sets. Clips that exist are kept; the same seed gives the
same clips. questions.jsonl asks what the clips of two test sets show, for `vqathinker understand`.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy
import pandas
from tqdm import tqdm

from vqathinker_verl.demo.clips import ClipLabel
from vqathinker_verl.demo.degradations import STRENGTHS, crf, degrade, encode_h264, stand_in_mos
from vqathinker_verl.demo.questions import plan_questions
from vqathinker_verl.demo.scenes import (
    DURATIONS,
    NUM_FRAMES,
    TRAIN_REAL_CLIPS,
    VAL_REAL_CLIPS,
    Frames,
    crop_real_clip,
    draw_scene,
)
from vqathinker_verl.files import write_bytes, write_jsonl
from vqathinker_verl.synthesis.encoding import encode

LABELLED = ("pristine", "compression", "blur", "drops", "reversed", "shuffled")
UNLABELLED = ("pristine", "noise", "darkness", "judder")  # the pristine ones give the SRCC its upper end
OTHER_SIZE = 128  # pixels, where the other sets have 84
ASKED = ("same_kinds", "unlabelled_kinds")
REAL_CLIPS = (*TRAIN_REAL_CLIPS, *VAL_REAL_CLIPS)


@dataclass(frozen=True)
class ClipSet:
    """Clips of one kind: their distortions, whether they are crops of real clips, and whether of another format."""

    name: str
    num_clips: int
    distortions: tuple[str, ...]
    real: bool = False
    other_format: bool = False


SETS = (
    ClipSet("train", 240, LABELLED),
    ClipSet("sources", 40, ("pristine",)),  # for `vqathinker synthesize`
    ClipSet("same_kinds", 108, LABELLED),
    ClipSet("unlabelled_kinds", 108, UNLABELLED),
    ClipSet("real_clips", 108, LABELLED, real=True),
    ClipSet("other_format", 108, LABELLED, other_format=True),
)


def typed_questions(labels: list[ClipLabel], seed: int) -> list[dict[str, object]]:
    """Questions on clips; their type also names the clip's distortion, so that accuracies are by distortion."""
    rows = plan_questions(labels, seed)
    distortions = {label.video: label.distortion for label in labels}
    return [{**row, "type": f"{row['type']}: {distortions[str(row['video'])]}"} for row in rows]


def plan(chosen: ClipSet) -> Iterator[ClipLabel]:
    """The labels of a set: the distortions alternate, and each has every strength as often."""
    for number in range(chosen.num_clips):
        turn, kind = divmod(number, len(chosen.distortions))
        distortion = chosen.distortions[kind]
        strength = 0.0 if distortion == "pristine" else STRENGTHS[turn % len(STRENGTHS)]
        name = f"{chosen.name}/{chosen.name}_{number:04d}_{distortion}_{round(100 * strength):03d}.mp4"
        seconds = DURATIONS[turn % len(DURATIONS)]
        source = REAL_CLIPS[number % len(REAL_CLIPS)] if chosen.real else f"{chosen.name}-{number:04d}"
        yield ClipLabel(name, stand_in_mos(strength), distortion, strength, seconds, source)


def make_clip(chosen: ClipSet, label: ClipLabel, rng: numpy.random.Generator) -> bytes:
    """Return the MP4 of one label."""
    distortion, strength, seconds = label.distortion, label.strength, label.seconds
    scene = crop_real_clip(label.source, rng, seconds) if chosen.real else draw_scene(rng, seconds)
    if not chosen.other_format:
        return encode_h264(degrade(scene, distortion, strength, rng), crf(distortion, strength), NUM_FRAMES // seconds)
    frames = degrade(enlarged(scene[::2]), distortion, strength, rng)
    return encode(frames, Fraction(len(frames), seconds), codec="hevc", crf=crf(distortion, strength))


def enlarged(frames: Frames) -> Frames:
    """Return the frames at `OTHER_SIZE`."""
    import cv2

    return numpy.stack([cv2.resize(frame, (OTHER_SIZE, OTHER_SIZE), interpolation=cv2.INTER_CUBIC) for frame in frames])


def main() -> int:
    """Make the missing clips of all sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    questions: list[dict[str, object]] = []
    for chosen in SETS:
        (args.folder / chosen.name).mkdir(parents=True, exist_ok=True)
        labels = list(plan(chosen))
        for number, label in enumerate(tqdm(labels, chosen.name, unit="clip", disable=None)):
            if not (args.folder / label.video).exists():
                rng = numpy.random.default_rng([args.seed, SETS.index(chosen), number])
                write_bytes(args.folder / label.video, make_clip(chosen, label, rng))
        table = pandas.DataFrame(map(asdict, labels))
        write_bytes(args.folder / f"{chosen.name}.csv", table.to_csv(index=False).encode())
        if chosen.name in ASKED:
            questions += typed_questions(labels, args.seed)
    write_jsonl(args.folder / "questions.jsonl", questions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
