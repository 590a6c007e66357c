"""`vqathinker watch OUTPUT_DIR`: show the screen of a run that was started elsewhere or has ended."""

import argparse
import sys
from pathlib import Path

from vqathinker_verl.runner.console import RunConsole
from vqathinker_verl.runner.display import show_ending
from vqathinker_verl.runner.facts import shown_path
from vqathinker_verl.runner.metrics_log import read_metrics, series
from vqathinker_verl.runner.record import FILE, read_record, silent_seconds

EXAMPLE = "vqathinker watch outputs/vqathinker"
EXIT_CODES = "0: the run succeeded; 1: it failed, or its launcher was killed; 2: there is no run"
SILENT_SECONDS = 60.0  # an active run writes a line of memory.jsonl every five seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="output folder of the run")


def run(args: argparse.Namespace) -> int:
    """Show the run until it has ended; return 0 if it succeeded, 1 if not, 2 if there is no run."""
    folder: Path = args.output_dir
    if not read_record(folder).starts:
        print(f"vqathinker watch: {folder}: no {FILE}; expected the OUTPUT_DIR of a run", file=sys.stderr)
        return 2
    broken: list[str] = []
    console = RunConsole(folder, 0, sys.stdout, broken.append, watched=True)
    console.start()
    start, silent = read_record(folder).starts[-1], False
    try:
        while console.is_alive() and not console.ended.wait(1.0) and not silent:
            start = read_record(folder).starts[-1]
            silent = start.ended is None and silent_seconds(start, folder) > SILENT_SECONDS
    finally:  # also at Ctrl-C: it shows the cursor again
        console.close()
    if broken:
        print(f"vqathinker watch: the screen stopped:\n{broken[0]}", file=sys.stderr)
        return 1
    metrics = read_metrics(folder)
    if series(metrics, "timing_s/step"):
        show_ending(metrics, folder)
    start = read_record(folder).starts[-1]
    if start.code == 0:
        return 0
    if start.ended is None:
        message = f"the run has written nothing for {silent_seconds(start, folder):.0f} s; its launcher was killed, or "
        message += "it is on a node whose files cannot be seen from here"
    else:
        message = f"the run stopped with exit code {start.code}. Reason: {start.reason or 'none was printed'}"
    print(f"vqathinker watch: {message}\nvqathinker watch: log: {shown_path(folder)}/train.log", file=sys.stderr)
    return 1
