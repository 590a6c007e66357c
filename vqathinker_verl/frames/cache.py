"""Decoded frames shared by all who need them: each video decoded once, in bounded memory."""

import asyncio
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from vqathinker_verl.frames.processes import decode
from vqathinker_verl.frames.spec import FrameSpec
from vqathinker_verl.frames.video import DecodedVideo, VideoError

Key = tuple[str, FrameSpec]


class FrameCache:
    """Decodes a video once however many ask for it, and keeps the latest used within a byte limit.

    Callers of a video that is being decoded wait for that one decode. A video that failed is not tried again for
    `error_seconds`, so that one broken file costs a step one time limit and not one for each response. A video larger
    than the limit is handed out and not kept. Thread-safe; the arrays handed out are shared and read-only.

    Args:
        max_bytes: Most bytes of frames kept. Frames still held by callers are theirs and not counted.
        workers: Videos decoded at the same time.
        timeout_seconds: Longest wait for one video.
        error_seconds: How long a failure is remembered.
    """

    def __init__(
        self, max_bytes: int, *, workers: int = 4, timeout_seconds: float = 60.0, error_seconds: float = 300.0
    ) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes: expected 0 or more, got {max_bytes}")
        self.max_bytes = max_bytes
        self.timeout_seconds = timeout_seconds
        self.error_seconds = error_seconds
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="frames")
        self._lock = threading.Lock()
        self._videos: OrderedDict[Key, DecodedVideo] = OrderedDict()
        self._pending: dict[Key, Future[DecodedVideo]] = {}
        self._errors: dict[Key, tuple[float, str]] = {}
        self._bytes = 0
        self._decodes = 0
        self._hits = 0

    @property
    def decodes(self) -> int:
        """Videos that were decoded or tried."""
        return self._decodes

    @property
    def hits(self) -> int:
        """Requests that started no decode: served from memory or by a decode under way."""
        return self._hits

    @property
    def bytes(self) -> int:
        """Bytes of the frames kept, at most `max_bytes`."""
        return self._bytes

    def get(self, path: str | os.PathLike[str], spec: FrameSpec) -> DecodedVideo:
        """Return the frames of a video, decoding it only when no one has.

        Raises:
            VideoError: The video cannot be decoded.
        """
        return self._request(path, spec).result()

    async def get_async(self, path: str | os.PathLike[str], spec: FrameSpec) -> DecodedVideo:
        """Like `get`, for an event loop: the decode runs in the cache's own threads and blocks nothing.

        Raises:
            VideoError: The video cannot be decoded.
        """
        # The shield keeps one cancelled caller from cancelling the decode that others wait for.
        return await asyncio.shield(asyncio.wrap_future(self._request(path, spec)))

    def _request(self, path: str | os.PathLike[str], spec: FrameSpec) -> "Future[DecodedVideo]":
        key = (os.path.abspath(path), spec)
        with self._lock:
            if key in self._pending:
                self._hits += 1
                return self._pending[key]
            future: Future[DecodedVideo] = Future()
            if key in self._videos:
                self._hits += 1
                self._videos.move_to_end(key)
                future.set_result(self._videos[key])
                return future
            if key in self._errors:
                failed_at, message = self._errors[key]
                if time.monotonic() - failed_at < self.error_seconds:
                    self._hits += 1
                    future.set_exception(VideoError(message))
                    return future
                del self._errors[key]
            self._decodes += 1
            self._pending[key] = future
        self._executor.submit(self._decode, key, future)
        return future

    def _decode(self, key: Key, future: "Future[DecodedVideo]") -> None:
        try:
            video = decode(*key, timeout_seconds=self.timeout_seconds)
        except BaseException as error:
            with self._lock:
                del self._pending[key]
                if isinstance(error, VideoError):
                    self._errors[key] = (time.monotonic(), str(error))
            future.set_exception(error)
            return
        with self._lock:
            del self._pending[key]
            if video.nbytes <= self.max_bytes:
                self._videos[key] = video
                self._bytes += video.nbytes
                while self._bytes > self.max_bytes:
                    _, oldest = self._videos.popitem(last=False)
                    self._bytes -= oldest.nbytes
        future.set_result(video)
