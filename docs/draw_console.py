"""Draw docs/images/console.svg: the screen of a real run as it was after one of its steps.

python docs/draw_console.py outputs/vqathinker --step 16
"""

import argparse
import dataclasses
import io
import json
import re
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from vqathinker_verl.runner.events import RunReader
from vqathinker_verl.runner.facts import shown_path
from vqathinker_verl.runner.record import read_record
from vqathinker_verl.runner.screen import Screen


def as_it_was(output_dir: Path, step: int, folder: Path) -> None:
    """Copy what the screen reads of a run's last start, up to the moment when `step` was done, into `folder`."""
    record = read_record(output_dir)
    start = record.starts[-1]
    until = (output_dir / "rollouts" / f"{step + 1}.jsonl").stat().st_mtime
    record.starts = [dataclasses.replace(start, ended=until, metrics="0000")]
    record.save(folder)
    lines = (output_dir / "metrics" / f"{start.metrics}.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "metrics").mkdir()
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    (folder / "metrics" / "0000.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    samples = (output_dir / "memory.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for line in samples if json.loads(line)["time"] <= until]
    (folder / "memory.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "rollouts").symlink_to(output_dir.absolute() / "rollouts")


def main() -> None:
    """Read the run, print its screen, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", type=Path, help="OUTPUT_DIR of a run")
    parser.add_argument("--step", type=int, required=True, help="the step that has just been done")
    parser.add_argument("--width", type=int, default=100, help="columns")
    args = parser.parse_args()
    console = Console(record=True, width=args.width, file=io.StringIO(), force_terminal=True, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        as_it_was(args.output_dir, args.step, Path(folder))
        reader = RunReader(Path(folder))
        screen = Screen(shown_path(args.output_dir), reader.state)
        for event in reader.poll():
            for line in screen.lines(event, args.width):
                console.print(line)
        console.print(*screen.pinned(args.width), sep="\n")
    path = Path(__file__).parent / "images" / "console.svg"
    # Without rich's fonts from the network: a page shows the picture in a monospaced font of its own.
    drawing = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(path), title="bash recipes/run_vqathinker.sh", code_format=drawing)


if __name__ == "__main__":
    main()
