"""The files of the chains in addition to their clips: verl's parquet, a contact sheet, and a summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker_verl.data.output import verl_row
from vqathinker_verl.files import write_atomically
from vqathinker_verl.synthesis.chains import Chain
from vqathinker_verl.synthesis.encoding import decode
from vqathinker_verl.text_tables import aligned

CHAIN_FIELDS = {"chain": "string", "strength": "float64", "distortion": "string"}  # not in labelled rows
_SHEET_ROWS, _SHEET_HEIGHT = 56, 120  # chains on the contact sheet, and pixels per picture


def chain_rows(chains: Sequence[Chain], folder: Path, *, dataset: str, split: str, prompt: str) -> list[dict[str, Any]]:
    """One row of verl's RLHF parquet per clip. There is no MOS (NaN); `extra_info` has the order (docs/data.md)."""
    rows: list[dict[str, Any]] = []
    for chain in chains:
        for step in chain.steps:
            rows.append(
                verl_row(
                    dataset,
                    str(folder / step.video),
                    float("nan"),
                    prompt,
                    {
                        "index": len(rows),
                        "split": split,
                        "video": step.video,
                        "video_id": f"{dataset}/{step.video}",
                        "total_frames": chain.total_frames,
                        "fps": chain.fps,
                        "height": chain.height,
                        "width": chain.width,
                        "chain": f"{dataset}/{chain.chain}",
                        "strength": step.strength,
                        "distortion": chain.distortion,
                    },
                )
            )
    return rows


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


SUMMARY = ("distortion", "chains", "clips", "steps dropped", "chains left out", "SSIM of a step")


def summary_table(made: Sequence[Chain], kept: Sequence[Chain]) -> str:
    """One line per distortion: chains, clips, dropped steps, chains left out, and the mean SSIM of a step."""
    rows = []
    for distortion in dict.fromkeys(chain.distortion for chain in made):
        members = [chain for chain in made if chain.distortion == distortion]
        good = [chain for chain in kept if chain.distortion == distortion]
        steps = [step.similarity for chain in good for step in chain.steps[1:]]
        mean = f"{np.mean(steps):.3f}" if steps else "-"
        clips, dropped = sum(len(chain.steps) for chain in good), sum(len(chain.dropped) for chain in members)
        rows.append([distortion, str(len(good)), str(clips), str(dropped), str(len(members) - len(good)), mean])
    return aligned(SUMMARY, rows)
