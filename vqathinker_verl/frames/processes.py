"""Decode in child processes, which a damaged video may kill without harm; `child.py` is the code of the children.

A child decodes one video at a time and is reused: a new one starts only at first and after a video that killed it.
There are as many children as simultaneous calls.
"""

import atexit
import contextlib
import dataclasses
import json
import logging
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from vqathinker_verl.frames.spec import FrameSpec, VideoInfo
from vqathinker_verl.frames.video import DecodedVideo, Decoder, VideoError, check_decoder

logger = logging.getLogger(__name__)

START_SECONDS = 120.0  # for a child to import its decoders, on a machine that is busy with something else
VIDEOS_PER_CHILD = 1000  # then a new one, so that what a decoder leaks does not add up over days


def probe(path: str | os.PathLike[str], *, timeout_seconds: float = 60.0) -> VideoInfo:
    """Read a video's size, frame count and frame rate, as `decode` will find them.

    The file is read once. Where its packets prove which pictures are shown, only the first is decoded (H.264, HEVC, VP9
    and AV1 in MP4, MOV, Matroska and WebM); of other files all are.

    Args:
        path: The video file.
        timeout_seconds: Longest wait.

    Raises:
        VideoError: The file is missing, not a regular file, empty, not a video, kills its decoder, or took too long.
    """
    answer, _ = _ask(os.fspath(path), None, timeout_seconds)
    return VideoInfo(**answer["info"])


def decode(
    path: str | os.PathLike[str], spec: FrameSpec, *, timeout_seconds: float = 60.0, decoder: Decoder = "auto"
) -> DecodedVideo:
    """Decode the frames at the segment centres of a video and resize them (bicubic, antialiased).

    One full-size frame is held at a time, in a child process that is killed when the time is up.

    Args:
        path: The video file.
        spec: How many frames and their size.
        timeout_seconds: Longest wait.
        decoder: "auto" and "pyav" are PyAV, which is exact for every file; "decord" is decord where it is exact, too,
            and PyAV elsewhere. Still images are read with Pillow in any case.

    Raises:
        VideoError: The file is missing, empty, not a video, cut off, kills its decoder, or took too long.
        ImportError: The decoder is not installed.
        ValueError: There is no such decoder.
    """
    check_decoder(decoder)
    answer, data = _ask(os.fspath(path), spec, timeout_seconds, decoder)
    frames = np.frombuffer(data, np.uint8).reshape(answer["shape"])
    indices = np.array(answer["indices"], np.int64)
    frames.flags.writeable = False
    indices.flags.writeable = False
    return DecodedVideo(frames, indices, answer["fps"], answer["total_frames"], answer["backend"])


def _ask(
    path: str, spec: FrameSpec | None, seconds: float, decoder: Decoder = "auto"
) -> tuple[dict[str, Any], bytearray]:
    """Let a child decode (or, without a spec, count the frames); its answer and the bytes of the frames."""
    doing = "reading its packets" if spec is None else "decoding"
    child = _take()
    request: dict[str, Any] = {
        "path": path,
        "seconds": seconds + 1,
        "spec": spec and dataclasses.asdict(spec),
        "decoder": decoder,
    }
    if not os.path.isabs(path):  # the child may be older than our working directory
        request["folder"] = os.getcwd()
    try:
        answer, data = child.ask(request, time.monotonic() + seconds)
    except TimeoutError:
        raise VideoError(
            f"{path}: {doing} took longer than {seconds:g} s; expected a readable video on a disk that answers; "
            "check the disk, raise the time limit, or leave the video out"
        ) from None
    except ChildProcessError as error:
        raise VideoError(
            f"{path}: {doing} killed the decoder's process ({error}); expected a video; fetch it again or leave it out"
        ) from None
    finally:
        _give_back(child)
    for level, note in answer["notes"]:
        logger.log(level, "%s", note)
    if "error" in answer:
        raise VideoError(answer["error"])
    if "missing" in answer:
        message = f"{answer['missing']}: decoding needs it; install vqathinker-verl[data]"
        raise ModuleNotFoundError(message, name=answer["module"])
    return answer, data


class _Child:
    """One decoding process. `ask` is not for two threads at the same time."""

    def __init__(self) -> None:
        # Not multiprocessing: its children import the program's main module, and a daemon of its own may have none.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vqathinker_verl.frames.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.fit = True
        self._videos = 0
        self._rest = bytearray()
        try:
            self._line(time.monotonic() + START_SECONDS)
        except (TimeoutError, ChildProcessError) as error:
            self.end()
            raise RuntimeError(
                f"the process that decodes videos does not start ({error or 'no answer'}); its reason is above"
            ) from None

    def ask(self, request: dict[str, Any], deadline: float) -> tuple[dict[str, Any], bytearray]:
        """The answer and what follows it.

        Raises:
            TimeoutError: None came by the deadline.
            ChildProcessError: The child died; the message gives the reason.
        """
        self._videos += 1
        self.fit = False
        with contextlib.suppress(BrokenPipeError):  # then it is dead, which reading will show
            self._requests.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(self._line(deadline))
        data = bytearray(math.prod(answer["shape"])) if "shape" in answer else bytearray()
        self._fill(memoryview(data), deadline)
        self.fit = self._videos < VIDEOS_PER_CHILD
        return answer, data

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        # One that waits for a dead network disk cannot die before the disk answers.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._requests.close()
        self._answers.close()

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._rest:
            self._wait(deadline)
            self._rest += os.read(self._answers.fileno(), 65536) or self._died()
        line, _, self._rest = self._rest.partition(b"\n")
        return bytes(line)

    def _fill(self, data: memoryview, deadline: float) -> None:
        at = min(len(self._rest), len(data))
        data[:at], self._rest = self._rest[:at], self._rest[at:]
        while at < len(data):
            self._wait(deadline)
            at += os.readv(self._answers.fileno(), [data[at:]]) or len(self._died())

    def _wait(self, deadline: float) -> None:
        # poll, since select knows no file beyond the 1024th.
        poll = select.poll()
        poll.register(self._answers.fileno(), select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError

    def _died(self) -> bytes:
        status = self._process.wait()
        if status == -signal.SIGALRM:  # its own clock was faster
            raise TimeoutError
        raise ChildProcessError(signal.Signals(-status).name if status < 0 else f"exit code {status}")


_lock = threading.Lock()
_idle: list[_Child] = []


def _take() -> _Child:
    while True:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is None:
            return _Child()
        if child.alive:
            return child
        child.end()  # killed while it waited, such as by the kernel for memory: no fault of the next video


def _give_back(child: _Child) -> None:
    if not child.fit:
        child.end()
        return
    with _lock:
        _idle.append(child)


@atexit.register
def _end_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().end()


def _after_fork() -> None:
    """A forked process must not talk into its parent's pipes, and a lock held there is never released here."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)
