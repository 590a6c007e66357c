"""Print the tables of all runs of recipes/run_out_of_domain.sh in a folder, as docs/generalization.md shows them.

    python recipes/out_of_domain/report.py outputs/out_of_domain

SRCC of every test set, with its interval from a bootstrap over the videos, by arm and seed; and the difference of each
arm to `labels` on the same videos, with the p-value of the paired bootstrap. Then, of the demo: the accuracy of answers
to questions on what a clip shows, by distortion, and whether words and scores agree: the share of responses that name
the true distortion, and the SRCC of a response's score with its word of degree (sharp, slightly, clearly, very). Arms
and seeds that are missing are named.
"""

import argparse
import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from vqathinker_verl.demo.model import DEGREE_WORDS
from vqathinker_verl.demo.reasoning import CLEAN, read_reasoning, read_truth
from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.metrics import srcc

ARMS = {
    "before": "before training",
    "labels": "all rewards on labels",
    "labels_and_chains": "all rewards on labels, and chains",
    "chains": "chains alone",
    "fine_tuned": "supervised fine-tuning on the labels",
}
BASELINE = "labels"
CHANCE = {"which of four": 0.25, "yes/no": 0.5}


def read_runs(folder: Path) -> dict[tuple[str, int], Path]:
    """Return the evaluations by (arm, seed)."""
    found = {}
    for path in sorted(folder.glob("*-seed*/evaluation")):
        name = re.fullmatch(r"(\w+)-seed(\d+)", path.parent.name)
        if name and name[1] in ARMS and (path / "evaluation.json").exists():  # written last
            found[name[1], int(name[2])] = path
    return found


def srcc_by_set(evaluation: Path) -> dict[str, dict[str, Any]]:
    """Return value and interval of the SRCC of each test set."""
    document = json.loads((evaluation / "evaluation.json").read_text())
    return {each["name"]: each["metrics"].get("srcc", {}) for each in document["models"][0]["benchmarks"]}


def differences(evaluation: Path, baseline: Path) -> dict[str, dict[str, Any]]:
    """Return difference, interval and p-value of the SRCC of each test set, from `vqathinker evaluate --baseline`."""
    output = evaluation.parent / f"against-{BASELINE}"
    if not (output / "evaluation.json").exists():
        command = ["vqathinker", "evaluate", str(evaluation / "predictions.jsonl"), "--name", evaluation.parent.name]
        command += ["--baseline", str(baseline / "predictions.jsonl"), "--baseline-name", baseline.parent.name]
        done = subprocess.run([*command, "--output-dir", str(output)], capture_output=True, text=True, check=False)
        if done.returncode == 2:
            raise SystemExit(done.stderr)
    comparison = json.loads((output / "evaluation.json").read_text())["comparison"]
    return {each["name"]: each["differences"]["srcc"] for each in comparison["benchmarks"]}


def read_answers(path: Path) -> dict[str, list[bool]]:
    """Return whether each answer of `vqathinker understand` is right, by type of question."""
    found: dict[str, list[bool]] = {}
    for row in map(json.loads, path.read_text().splitlines()):
        found.setdefault(row["type"], []).append(row["choice"] == row["answer"])
    return found


def answers_tables(runs: dict[tuple[str, int], Path]) -> list[str]:
    """Return one table per kind of question: accuracy by distortion, over all seeds of an arm."""
    answers: dict[str, list[dict[str, list[bool]]]] = {}
    for (arm, _), evaluation in runs.items():
        if (path := evaluation.parent / "understanding.jsonl").exists():
            answers.setdefault(arm, []).append(read_answers(path))
    tables = []
    for kind, chance in CHANCE.items():
        seeds = [each for members in answers.values() for each in members]
        types = list(dict.fromkeys(name for each in seeds for name in each if name.startswith(kind)))
        rows = [["chance", "", *[f"{chance:.2f}"] * len(types)]]
        for arm in filter(answers.__contains__, ARMS):
            right = [[one for each in answers[arm] for one in each[name]] for name in types]
            rows.append([ARMS[arm], str(len(answers[arm])), *(f"{sum(one) / len(one):.2f}" for one in right)])
        heading = ["arm", "seeds", *(name.removeprefix(f"{kind}: ") for name in types)]
        tables.append(f"## Accuracy, {kind}\n\n{table(heading, rows)}\n")
    return tables if answers else []


def agreement(evaluation: Path, clips: Path, sets: Sequence[str]) -> list[str]:
    """Return, of each set, the share of responses that name the true distortion, and the SRCC of degree and score."""
    cells = []
    predictions = read_predictions(evaluation / "predictions.jsonl")
    for name in sets:
        chosen = [each for each in predictions if each.video_id.startswith(f"{name}/")]
        responses, _ = read_reasoning(chosen, read_truth(clips / f"{name}.csv"))
        right = numpy.mean([each.named == each.truth for each in responses])
        degrees, scores = [], []
        for each in responses:
            if each.named and (each.named == CLEAN or each.degree) and not math.isnan(each.score):
                degrees.append(0 if each.named == CLEAN else 1 + DEGREE_WORDS.index(each.degree))
                scores.append(each.score)
        cells.append(f"{right:.2f}, {-srcc(degrees, scores):.2f}")
    return cells


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="STUDY_DIR of recipes/run_out_of_domain.sh")
    folder = parser.parse_args().folder
    runs = read_runs(folder)
    if not runs:
        print(f"no finished run of recipes/run_out_of_domain.sh under {folder}", file=sys.stderr)
        return 2
    seeds = sorted({seed for _, seed in runs})
    for arm in ARMS:
        if missing := [str(seed) for seed in seeds if (arm, seed) not in runs]:
            print(f"{arm}: no finished run with seed {', '.join(missing)}", file=sys.stderr)
    sets = list(srcc_by_set(next(iter(runs.values()))))
    rows, compared = [], []
    for arm, title in ARMS.items():
        for seed in seeds:
            if (arm, seed) not in runs:
                continue
            found = srcc_by_set(runs[arm, seed])
            rows.append([title, str(seed), *(interval(found[name]) for name in sets)])
            if arm != BASELINE and (BASELINE, seed) in runs:
                less = differences(runs[arm, seed], runs[BASELINE, seed])
                compared.append([title, str(seed), *(difference(less[name]) for name in sets)])
    print(f"## SRCC\n\n{table(['arm', 'seed', *sets], rows)}\n")
    if compared:
        print(f"## Less {ARMS[BASELINE]!r}, on the same videos\n\n{table(['arm', 'seed', *sets], compared)}")
    if tables := answers_tables(runs):
        words = [
            [ARMS[arm], str(seed), *agreement(runs[arm, seed], folder / f"clips-seed{seed}", sets)]
            for arm in ARMS
            for seed in seeds
            if (arm, seed) in runs
        ]
        print("\n".join(["", *tables]))
        print(f"## True distortion named; SRCC of words and score\n\n{table(['arm', 'seed', *sets], words)}")
    return 0


def interval(found: dict[str, Any]) -> str:
    """Return a value with its interval."""
    if found.get("value") is None:
        return "undefined"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def difference(found: dict[str, Any]) -> str:
    """Return a difference with its p-value."""
    if found["value"] is None:
        return "undefined"
    return f"{found['value']:+.3f} (p = {found['p']:.3f})"


if __name__ == "__main__":
    sys.exit(main())
