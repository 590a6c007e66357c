"""Labels in, benchmarks out, and each prediction to its label."""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vqathinker_verl.data.checks import check_labels
from vqathinker_verl.data.naming import normal_name, other_names, without_suffix
from vqathinker_verl.data.records import LabelError
from vqathinker_verl.data.registry import Registry
from vqathinker_verl.data.sources import LabelSource, load
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Label, Prediction

logger = logging.getLogger(__name__)

# For labels that came inside a prediction file without a data set's name.
UNNAMED = "benchmark"


def read_benchmarks(sources: Sequence[LabelSource], registry: Registry) -> list[Benchmark]:
    """Read labels: the parquet of `vqathinker prepare`, or any label file that it reads. MOS are mapped to [1, 5].

    A parquet gives a benchmark for each of its data sources; sources with one name become one benchmark.

    Raises:
        EvaluationError: A file cannot be read, a label is faulty, or a video is labelled twice.
    """
    found: dict[str, list[Label]] = defaultdict(list)
    for source in sources:
        read = _of_parquet(source.labels) if _is_prepared(source) else _of_label_file(source, registry)
        for name, labels in read.items():
            schemes = registry[name].video_names if name in registry else ()
            found[name] += [replace(label, other_names=tuple(other_names(label.video, schemes))) for label in labels]
    return [_checked(name, labels) for name, labels in found.items()]


def labels_of_predictions(predictions: Sequence[Prediction]) -> list[Benchmark]:
    """The benchmarks that predictions carry themselves, as rows of verl's validation dump do.

    Raises:
        EvaluationError: A prediction has no `mos`.
    """
    found: dict[str, list[Label]] = defaultdict(list)
    for prediction in predictions:
        if prediction.mos is None:
            raise EvaluationError(f"{prediction.where}: no mos beside the prediction; pass --labels FILE")
        label = Label(prediction.video_id, prediction.video_id, prediction.mos, prediction.path)
        found[prediction.benchmark or UNNAMED].append(label)
    return [_checked(name, labels) for name, labels in found.items()]


def with_videos_under(benchmark: Benchmark, root: Path) -> Benchmark:
    """The benchmark with its videos' paths under `root`, for videos that were moved since their labels were written."""
    prefix = f"{benchmark.name}/"
    return replace(
        benchmark,
        labels=tuple(
            replace(label, path=os.path.join(root, label.video.removeprefix(prefix))) for label in benchmark.labels
        ),
    )


def match(
    predictions: Sequence[Prediction], benchmarks: Sequence[Benchmark], *, ignore_suffix: bool = False
) -> tuple[dict[str, list[Prediction | None]], list[Prediction]]:
    """Find each label's prediction.

    A prediction names its video by the label's id (DATASET/path), its path relative to the benchmark's folder, or the
    file's full path, in one spelling (`normal_name`) or in another naming scheme of the dataset; nothing looser, since
    file names recur. A prediction that says its benchmark is looked for there only.

    Args:
        predictions: The predictions.
        benchmarks: The labels.
        ignore_suffix: Match names without their suffix where the complete names do not match.

    Returns:
        By the benchmark's name, a prediction or None for each of its labels; and the predictions without a label.

    Raises:
        EvaluationError: A name fits labels of two benchmarks, or two predictions fit one label.
    """
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    stems: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for benchmark in benchmarks:
        for number, label in enumerate(benchmark.labels):
            in_schemes = [name for other in label.other_names for name in (other, f"{benchmark.name}/{other}")]
            for key in (label.video_id, label.video, label.path, *in_schemes):
                if key is not None:
                    places[normal_name(key)].add((benchmark.name, number))
                    stems[without_suffix(normal_name(key))].add((benchmark.name, number))
    found: dict[str, list[Prediction | None]] = {b.name: [None] * len(b.labels) for b in benchmarks}
    unlabelled = []
    for prediction in predictions:
        keys = [normal_name(key) for key in (prediction.video_id, prediction.path) if key]
        fits = next((places[key] for key in keys if key in places), set())
        if not fits and ignore_suffix:
            fits = next((stems[without_suffix(key)] for key in keys if without_suffix(key) in stems), set())
        if prediction.benchmark is not None:
            fits = {place for place in fits if place[0] == prediction.benchmark}
        if len(fits) > 1:
            names = " and ".join(sorted({name for name, _ in fits}))
            if " and " not in names:
                raise EvaluationError(
                    f"{prediction.where}: {prediction.video_id} fits {len(fits)} videos of {names}; expected one: "
                    "write the video's complete path and suffix"
                )
            raise EvaluationError(
                f"{prediction.where}: {prediction.video_id} fits videos of {names}; choose one with BENCHMARK=FILE, or "
                "write the benchmark in front of the id, as in LIVE-VQC/B155.mp4"
            )
        if not fits:
            unlabelled.append(prediction)
            continue
        ((name, number),) = fits
        other = found[name][number]
        if other is not None:
            raise EvaluationError(
                f"{prediction.where}: {prediction.video_id} has a prediction already ({other.where}); expected one a "
                "video: remove one of them"
            )
        found[name][number] = prediction
    return found, unlabelled


