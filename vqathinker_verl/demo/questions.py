"""Questions on the demo's clips, whose true degradation is known: an attribution set that needs no annotator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqathinker_verl.demo.clips import ClipLabel
from vqathinker_verl.demo.degradations import DISTORTION_WORDS, DISTORTIONS
from vqathinker_verl.files import write_jsonl
from vqathinker_verl.parsing import LETTERS
from vqathinker_verl.understanding.questions import YES_NO, Question

# distortion -> what a viewer sees, as an option to choose
DESCRIPTIONS = {
    "pristine": "No distortion: it looks sharp",
    "compression": "Compression: it looks blocky",
    "blur": "Blur: it looks smeared",
    "noise": "Noise: it looks grainy",
    "darkness": "Underexposure: it looks dark",
    "drops": "Lost frames: it looks flickering",
    "judder": "Uneven playback: it looks juddering",
    "reversed": "Reversed playback: it looks backwards",
    "shuffled": "Shuffled playback: it looks scrambled",
}
NUM_OPTIONS = 4
CHOICES = (*LETTERS[:NUM_OPTIONS], *YES_NO)
WHICH = "Which of these describes the quality of this video best?"


def draw_question(distortion: str, rng: np.random.Generator) -> Question:
    """One question on a clip with this distortion: which of four descriptions fits, or whether one does.

    The answers are balanced: each letter is right as often, and yes as often as no.
    """
    others = [name for name in DISTORTIONS if name != distortion]
    if rng.random() < 0.5:
        options, answer = _which_of_four(distortion, rng)
        return Question("", "", WHICH, options, answer, "which of four")
    answer = int(rng.integers(2))
    named = str(rng.choice(others)) if answer else distortion
    return Question("", "", _yes_no(named), YES_NO, answer, "yes/no", letters=False)


def question_texts() -> list[str]:
    """Prompts that hold every word of every question."""
    options = list(DESCRIPTIONS.values())
    asked = [
        Question("", "", WHICH, tuple(options[start : start + NUM_OPTIONS]), 0, "")
        for start in (0, NUM_OPTIONS, len(options) - NUM_OPTIONS)
    ]
    asked += [Question("", "", _yes_no(name), YES_NO, 0, "", letters=False) for name in DISTORTIONS]
    return [question.prompt() for question in asked]


def _which_of_four(distortion: str, rng: np.random.Generator) -> tuple[tuple[str, ...], int]:
    """The four options in a drawn order, and the index of the right one."""
    wrong = [name for name in DISTORTIONS if name != distortion]
    options = rng.permutation([distortion, *rng.choice(wrong, NUM_OPTIONS - 1, replace=False)]).tolist()
    return tuple(DESCRIPTIONS[name] for name in options), options.index(distortion)


def plan_questions(labels: Sequence[ClipLabel], seed: int) -> list[dict[str, object]]:
    """Three questions per clip, in the plain layout of `vqathinker understand`.

    One asks which of four descriptions fits; the seed draws their order and the three wrong ones. Two ask for yes or
    no: one about the true description, one about the description of another clip. So yes is right as often as no for
    each description, and a model that always says yes is right half the time.

    Args:
        labels: The clips; no distortion may be on more than half of them.
        seed: The same seed gives the same questions.

    Raises:
        ValueError: One distortion is on more than half of the clips, or a clip's is unknown.
    """
    rng = np.random.default_rng([seed, len(labels)])
    asked_in_vain = _another_distortion(labels, rng)
    rows: list[dict[str, object]] = []
    for label, other in zip(labels, asked_in_vain, strict=True):
        options, answer = _which_of_four(label.distortion, rng)
        asked: list[dict[str, object]] = [
            {
                "type": "which of four",
                "question": WHICH,
                "options": list(options),
                "answer": LETTERS[answer],
            },
            {"type": "yes/no", "question": _yes_no(label.distortion), "answer": "yes"},
            {"type": "yes/no", "question": _yes_no(other), "answer": "no"},
        ]
        for number, question in enumerate(asked, start=1):
            rows.append({"id": f"{Path(label.video).stem}-{number}", "video": label.video, **question})
    return rows


def write_questions(labels: Sequence[ClipLabel], seed: int, path: Path) -> None:
    """Write `plan_questions` as JSON lines; the same arguments give the same bytes."""
    write_jsonl(path, plan_questions(labels, seed))


def _yes_no(distortion: str) -> str:
    return f"Is this a good description of the quality of this video: it looks {DISTORTION_WORDS[distortion]}?"


def _another_distortion(labels: Sequence[ClipLabel], rng: np.random.Generator) -> list[str]:
    """For each clip the distortion of another one, not its own; each distortion as often as it is true.

    Clips are put in a ring, those of one distortion side by side, and each takes the distortion of the clip that is a
    fixed way ahead: further than the largest group is long, from either side.
    """
    order = rng.permutation(len(labels))
    rank = {name: place for place, name in enumerate(rng.permutation(DISTORTIONS).tolist())}
    ring = sorted(order.tolist(), key=lambda index: rank[labels[index].distortion])
    longest = max(sum(label.distortion == name for label in labels) for name in DISTORTIONS)
    if 2 * longest > len(labels):
        raise ValueError(f"{longest} of {len(labels)} clips have one distortion; expected at most half of them")
    ahead = int(rng.integers(longest, len(labels) - longest + 1))
    others = [""] * len(labels)
    for place, index in enumerate(ring):
        others[index] = labels[ring[(place + ahead) % len(ring)]].distortion
    return others
