"""`vqathinker ui`: a page in the browser that scores videos."""

import argparse
import sys
from pathlib import Path

from vqathinker_verl.inference.engines import EngineError, open_engine
from vqathinker_verl.inference.options import add_engine_options, engine_settings

EXAMPLE = "vqathinker ui --model outputs/model --samples 8"
EXIT_CODES = "0: stopped by Ctrl-C; 2: the page could not be served"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker ui`."""
    add_engine_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default %(default)s: from this machine only")
    parser.add_argument("--port", type=int, default=7860, help="default %(default)s")


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted; 2 if it cannot be served."""
    try:
        import gradio  # noqa: F401 - before the model is loaded

        from vqathinker_verl.inference.ui import build_page, serve

        engine = open_engine(args.model, **engine_settings(args))
        serve(build_page(engine, Path(args.model).name), args.host, args.port)
    except ModuleNotFoundError as error:
        print(f"vqathinker ui: {error}; install requirements/ui.txt, or vqathinker-verl[ui]", file=sys.stderr)
        return 2
    except (ValueError, OSError, EngineError) as error:
        print(f"vqathinker ui: {error}", file=sys.stderr)
        return 2
    return 0
