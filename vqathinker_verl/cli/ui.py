"""`vqathinker ui`: serve a web page that scores videos."""

import argparse
import sys

from vqathinker_verl.inference.engines import EngineError
from vqathinker_verl.inference.options import add_engine_options, add_question_options, asking_from
from vqathinker_verl.inference.quiet import quiet_libraries

EXAMPLE = "vqathinker ui --model outputs/model --num-samples 8"
EXIT_CODES = "0: stopped by Ctrl-C; 2: the page could not be served"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker ui`."""
    page = parser.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="127.0.0.1 can be reached only from "
                      "this machine; the page has no password")  # fmt: skip
    page.add_argument("--port", type=int, default=7860, metavar="N", help="port of the page")
    add_engine_options(parser)
    add_question_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted; return 2 if it cannot be served."""
    import gradio  # noqa: F401 - before the model is loaded

    from vqathinker_verl.inference.ui import build_page, serve

    quiet_libraries()
    try:
        model = args.model
        asking = asking_from(args)
        engine = asking.open()
        page = build_page(engine, model, prompt=asking.prompt, samples=asking.num_samples)
        print(f"vqathinker ui: http://{args.host}:{args.port} (Ctrl-C stops)", flush=True)
        serve(page, args.host, args.port)
    except (ValueError, OSError, EngineError) as error:
        print(f"vqathinker ui: {error}", file=sys.stderr)
        return 2
    return 0
