"""Share decoded frames between all callers: each video is decoded once, in bounded memory."""

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cachetools import LRUCache

from vqathinker_verl.frames.processes import decode
from vqathinker_verl.frames.spec import FrameSpec
from vqathinker_verl.frames.video import DecodedVideo, Decoder, VideoError, check_decoder

Key = tuple[str, FrameSpec]


@dataclass(frozen=True)
class CacheConfig:
    """What a FrameCache is made from.

    Args:
        max_bytes: Most bytes of frames kept. Frames still held by callers are theirs and not counted.
        timeout_seconds: Longest wait for one video.
        decoders: Videos decoded at the same time, each in its own process; None: a quarter of the CPUs, at least 2.
        decoder: See `processes.decode`.
        error_seconds: How long a failure is remembered.

    Raises:
        ValueError: A number is out of range, or there is no such decoder.
    """

    max_bytes: int = 2**31
    timeout_seconds: float = 60.0
    decoders: int | None = None
    decoder: Decoder = "auto"
    error_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise ValueError(f"max_bytes: expected 0 or more, got {self.max_bytes}")
        if self.timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds: expected more than 0, got {self.timeout_seconds}")
        if self.decoders is not None and self.decoders < 1:
            raise ValueError(f"decoders: expected at least 1, got {self.decoders}")
        check_decoder(self.decoder)

    @property
    def workers(self) -> int:
        """Videos decoded at the same time."""
        return self.decoders or max(2, len(os.sched_getaffinity(0)) // 4)


class FrameCache:
    """Decodes a video once for any number of callers, and keeps the most recently used ones within a byte limit.

    Callers of a video that is being decoded wait for that one decode. A video that failed is not tried again for
    `error_seconds`, so that one broken file delays a step by one time limit and not by one for each response. A video
    larger than the limit is returned but not kept. Thread-safe; the returned arrays are shared and read-only.

    Args:
        config: Its limits.
    """

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self._executor = ThreadPoolExecutor(config.workers, thread_name_prefix="frames")
        self._lock = threading.Lock()
        self._videos: LRUCache[Key, DecodedVideo] = LRUCache(config.max_bytes, getsizeof=lambda video: video.nbytes)
        self._pending: dict[Key, Future[DecodedVideo]] = {}
        self._errors: dict[Key, tuple[float, str]] = {}
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
        return int(self._videos.currsize)

    def get(self, path: str | os.PathLike[str], spec: FrameSpec) -> DecodedVideo:
        """Return the frames of a video, decoding it only if they are not in the cache.

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

    async def decode_ahead(self, videos: Sequence[tuple[str, FrameSpec]]) -> None:
        """Decode videos that will be requested soon, as many as can be kept; the later request raises failures."""
        kept, largest = 0, 1
        free = asyncio.Semaphore(self.config.workers)

        async def decode_one(path: str, spec: FrameSpec) -> None:
            nonlocal kept, largest
            async with free:
                if kept + largest > self.config.max_bytes:
                    return  # it would push out what was decoded ahead
                try:
                    video = await asyncio.shield(asyncio.wrap_future(self._request(path, spec, ahead=True)))
                except Exception:
                    return  # remembered, and raised where the video is asked for
                kept, largest = kept + video.nbytes, max(largest, video.nbytes)

        await asyncio.gather(*[decode_one(*video) for video in videos])

    def _request(self, path: str | os.PathLike[str], spec: FrameSpec, *, ahead: bool = False) -> "Future[DecodedVideo]":
        key = (os.path.abspath(path), spec)
        hit = int(not ahead)
        with self._lock:
            if key in self._pending:
                self._hits += hit
                return self._pending[key]
            future: Future[DecodedVideo] = Future()
            if key in self._videos:
                self._hits += hit
                future.set_result(self._videos[key])  # which makes it the latest used
                return future
            if key in self._errors:
                failed_at, message = self._errors[key]
                if time.monotonic() - failed_at < self.config.error_seconds:
                    self._hits += hit
                    future.set_exception(VideoError(message))
                    return future
                del self._errors[key]
            self._decodes += 1
            self._pending[key] = future
        self._executor.submit(self._decode, key, future)
        return future

    def _decode(self, key: Key, future: "Future[DecodedVideo]") -> None:
        try:
            video = decode(*key, timeout_seconds=self.config.timeout_seconds, decoder=self.config.decoder)
        except BaseException as error:
            with self._lock:
                del self._pending[key]
                if isinstance(error, VideoError):
                    self._errors[key] = (time.monotonic(), str(error))
            future.set_exception(error)
            return
        with self._lock:
            del self._pending[key]
            if video.nbytes <= self.config.max_bytes:  # cachetools refuses it otherwise
                self._videos[key] = video
        future.set_result(video)
