"""The `vqathinker` command: one subcommand a module, imported only when it is called.

A subcommand's module defines `configure(parser)`, which adds its arguments, and `run(args) -> int`, whose value is
the exit code: 0 done, 1 done with faults that were reported, 2 not done (bad arguments or input).
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from vqathinker_verl import __version__

# subcommand -> (module, one line of help)
COMMANDS = {
    "prepare": ("vqathinker_verl.labels.cli", "turn label files into the parquet that verl trains on"),
    "plan": ("vqathinker_verl.plan.cli", "what a recipe would take: config, tokens, steps, memory"),
    "demo": ("vqathinker_verl.demo.cli", "make the tiny model and the clips for a run without a GPU or data"),
    "score": ("vqathinker_verl.inference.cli", "score videos with a trained model, through vLLM or transformers"),
    "ui": ("vqathinker_verl.inference.ui_cli", "a page in the browser: drop a video, see frames, score and reasoning"),
    "export": ("vqathinker_verl.inference.export_cli", "turn a training checkpoint into a Hugging Face folder"),
    "describe": ("vqathinker_verl.understanding.describe_cli", "what a model says of quality, as a packet for a judge"),
    "doctor": ("vqathinker_verl.doctor", "show versions, plugin, device, decoder, disk and memory"),
    "evaluate": ("vqathinker_verl.evaluation.cli", "figures, tables and a report of predictions against labels"),
    "understand": ("vqathinker_verl.understanding.cli", "accuracy of a model's answers to questions about videos"),
    "reasoning": ("vqathinker_verl.understanding.reasoning_cli", "what the reasoning names against what is true"),
    "watch": ("vqathinker_verl.runner.watch_cli", "the screen of a training run that was started elsewhere, or ended"),
    "summary": ("vqathinker_verl.summary", "table and plots of a training run from its metrics.jsonl"),
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only the subcommand named `command` gets its arguments (and its module imported)."""
    parser = argparse.ArgumentParser(prog="vqathinker", description="Video quality models trained by GRPO with verl.")
    parser.add_argument("--version", action="version", version=f"vqathinker_verl {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, help_text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        if name == command:
            module = import_module(module_name)
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = next((arg for arg in argv if not arg.startswith("-")), None)
    args = build_parser(command).parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("vqathinker: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
