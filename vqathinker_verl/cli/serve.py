"""`vqathinker serve`: scores over HTTP."""

import argparse
import ipaddress
import os
import sys
from pathlib import Path

from vqathinker_verl.inference.engines import EngineError
from vqathinker_verl.inference.options import (
    add_calibration_option,
    add_engine_options,
    add_question_options,
    asking_from,
)
from vqathinker_verl.inference.quiet import quiet_libraries

EXAMPLE = "vqathinker serve --model outputs/model --video-root /data/clips"
EXIT_CODES = """0: stopped by SIGTERM or Ctrl-C
1: stopped, but what was being scored was not finished in time (--grace)
2: the service could not be started"""
IDLE_SECONDS = 5.0  # for threads to end whose results nobody waits for any more
TOKEN_VARIABLE = "VQATHINKER_TOKEN"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker serve`."""
    access = parser.add_argument_group("address and access")
    access.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="127.0.0.1: from this machine only; "
                        "another address needs a token")  # fmt: skip
    access.add_argument("--port", type=int, default=8000, metavar="N", help="0: any free port, which is printed")
    access.add_argument("--token-file", type=Path, metavar="FILE", help="holds the token that requests must "
                        f"send as Authorization: Bearer TOKEN (default: {TOKEN_VARIABLE} of the environment, or "
                        "none)")  # fmt: skip
    access.add_argument("--video-root", dest="roots", type=Path, action="append", metavar="DIR", help="accept "
                        "paths of videos under this folder; may be repeated (default: uploads only)")  # fmt: skip
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-upload-mb", type=float, default=256.0, metavar="MB", help="largest request; else 413")
    limits.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="longest time for a request, "
                        "its upload and its wait included; else 408")  # fmt: skip
    limits.add_argument("--max-queue", type=int, default=128, metavar="N", help="most requests that wait; else 429")
    limits.add_argument("--batch-size", type=int, default=32, metavar="N", help="most videos that are scored together")
    limits.add_argument("--batch-wait-ms", type=float, default=10.0, metavar="MS", help="how long a batch waits for "
                        "more requests")  # fmt: skip
    limits.add_argument("--grace", type=int, default=30, metavar="SECONDS", help="longest wait at the end for what is "
                        "being scored")  # fmt: skip
    add_engine_options(parser)
    add_question_options(parser)
    add_calibration_option(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; 2 if that cannot be begun."""
    # Before the model is loaded; Starlette imports the last one only when a form arrives.
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn  # noqa: F401

    quiet_libraries()
    try:
        return _serve(args)
    except (ValueError, OSError, EngineError) as error:
        print(f"vqathinker serve: {error}", file=sys.stderr)
        return 2


def _serve(args: argparse.Namespace) -> int:
    from vqathinker_verl.inference.scorer import VideoScorer
    from vqathinker_verl.inference.service.app import create_app
    from vqathinker_verl.inference.service.run import bind, serve
    from vqathinker_verl.inference.service.settings import ServiceSettings

    if args.grace < 1:
        raise ValueError(f"--grace: expected at least 1, got {args.grace}")
    token = _token(args.token_file)
    if token is None and not _is_loopback(args.host):
        raise ValueError(
            f"--host {args.host}: other machines could use the service; set a token (--token-file, or "
            f"{TOKEN_VARIABLE} in the environment), or leave --host out"
        )
    settings = ServiceSettings(
        video_roots=tuple(args.roots or ()),
        max_upload_mb=args.max_upload_mb,
        timeout_seconds=args.timeout,
        max_queue=args.max_queue,
        batch_size=args.batch_size,
        batch_wait_seconds=args.batch_wait_ms / 1000,
        token=token,
    )
    with bind(args.host, args.port) as bound, VideoScorer.from_settings(asking_from(args), progress=False) as scorer:
        app = create_app(scorer, settings)
        host = f"[{args.host}]" if ":" in args.host else args.host
        print(f"vqathinker serve: http://{host}:{bound.getsockname()[1]} (Ctrl-C stops)", flush=True)
        serve(app, bound, grace_seconds=args.grace)
        if not app.state.service.idle_within(IDLE_SECONDS):
            print("vqathinker serve: stopped; a video was still being decoded or scored", file=sys.stderr, flush=True)
            os._exit(1)  # threads cannot be interrupted, and Python would wait for them
    return 0


def _token(file: Path | None) -> str | None:
    """The token that requests must send, or None.

    Raises:
        ValueError: The file is empty.
        OSError: The file cannot be read.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"--token-file {file}: empty; expected a token")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
