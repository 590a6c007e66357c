"""Print the tables of all runs of recipes/run_out_of_domain.sh in a folder, as docs/generalization.md shows them.

    python recipes/out_of_domain/report.py outputs/out_of_domain

SRCC of every test set, with its interval from a bootstrap over the videos, by arm and seed; and the difference of each
arm to `labels` on the same videos, with the p-value of the paired bootstrap. Arms and seeds that are missing are named.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ARMS = {
    "before": "before training",
    "labels": "all rewards on labels",
    "labels_and_chains": "all rewards on labels, and chains",
    "chains": "chains alone",
    "fine_tuned": "supervised fine-tuning on the labels",
}
BASELINE = "labels"


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
    return 0


def interval(found: dict[str, Any]) -> str:
    """Return a value with its interval."""
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" if found else "undefined"


def difference(found: dict[str, Any]) -> str:
    """Return a difference with its p-value."""
    return f"{found['value']:+.3f} (p = {found['p']:.3f})"


if __name__ == "__main__":
    sys.exit(main())
