"""Tables and metric of the runs of recipes/learn_demo.sh, as docs/learning.md shows them.

python docs/learning_report.py outputs/learn [--metric docs/images/learning.png]

Reads, for every LEARN_DIR/ARM-seedN, metrics.jsonl, verl's validation dumps and the evaluation of the last checkpoint,
for every LEARN_DIR/before-seedN the evaluation of the policy before GRPO, and for every LEARN_DIR/demo-seedN the labels
of the held-out clips (without them, on real data, the column of temporal distortions is empty). Prints Markdown. A run
that was not evaluated is left out, and named.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas

from vqathinker_verl import parse_answer
from vqathinker_verl.demo.degradations import PLAYBACK
from vqathinker_verl.demo.reasoning import CLEAN, findings, read_reasoning, read_truth
from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.metrics import plcc_raw, rmse_raw, srcc
from vqathinker_verl.rewards.format import format_reward

TEMPORAL_DISTORTIONS = ("drops", *PLAYBACK)
ARMS = {
    "all": "all three rewards",
    "no_temporal": "without the temporal reward",
    "temporal_margin": "temporal reward with a margin",
    "regression": "regression only",
    "ranking": "ranking only",
    "local_ranking": "all three, ranking within pairs of videos",
}


@dataclass(frozen=True)
class Run:
    """One finished run: its metrics by step; its validations and evaluations, a line a response, with the labels."""

    arm: str
    seed: int
    metrics: dict[int, dict]
    validations: dict[int, pandas.DataFrame]
    before: pandas.DataFrame
    after: pandas.DataFrame
    dumps: dict[int, Path]
    label_file: Path


def read_runs(folder: Path) -> list[Run]:
    """Every finished run under `folder`; the others are named on stderr."""
    runs = []
    for path in sorted(folder.glob("*-seed*/metrics.jsonl")):
        name = re.fullmatch(r"(\w+)-seed(\d+)", path.parent.name)
        if not name or name[1] not in ARMS:
            continue
        metrics = {line["step"]: line for line in map(json.loads, path.read_text().splitlines())}
        dumps = {int(dump.stem): dump for dump in (path.parent / "validation").glob("*.jsonl")}
        evaluations = [run / "evaluation" for run in (folder / f"before-seed{name[2]}", path.parent)]
        # Written last; an evaluation that was cut off has predictions only.
        if missing := [str(place) for place in evaluations if not (place / "evaluation.json").exists()]:
            print(f"{path.parent}: not finished, left out: no evaluation.json in {', '.join(missing)}", file=sys.stderr)
            continue
        label_file = folder / f"demo-seed{name[2]}" / "labels" / "val.csv"
        labels = pandas.read_csv(label_file) if label_file.exists() else None
        validations = {step: read_validation(dump, labels) for step, dump in sorted(dumps.items())}
        clips = validations[max(validations)].groupby("video_id").first()[["video", "mos", "distortion"]]
        before, after = (read_evaluation(place / "predictions.jsonl", clips) for place in evaluations)
        runs.append(Run(name[1], int(name[2]), metrics, validations, before, after, dumps, label_file))
    return runs


def read_validation(dump: Path, labels: pandas.DataFrame | None) -> pandas.DataFrame:
    """One line a response, with the clip's label; `perturbed_mos` where a perturbed copy was shown."""
    frame = pandas.DataFrame([json.loads(line) for line in dump.read_text().splitlines()])
    frame["perturbed_mos"] = [
        parse_answer(text).score if isinstance(text, str) else float("nan") for text in frame["perturbed_response"]
    ]
    frame["video"] = frame["video_id"].str.rsplit("/", n=1).str[-1]
    if labels is None:
        return frame.assign(distortion="unknown")
    return frame.merge(labels[["video", "distortion", "strength"]], on="video", validate="many_to_one")


def read_evaluation(path: Path, clips: pandas.DataFrame) -> pandas.DataFrame:
    """One line a sampled response of `vqathinker evaluate --num-samples`, joined with `clips` (indexed by video_id)."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    frame = pandas.DataFrame(lines)[["video_id", "samples", "responses"]].explode(["samples", "responses"])
    frame = frame.rename(columns={"samples": "pred_mos", "responses": "output"}).join(clips, on="video_id")
    return frame.assign(pred_mos=frame["pred_mos"].astype(float), format=format_reward(list(frame["output"])))


def by_video(responses: pandas.DataFrame) -> pandas.DataFrame:
    """The mean score of each clip's responses, and its MOS; clips without any score are left out."""
    return responses.groupby("video").agg({"pred_mos": "mean", "mos": "first"}).dropna()