def match_some(
    predictions: Sequence[Prediction], benchmarks: Sequence[Benchmark], *, where: str, ignore_suffix: bool = False
) -> tuple[dict[str, list[Prediction | None]], list[Prediction]]:
    """Find each label's prediction, as `match`; a benchmark's name that the labels do not use says nothing about them.

    Args:
        predictions: The predictions.
        benchmarks: The labels.
        where: The file of the predictions, for the message.
        ignore_suffix: See `match`.

    Raises:
        EvaluationError: As `match`; or no prediction has a label.
    """
    known = {benchmark.name for benchmark in benchmarks}
    predictions = [p if p.benchmark in known else replace(p, benchmark=None) for p in predictions]
    matched, unlabelled = match(predictions, benchmarks, ignore_suffix=ignore_suffix)
    if len(unlabelled) == len(predictions):
        label = next((label for benchmark in benchmarks for label in benchmark.labels), None)
        hint = "" if ignore_suffix else suffix_hint(unlabelled, benchmarks)
        raise EvaluationError(
            f"{where}: none of the {len(predictions)} predictions has a label; the first is about "
            f"{predictions[0].video_id!r}, the labels' first about {label.video_id if label else None!r}. A video is "
            f"named by DATASET/path, or by its path inside the labels' folder{hint}"
        )
    return matched, unlabelled


def suffix_hint(unlabelled: Sequence[Prediction], benchmarks: Sequence[Benchmark]) -> str:
    """What to add to a message about predictions without a label, where some would have one without their suffix."""
    try:
        matching = len(unlabelled) - len(match(unlabelled, benchmarks, ignore_suffix=True)[1])
    except EvaluationError:  # two of them would fit one label
        return ""
    if not matching:
        return ""
    return f"; {matching} of the names differ from a label's in their suffix only: pass --ignore-suffix"


def _is_prepared(source: LabelSource) -> bool:
    """Whether a file is a parquet of `vqathinker prepare`, by its columns, whatever the options say of other files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.labels.suffix.lower() != ".parquet" or not source.labels.is_file():
        return False
    if source.dataset is None:
        return True  # else reading it reports the fault
    try:
        return {"reward_model", "extra_info"} <= set(pq.read_schema(source.labels).names)
    except (OSError, pa.ArrowException):
        return False


def _of_parquet(path: Path) -> dict[str, list[Label]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels: dict[str, list[Label]] = defaultdict(list)
    try:
        rows = pq.read_table(path, columns=["data_source", "reward_model", "extra_info"]).to_pylist()
        for row in rows:
            info = row["extra_info"]
            mos = float(row["reward_model"]["ground_truth"])
            labels[row["data_source"]].append(Label(info["video_id"], info["video"], mos, info["path"]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # pyarrow adds the whole schema
        raise EvaluationError(
            f"{path}: expected a parquet file of `vqathinker prepare` ({reason}); for other parquet labels pass "
            "--dataset NAME"
        ) from error
    if not rows:
        raise EvaluationError(f"{path}: no labels in the file")
    return labels


def _of_label_file(source: LabelSource, registry: Registry) -> dict[str, list[Label]]:
    try:
        guesses: list[str] = []
        raw, scale = load(source, registry, guesses=guesses)
    except LabelError as error:
        raise EvaluationError(str(error)) from error
    for guess in guesses:
        logger.warning("%s: guessed %s", source.labels, guess)
    # Metrics are compared over whole benchmarks, so a faulty label stops, where `prepare` would set it aside.
    records, rejects, _ = check_labels(
        raw, scale, source.video_root, allow_missing=True, follow_links=source.follow_links, registry=registry
    )
    if rejects:
        first = rejects[0]
        raise EvaluationError(
            f"{first.label.where}: {first.label.video!r}: {first.reason} ({len(rejects)} faulty labels in "
            f"{source.labels}); mend them, or set them aside with `vqathinker prepare` and give its parquet"
        )
    labels: dict[str, list[Label]] = defaultdict(list)
    for record in records:
        path = record.path if source.video_root is not None else None
        labels[record.label.dataset].append(Label(record.video_id, record.video, record.mos, path))
    return labels


def _checked(name: str, labels: list[Label]) -> Benchmark:
    seen: set[str] = set()
    for label in labels:
        if normal_name(label.video_id) in seen:
            raise EvaluationError(f"{name}: {label.video_id} is labelled twice; expected one label a video")
        seen.add(normal_name(label.video_id))
        if not math.isfinite(label.mos):
            raise EvaluationError(f"{name}: {label.video_id}: MOS {label.mos}; expected a finite number")
    return Benchmark(name, tuple(labels))
