"""Predictions as one HTML page that needs nothing else: a picture, the score and the reasoning of each video.

File names and responses may hold any text. Jinja2 escapes every value, and the page's own policy allows no other script
than the one below, by its digest, and nothing that is not inside the page.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vqathinker_verl.files import write_bytes
from vqathinker_verl.frames import VideoError
from vqathinker_verl.frames.pictures import thumbnail
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.progress import Progress
from vqathinker_verl.inference.scoring import reasoning_of
from vqathinker_verl.inference.table import summary_of
from vqathinker_verl.prompts import SCORE_RANGE

DECODERS = 2
MAX_REASONING_CHARACTERS = 4000

# Sorts the rows by the column whose title is pressed, the other way round when it is pressed again. Rows without a
# value stay last.
SCRIPT = """
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = document.querySelector("tbody");
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const value = row => row.cells[head.cellIndex].dataset.value ?? "";
    const numeric = head.dataset.kind === "number";
    const order = (a, b) => numeric ? a - b : a.localeCompare(b);
    const rows = [...body.rows].sort((one, other) => {
      const a = value(one), b = value(other);
      if (a === "" || b === "") return (a === "") - (b === "");
      return rising ? order(a, b) : order(b, a);
    });
    body.append(...rows);
  });
}
"""


@dataclass(frozen=True)
class Row:
    """One video of the page; `picture` is a picture's address, or `no_picture` says why there is none."""

    prediction: Prediction
    reasoning: str
    place: float
    picture: str
    no_picture: str


def write_page(
    lines: Sequence[Prediction],
    videos: Mapping[str, Path],
    path: Path,
    *,
    model: str,
    notes: Sequence[str] = (),
    timeout_seconds: float = 20.0,
) -> None:
    """Write the page.

    Args:
        lines: The predictions, in the order of the page.
        videos: Video files by video_id, for the pictures.
        path: The file.
        model: What to call the model.
        notes: What a reader must know of the scores, one sentence each.
        timeout_seconds: Longest time to decode one video.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def picture(line: Prediction) -> tuple[str, str]:
        if line.error is not None:
            return "", ""
        try:
            return thumbnail(videos[line.video_id], timeout_seconds=timeout_seconds), ""
        except VideoError as error:
            return "", str(error)

    rows = []
    with ThreadPoolExecutor(DECODERS) as pool, Progress(len(lines), desc="pictures") as shown:
        for line, (address, reason) in zip(lines, pool.map(picture, lines), strict=True):
            rows.append(Row(line, _reasoning(line), _place(line.pred_mos), address, reason))
            shown.update()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(isnan=math.isnan)
    template = environment.from_string(
        files("vqathinker_verl.inference").joinpath("score_page.html.jinja").read_text("utf-8")
    )
    page = template.render(
        rows=rows,
        model=model,
        notes=[*notes, *summary_of(lines)],
        with_spread=any(not math.isnan(line.pred_mos_std) for line in lines),
        with_raw=any(line.pred_mos_raw is not None for line in lines),
        script=Markup(SCRIPT),
        script_digest=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
    )
    # A file name may hold bytes that are no UTF-8.
    write_bytes(path, page.encode("utf-8", "backslashreplace"))


def _reasoning(line: Prediction) -> str:
    text = reasoning_of(line.response or "")
    if len(text) <= MAX_REASONING_CHARACTERS:
        return text
    return f"{text[:MAX_REASONING_CHARACTERS]}… ({len(text)} characters in all)"


def _place(score: float) -> float:
    """A score's place between the lowest and the highest, in percent."""
    lowest, highest = SCORE_RANGE
    return 0.0 if math.isnan(score) else 100 * (min(max(score, lowest), highest) - lowest) / (highest - lowest)
