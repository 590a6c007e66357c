"""Write checked records: verl's parquet and the quarantine file, each complete or not at all."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError, Record, Reject
from vqathinker_verl.files import write_atomically
from vqathinker_verl.frames.suffixes import is_image
from vqathinker_verl.prompts import question_about, video_messages

INFO_FIELDS = {  # of `extra_info`, in order, with their Arrow types
    "index": "int64", "split": "string", "video": "string", "path": "string", "mos_raw": "float64",
    "mos_min": "float64", "mos_max": "float64", "video_id": "string", "total_frames": "int64", "fps": "float64",
    "height": "int64", "width": "int64",
}  # fmt: skip


def verl_row(dataset: str, path: str, mos: float, prompt: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """One row of verl's RLHF parquet (docs/data.md); `info` has INFO_FIELDS."""
    return {
        "data_source": dataset,
        "prompt": video_messages(question_about(prompt, image=is_image(path))),
        "videos": [{"video": path}],
        "ability": "video_quality",
        "reward_model": {"style": "rule", "ground_truth": mos},
        "extra_info": {"path": path, **info},
    }


def _row_of(record: Record, index: int, split: str, prompt: str) -> dict[str, Any]:
    info = record.info
    return verl_row(
        record.label.dataset,
        record.path,
        record.mos,
        prompt,
        {
            "index": index,
            "split": split,
            "video": record.video,
            "mos_raw": record.mos_raw,
            "mos_min": record.scale[0],
            "mos_max": record.scale[1],
            "video_id": record.video_id,
            # What the video has, null where the video was not opened: token counts need no second look.
            "total_frames": info.total_frames if info else None,
            "fps": info.fps if info else None,
            "height": info.height if info else None,
            "width": info.width if info else None,
        },
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], more_info: Mapping[str, str] | None = None) -> None:
    """Write rows of verl's RLHF parquet; equal rows give equal bytes.

    Args:
        path: The file.
        rows: As of `verl_row`.
        more_info: Further fields of `extra_info`, with their Arrow types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    # Stated in full, so that files with and without a null column can be read as one set.
    schema = pa.schema(
        {
            "data_source": text,
            "prompt": pa.list_(pa.struct({"role": text, "content": text})),
            "videos": pa.list_(pa.struct({"video": text})),
            "ability": text,
            "reward_model": pa.struct({"style": text, "ground_truth": number}),
            "extra_info": pa.struct(
                {name: pa.type_for_alias(kind) for name, kind in {**INFO_FIELDS, **(more_info or {})}.items()}
            ),
        }
    )
    table = pa.Table.from_pylist(list(rows), schema=schema)
    write_atomically(path, lambda partial: pq.write_table(table, partial, compression="zstd"))


def write_parquet(path: Path, records: Sequence[Record], split: str, prompt: str) -> None:
    """Write verl's RLHF parquet; equal records give equal bytes."""
    write_rows(path, [_row_of(record, index, split, prompt) for index, record in enumerate(records)])


def read_keys(paths: Sequence[Path]) -> dict[str, str]:
    """Ids and paths of the videos in parquet files written by `write_parquet`, each with its file's name.

    Raises:
        LabelError: A file is not such a parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys: dict[str, str] = {}
    for path in paths:
        try:
            rows = pq.read_table(path, columns=["extra_info"]).column("extra_info").to_pylist()
            keys.update((row[field], path.name) for row in rows for field in ("video_id", "path"))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise LabelError(f"{path}: expected a parquet file of `vqathinker prepare` ({reason})") from error
    return keys


LONGEST = 2000  # characters of a cell; beyond 131,072 Python's own reader refuses the file


def clipped(text: str) -> str:
    """`text`, cut where it is longer than a reader wants it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


LISTED = 20  # names in a message


def listed(names: Sequence[str]) -> str:
    """Names for a message; beyond LISTED their number only."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def write_quarantine(path: Path, rejects: Sequence[Reject]) -> None:
    """Write every rejected row with its reason; without any, remove the list of an earlier run."""
    rows = []
    for reject in rejects:
        label = reject.label
        rows.append([clipped(cell) for cell in (label.where, label.dataset, label.video, label.mos, reject.reason)])
    write_rejects(path, ("where", "dataset", "video", "mos", "reason"), rows)


def write_rejects(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write what was rejected as CSV; without any, remove the list of an earlier run."""
    if not rows:
        path.unlink(missing_ok=True)
        return

    def write(partial: Path) -> None:
        # A rejected row may hold what is no valid text; it must be listed all the same.
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_atomically(path, write)
