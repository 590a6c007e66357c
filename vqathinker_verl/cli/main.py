"""The `vqathinker` command: one subcommand per module, imported only when it is called.

A subcommand's module defines `configure(parser)`, which adds its arguments, and `run(args) -> int`, whose value is
the exit code: 0 done, 1 done with faults that were reported, 2 not done (invalid arguments or input). EXAMPLE and
EXIT_CODES of the module are shown at the end of its help.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from vqathinker_verl import __version__
from vqathinker_verl.checks import did_you_mean
from vqathinker_verl.cli.extras import missing_dependency

# group -> subcommand -> (module, one line of help)
GROUPS = {
    "data": {
        "prepare": ("vqathinker_verl.cli.prepare", "check label files and videos, write the parquet to train on"),
        "synthesize": ("vqathinker_verl.cli.synthesize", "make chains of known order, to train on without labels"),
        "demo": ("vqathinker_verl.cli.demo", "make a tiny model and clips, to try everything without a GPU or data"),
    },
    "train": {
        "plan": ("vqathinker_verl.cli.plan", "show a recipe's config, tokens, steps and memory before it runs"),
        "doctor": ("vqathinker_verl.cli.doctor", "check versions, plugin, device, decoder, disk and memory"),
        "train": ("vqathinker_verl.cli.train", "train a model; without data of your own, the demo"),
        "watch": ("vqathinker_verl.cli.watch", "show the screen of a run started elsewhere, or ended"),
        "summary": ("vqathinker_verl.cli.summary", "print a training run's tables and draw its plots"),
        "export": ("vqathinker_verl.cli.export", "turn a training checkpoint into a Hugging Face model"),
    },
    "use": {
        "score": ("vqathinker_verl.cli.score", "score videos, with the model's reasoning"),
        "compare": ("vqathinker_verl.cli.compare", "tell which of two videos is better, or rank several"),
        "ui": ("vqathinker_verl.cli.ui", "serve a web page that scores and compares videos"),
        "serve": ("vqathinker_verl.cli.serve", "serve scores over HTTP, to programs and other training runs"),
        "describe": ("vqathinker_verl.cli.describe", "write quality descriptions for a judge to rate"),
    },
    "measure": {
        "evaluate": ("vqathinker_verl.cli.evaluate", "compare predictions with labels: tables, files and a report"),
        "calibrate": ("vqathinker_verl.cli.calibrate", "map a model's scores to the level of your labels"),
        "understand": ("vqathinker_verl.cli.understand", "measure the accuracy of answers to questions on videos"),
        "reasoning": (
            "vqathinker_verl.cli.reasoning",
            "check what the reasoning names against labels",
        ),
    },
}
COMMANDS = {name: entry for commands in GROUPS.values() for name, entry in commands.items()}
EXAMPLE = "vqathinker score clips/ --model outputs/model --output scores.jsonl"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks of descriptions, and ends an option's help with its default if it has a plain one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        """The positional arguments only: the options are listed below, and prepare has 30 of them."""
        positional = [action for action in actions if not action.option_strings]
        if usage is None and len(positional) < len(actions):
            text = super()._format_usage(usage, positional, [], prefix)
            return text.replace(self._prog, f"{self._prog} [options]", 1)
        return super()._format_usage(usage, actions, groups, prefix)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        plain = isinstance(action.default, int | float | str) and not isinstance(action.default, bool)
        if not plain or action.default in ("", argparse.SUPPRESS) or "default:" in text:
            return text
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """Reports a wrong call in one line, with the closest name that exists."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"formatter_class": HelpFormatter}))

    def error(self, message: str) -> NoReturn:
        """Print the message and where the help is; exit with code 2."""
        if choice := re.match(r"argument COMMAND: invalid choice: '([^']*)'", message):
            message = f"no command {choice[1]!r}{did_you_mean(choice[1], COMMANDS)}"
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def reject(self, arguments: Sequence[str]) -> NoReturn:
        """Report arguments that mean nothing; the first one with the closest option."""
        name = arguments[0].partition("=")[0]
        options = [option for option in self._option_string_actions if option.startswith("--")]
        self.error(f"unrecognized argument {arguments[0]}{did_you_mean(name, options)}")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only the subcommand named `command` gets its arguments (and its module imported)."""
    return _parsers(command)[0]


def _parsers(command: str | None) -> tuple[Parser, Parser]:
    """The parser of the whole command and that of the subcommand, the same one without a subcommand."""
    parser = Parser(
        prog="vqathinker",
        usage="vqathinker [--version] COMMAND ...",
        description=f"Video quality models trained by GRPO with verl.\n\n{_overview()}",
        epilog=f"example:\n  {EXAMPLE}\n\nvqathinker COMMAND --help shows a command's options, an example and its exit "
        "codes.",
    )
    parser.add_argument("--version", action="version", version=f"vqathinker_verl {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    chosen = parser
    for name, (module_name, help_text) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, prog=f"vqathinker {name}", description=f"{help_text[0].upper()}{help_text[1:]}."
        )
        if name == command:
            module = import_module(module_name)
            module.configure(subparser)
            subparser.epilog = f"example:\n{_indented(module.EXAMPLE)}\n\nexit codes:\n{_indented(module.EXIT_CODES)}"
            subparser.set_defaults(run=module.run)
            chosen = subparser
    return parser, chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = next((arg for arg in argv if not arg.startswith("-")), None)
    try:
        return _run(argv, command)
    except KeyboardInterrupt:
        print("vqathinker: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if command not in COMMANDS or (text := missing_dependency(error, command)) is None:
            raise
        print(f"vqathinker {command}: {text}", file=sys.stderr)
        return 2
    except OSError as error:  # a file or folder that a command could not write or read
        print(f"vqathinker {command}: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 2


def _run(argv: list[str], command: str | None) -> int:
    parser, subparser = _parsers(command)
    takes_overrides = any(action.dest == "overrides" for action in subparser._actions)
    end = argv.index("--") if takes_overrides and "--" in argv else len(argv)
    args, unknown = parser.parse_known_args(argv[:end])
    if takes_overrides:
        # argparse takes positional arguments in one piece; overrides may stand between options, too.
        args.overrides = [*args.overrides, *(item for item in unknown if not item.startswith("-")), *argv[end + 1 :]]
        unknown = [item for item in unknown if item.startswith("-")]
    if unknown:
        subparser.reject(unknown)
    return int(args.run(args))


def _overview() -> str:
    lines = []
    for group, commands in GROUPS.items():
        lines.append(f"{group}:")
        lines += [f"  {name:12}{help_text}" for name, (_, help_text) in commands.items()]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
