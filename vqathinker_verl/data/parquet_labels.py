"""Parquet labels, plain or of Hugging Face `datasets`: a file or a folder of shards, videos as paths or bytes."""

import hashlib
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError
from vqathinker_verl.files import write_bytes

# How a video container or an image begins: bytes at an offset, and the suffix of the file to write. The first that fits
# counts: WebP is RIFF, too.
MAGIC = (
    (4, b"ftyp", ".mp4"), (0, b"\x1a\x45\xdf\xa3", ".mkv"), (8, b"WEBP", ".webp"), (0, b"RIFF", ".avi"),
    (0, b"FLV", ".flv"), (0, b"\x89PNG", ".png"), (0, b"\xff\xd8\xff", ".jpg"), (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"), (0, b"MM\0*", ".tif"),
)  # fmt: skip

Row = dict[str, str]


def shards(path: Path) -> list[Path]:
    """The parquet files of a path: itself, or all in the folder in the order of their names."""
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def read_parquet(path: Path, columns: tuple[str, ...], video_dir: Path | None) -> list[tuple[str, Row]]:
    """Rows of parquet labels as text.

    Args:
        path: A parquet file, or a folder of shards.
        columns: Columns to read; those that do not exist are reported by the caller.
        video_dir: Folder that videos stored as bytes are written to; they are named by their hash. None: they are
            named alike and not written, which is enough to match predictions.

    Raises:
        LabelError: A file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple[str, Row]] = []
    for shard in shards(path):
        try:
            with pq.ParquetFile(shard) as file:
                names = file.schema_arrow.names
                # All columns where one is missing, so that the message can list them; a batch holds few videos.
                chosen = [name for name in dict.fromkeys(columns) if name in names]
                unread = {name: "" for name in names if name not in chosen}
                for batch in file.iter_batches(batch_size=16, columns=chosen):
                    for entry in batch.to_pylist():
                        where = f"{shard.name}: row {len(rows) + 1}"
                        cells = {name: _cell(value, video_dir) for name, value in entry.items()}
                        rows.append((where, {**unread, **cells}))
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise LabelError(f"{shard}: cannot be read as parquet ({reason})") from error
    return rows


def _cell(value: Any, video_dir: Path | None) -> str:
    if isinstance(value, list):
        value = value[0] if value else None
    name = None
    if isinstance(value, dict):
        name, data = value.get("path"), value.get("bytes")
        value = data if data is not None else name
    if isinstance(value, bytes):
        return _written(value, name, video_dir)
    return "" if value is None else str(value).strip()


def _written(data: bytes, name: str | None, folder: Path | None) -> str:
    """Write a video once, if there is a folder for it, and return its name, the hash of its bytes."""
    suffix = next((end for start, magic, end in MAGIC if data[start : start + len(magic)] == magic), None)
    suffix = suffix or (Path(name).suffix.lower() if name else "") or ".mp4"
    name = f"{hashlib.sha256(data).hexdigest()}{suffix}"
    if folder is not None and not (folder / name).exists():
        write_bytes(folder / name, data)
    return name
