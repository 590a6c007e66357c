"""The process that decodes for another one: requests on standard input, answers on what was standard output.

Decoders are C code: a file can abort the process that decodes it (decord does, on some damaged headers), hold Python's
lock for ever or take all memory. So this process does nothing else, and `processes.py` starts it, ends it at the time
limit and reports which video killed it.

A request is a line of JSON, {"path", "folder" that a relative path starts from, "seconds", "spec" or null, "decoder"}.
An answer is a line of JSON, followed for a decode by the bytes of the frames. JSON, since what is unpickled could run
code.
"""

import contextlib
import dataclasses
import json
import logging
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

from vqathinker_verl.frames.decoding import decode_here, read_info
from vqathinker_verl.frames.spec import FrameSpec
from vqathinker_verl.frames.video import VideoError

# Most bytes that a child may map beyond what it has at its start: twice what 12 frames of an 8K H.264 video take.
MEMORY_BYTES = 6 * 2**30


def main() -> None:
    """Answer requests until the parent goes away."""
    # What decoders print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's; it then closes our input
    # Without a handler this ends the process from the kernel, whatever holds Python's lock: a child whose parent was
    # killed must not continue decoding for ever.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    with contextlib.suppress(ImportError):
        __import__("av")  # before the first request, whose time limit is not about imports
    _limit_memory()
    notes = _Notes()
    logging.getLogger("vqathinker_verl").addHandler(notes)
    logging.getLogger("vqathinker_verl").setLevel(logging.INFO)
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if folder := request.get("folder"):
            os.chdir(folder)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        _answer(request, notes.lines, answers)
        signal.setitimer(signal.ITIMER_REAL, 0)
        notes.lines.clear()
    os._exit(0)  # nothing to clean up, and a decoder's threads may never end


def _answer(request: dict[str, Any], notes: list[tuple[int, str]], answers: BinaryIO) -> None:
    path, spec = request["path"], request["spec"]
    frames = None
    try:
        if spec is None:
            found: dict[str, Any] = {"info": dataclasses.asdict(read_info(path))}
        else:
            video = decode_here(path, FrameSpec(**spec), request["decoder"])
            frames = video.frames
            found = {
                "shape": frames.shape,
                "indices": video.indices.tolist(),
                "fps": video.fps,
                "total_frames": video.total_frames,
                "backend": video.backend,
            }
    except VideoError as error:
        found = {"error": str(error)}
    except ImportError as error:
        found = {"missing": str(error), "module": error.name}
    except MemoryError:
        found = {"error": f"{path}: needs more than {MEMORY_BYTES / 2**30:g} GiB to decode; leave the video out"}
    answers.write(json.dumps({**found, "notes": notes}).encode() + b"\n")
    if frames is not None:
        answers.write(frames.data)
    answers.flush()


class _Notes(logging.Handler):
    """Collects what is logged; the parent logs it, with its own handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return  # not Linux: no limit
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


if __name__ == "__main__":
    main()
