"""What is written of the chains beside their clips: verl's parquet, a contact sheet, and a summary."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker_verl.data.output import write_atomically
from vqathinker_verl.prompts import video_messages
from vqathinker_verl.synthesis.chains import Chain
from vqathinker_verl.synthesis.encoding import decode

_SHEET_ROWS, _SHEET_HEIGHT = 56, 120  # chains on the contact sheet, and pixels per picture


def chain_rows(chains: Sequence[Chain], folder: Path, *, dataset: str, split: str, prompt: str) -> list[dict[str, Any]]:
    """One row of verl's RLHF parquet per clip. There is no MOS (NaN); `extra_info` has the order (docs/data.md)."""
    rows: list[dict[str, Any]] = []
    for chain in chains:
        for step in chain.steps:
            path = str(folder / step.video)
            rows.append(
                {
                    "data_source": dataset,
                    "prompt": video_messages(prompt),
                    "videos": [{"video": path}],
                    "ability": "video_quality",
                    "reward_model": {"style": "rule", "ground_truth": float("nan")},
                    "extra_info": {
                        "index": len(rows),
                        "split": split,
                        "video": step.video,
                        "path": path,
                        "mos_raw": None,
                        "mos_min": None,
                        "mos_max": None,
                        "video_id": f"{dataset}/{step.video}",
                        "total_frames": chain.total_frames,
                        "fps": chain.fps,
                        "height": chain.height,
                        "width": chain.width,
                        "chain": f"{dataset}/{chain.chain}",
                        "strength": step.strength,
                        "distortion": chain.distortion,
                    },
                }
            )
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the parquet; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, integer = pa.string(), pa.float64(), pa.int64()
    info = {
        **dict.fromkeys(("split", "video", "path", "video_id", "chain", "distortion"), text),
        **dict.fromkeys(("mos_raw", "mos_min", "mos_max", "fps", "strength"), number),
        **dict.fromkeys(("index", "total_frames", "height", "width"), integer),
    }
    schema = pa.schema(
        {
            "data_source": text,
            "prompt": pa.list_(pa.struct({"role": text, "content": text})),
            "videos": pa.list_(pa.struct({"video": text})),
            "ability": text,
            "reward_model": pa.struct({"style": text, "ground_truth": number}),
            "extra_info": pa.struct({name: info[name] for name in (rows[0]["extra_info"] if rows else info)}),
        }
    )
    table = pa.Table.from_pylist(list(rows), schema=schema)
    write_atomically(path, lambda partial: pq.write_table(table, partial, compression="zstd"))


def write_rejects(path: Path, failed: Mapping[str, str]) -> None:
    """List the source videos that failed, with the reason; without any, remove the list of an earlier run."""
    if not failed:
        path.unlink(missing_ok=True)
        return

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["video", "reason"])
            writer.writerows(failed.items())

    write_atomically(path, write)


def draw_contact_sheet(path: Path, chains: Sequence[Chain], folder: Path) -> None:
    """Write a JPEG with the middle frame of each clip: one row per chain, from weak to strong.

    At most 56 chains are drawn, spread over all of them.
    """
    from PIL import Image, ImageDraw

    chosen = [
        chains[row] for row in np.unique(np.linspace(0, len(chains) - 1, min(len(chains), _SHEET_ROWS)).astype(int))
    ]
    width, label = _SHEET_HEIGHT * 16 // 9, 14
    columns = max(len(chain.steps) for chain in chosen)
    sheet = Image.new("RGB", (columns * width, len(chosen) * (_SHEET_HEIGHT + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, chain in enumerate(chosen):
        top = row * (_SHEET_HEIGHT + label)
        for column, step in enumerate(chain.steps):
            frame = decode((folder / step.video).read_bytes(), np.array([chain.total_frames // 2]))[0]
            picture = Image.fromarray(frame)
            picture.thumbnail((width, _SHEET_HEIGHT))
            sheet.paste(picture, (column * width, top + label))
            text = f"{chain.distortion} {step.strength:g}" + ("" if column == 0 else f"  SSIM {step.similarity:.3f}")
            draw.text((column * width + 2, top + 1), text, fill="black")
    write_atomically(path, lambda partial: sheet.save(partial, format="JPEG", quality=85))


def summary_lines(made: Sequence[Chain], kept: Sequence[Chain]) -> list[str]:
    """One line per distortion: chains, clips, dropped steps, chains left out, and the mean SSIM of a step."""
    lines = ["distortion    chains  clips  steps dropped  chains left out  SSIM of a step"]
    for distortion in dict.fromkeys(chain.distortion for chain in made):
        members = [chain for chain in made if chain.distortion == distortion]
        good = [chain for chain in kept if chain.distortion == distortion]
        steps = [step.similarity for chain in good for step in chain.steps[1:]]
        mean = f"{np.mean(steps):.3f}" if steps else "-"
        lines.append(
            f"{distortion:13} {len(good):6} {sum(len(chain.steps) for chain in good):6} "
            f"{sum(len(chain.dropped) for chain in members):14} {len(members) - len(good):16} {mean:>15}"
        )
    return lines