def metrics(responses: pandas.DataFrame) -> dict[str, float]:
    """One evaluation in metrics."""
    videos = by_video(responses)
    temporal = by_video(responses[responses["distortion"].isin([*TEMPORAL_DISTORTIONS, CLEAN])])
    return {
        "SRCC": srcc(videos["pred_mos"], videos["mos"]),
        "PLCC raw": plcc_raw(videos["pred_mos"], videos["mos"]),
        "RMSE raw": rmse_raw(videos["pred_mos"], videos["mos"]),
        "SRCC temporal": srcc(temporal["pred_mos"], temporal["mos"]),
        "format": responses["format"].mean(),
        "parse failures": responses["pred_mos"].isna().mean(),
    }


def ablation(runs: list[Run]) -> str:
    """Mean and range over the seeds, an arm a line."""
    lines = ["| arm | seeds | " + " | ".join(metrics(runs[0].after)) + " |", "|---|---|" + "---|" * 6]
    for title, evaluations in _evaluations(runs).items():
        table = pandas.DataFrame(map(metrics, evaluations))
        lines.append(f"| {title} | {len(table)} | " + " | ".join(_spread(table[name]) for name in table) + " |")
    return "\n".join(lines)


def per_distortion(runs: list[Run]) -> str:
    """SRCC over the clips of one distortion and the clean ones, an arm a line: mean and range over the seeds."""
    kinds = [kind for kind in dict.fromkeys(runs[0].after["distortion"]) if kind != CLEAN]
    if len(kinds) < 2:
        return "Only for the demo's clips, whose distortions are known."
    lines = ["| arm | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    for title, evaluations in _evaluations(runs).items():
        cells = []
        for kind in kinds:
            videos = [by_video(each[each["distortion"].isin([kind, CLEAN])]) for each in evaluations]
            cells.append(_spread(pandas.Series([srcc(each["pred_mos"], each["mos"]) for each in videos])))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _evaluations(runs: list[Run]) -> dict[str, list[pandas.DataFrame]]:
    """The evaluations before GRPO, one a seed, and those after it of every arm that has been run."""
    rows = {"before GRPO": [run.before for run in {run.seed: run for run in runs}.values()]}
    rows |= {title: [run.after for run in runs if run.arm == arm] for arm, title in ARMS.items()}
    return {title: evaluations for title, evaluations in rows.items() if evaluations}


def _spread(values: pandas.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.3f}"
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def sensitivity(runs: list[Run]) -> str:
    """Mean score of the held-out clips less that of their perturbed copies, before and after, over the seeds.

    A row per perturbation, of the clips whose own playback is in order. Runs that did not answer on perturbed copies in
    validation are left out.
    """
    runs = [run for run in runs if run.validations[max(run.validations)]["perturbed_mos"].notna().any()]
    if not runs:
        return "Only for runs with vqathinker.temporal.in_validation=true."
    columns = {"before GRPO": _gaps({run.seed: run for run in runs}.values(), min)}
    for arm, title in ARMS.items():
        if members := [run for run in runs if run.arm == arm]:
            columns[title] = _gaps(members, max)
    lines = ["| perturbation | clips | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    before = columns["before GRPO"]
    rows = {
        kind: [
            gaps[_is_normal(gaps) & (gaps.index.get_level_values("perturbation") == kind)] for gaps in columns.values()
        ]
        for kind in sorted(before.index.unique(level="perturbation"))
    }
    rows["all"] = [gaps[_is_normal(gaps)] for gaps in columns.values()]
    rows["clips of distorted playback, all"] = [gaps[~_is_normal(gaps)] for gaps in columns.values()]
    for title, chosen in rows.items():
        if len(chosen[0]):
            cells = [f"{gap.mean():+.3f}, {(gap > 0).mean() + 0.5 * (gap == 0).mean():.0%}" for gap in chosen]
            lines.append(f"| {title} | {len(chosen[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is_normal(gaps: pandas.Series) -> numpy.ndarray:
    """Whether a clip's own playback is in order; a perturbation may undo one that is not."""
    return ~gaps.index.get_level_values("distortion").isin(PLAYBACK)


def _gaps(runs: Iterable[Run], choose: Callable[[Iterable[int]], int]) -> pandas.Series:
    """Mean score less that of the perturbed copy at one validation, by (perturbation, distortion, seed, video)."""
    frames = [run.validations[choose(run.validations)].assign(seed=run.seed) for run in runs]
    frame = pandas.concat(frames).dropna(subset=["perturbation"])
    videos = (
        frame.groupby(["perturbation", "distortion", "seed", "video"])[["pred_mos", "perturbed_mos"]].mean().dropna()
    )
    return videos["pred_mos"] - videos["perturbed_mos"]


WORDS = {
    "distortion_right": "a distortion that is named is the true one",
    "score_named": "mean score where one is named",
    "score_rest": "mean score of the rest",
    "score_slightly": 'mean score with "slightly"',
    "score_clearly": 'mean score with "clearly"',
    "score_very": 'mean score with "very"',
}


def words(runs: list[Run]) -> str:
    """Whether words and score agree, before and after: mean and range over the seeds (vqathinker reasoning)."""
    if not runs:
        return "Only for the demo's clips, whose distortions are known."
    columns = {}
    for moment, choose in (("before", min), ("after", max)):
        found = []
        for run in runs:
            responses, _ = read_reasoning(read_predictions(run.dumps[choose(run.dumps)]), read_truth(run.label_file))
            metrics = findings(responses, num_resamples=10)
            found.append({name: metrics[name].value for name in WORDS})
        columns[moment] = pandas.DataFrame(found)
    lines = ["| | before | after |", "|---|---|---|"]
    for name, title in WORDS.items():
        lines.append(f"| {title} | " + " | ".join(_spread(table[name]) for table in columns.values()) + " |")
    return "\n".join(lines)


def examples(run: Run, count: int = 3) -> str:
    """Real responses of the evaluation: to a good, a middling and a bad clip."""
    firsts = run.after.groupby("video").first().sort_values("mos")
    chosen = firsts.iloc[[round(position * (len(firsts) - 1) / (count - 1)) for position in range(count)]]
    lines = ["| clip | stand-in MOS | response |", "|---|---|---|"]
    lines += [f"| {name} | {row['mos']:.2f} | `{row['output']}` |" for name, row in chosen.iterrows()]
    return "\n".join(lines)


def draw(runs: list[Run], path: Path) -> None:
    """Reward components of the runs with all rewards, and held-out SRCC of every arm, against steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    full = [run for run in runs if run.arm == "all"] or runs
    for name in ("regression", "ranking", "temporal", "format"):
        frame = pandas.DataFrame({run.seed: _series(run, f"reward/{name}") for run in full}).rolling(5, 1).mean()
        (line,) = left.plot(frame.index, frame.mean(axis=1), label=name)
        left.fill_between(frame.index, frame.min(axis=1), frame.max(axis=1), color=line.get_color(), alpha=0.2)
    left.set(xlabel="step", ylabel="mean over the batch", title="Rewards (mean and range of the seeds, 5 steps)")
    left.set_ylim(0, 1.3)
    left.legend(ncols=4, loc="upper center", fontsize="small")
    for arm, title in ARMS.items():
        frame = pandas.DataFrame({run.seed: _validated(run) for run in runs if run.arm == arm}).dropna()
        if len(frame):
            (line,) = right.plot(frame.index, frame.mean(axis=1), "-o", markersize=3, label=title)
            right.fill_between(frame.index, frame.min(axis=1), frame.max(axis=1), color=line.get_color(), alpha=0.15)
    right.axhline(0, color="grey", linewidth=0.5)
    right.set(xlabel="step", ylabel="SRCC", title="Held-out clips, stand-in MOS", ylim=(-0.6, 1))
    right.legend(fontsize="small", loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    metric.savefig(path, dpi=110)


def _validated(run: Run) -> pandas.Series:
    """SRCC of the first data source; the demo has one."""
    return _series(run, min(name for name in run.metrics[max(run.metrics)] if re.fullmatch("val/.*/srcc", name)))


def _series(run: Run, name: str) -> pandas.Series:
    return pandas.Series({step: line[name] for step, line in run.metrics.items() if line.get(name) is not None})


def main() -> int:
    """Print the tables, draw the metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="LEARN_DIR of recipes/learn_demo.sh")
    parser.add_argument("--metric", type=Path, help="where the picture goes; default LEARN_DIR/learning.png")
    args = parser.parse_args()
    runs = read_runs(args.folder)
    if not runs:
        print(f"no finished run of recipes/learn_demo.sh under {args.folder}", file=sys.stderr)
        return 2
    full = [run for run in runs if run.arm == "all"] or runs
    sections = {
        "Ablation": ablation(runs),
        "SRCC of each distortion": per_distortion(runs),
        "Temporal sensitivity: gap to the perturbed copy, how often the original wins": sensitivity(runs),
        "Words and score": words([run for run in full if run.label_file.exists()]),
        "Responses": examples(full[0]),
    }
    for title, text in sections.items():
        print(f"## {title}\n\n{text}\n")
    draw(runs, args.metric or args.folder / "learning.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
