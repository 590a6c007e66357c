"""One frame cache per node: the agent loop workers of a node share decoded videos, within a step and across epochs.

verl distributes prompts over its agent loop workers anew in every epoch, so a cache in each worker would decode a video
once per worker and keep as many copies. The cache is a Ray actor whose name contains its node; the first request
creates it, and it ends with the job. Frames come back through Ray's object store, one copy per prompt. Outside of Ray
(tests, scripts) the process has its own cache.
"""

import threading
import time
from collections.abc import Sequence
from functools import lru_cache

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vqathinker_verl.frames import CacheConfig, DecodedVideo, FrameCache, FrameSpec, VideoError

ACTOR_PREFIX = "vqathinker_frames_"


class FrameCacheActor:
    """The actor: a FrameCache behind an event loop, so that many can wait for one decode."""

    def __init__(self, config: CacheConfig) -> None:
        self._cache = FrameCache(config)
        self._waits: list[float] = []

    async def get(self, path: str, spec: FrameSpec) -> DecodedVideo:
        """As FrameCache.get_async."""
        begin = time.monotonic()
        try:
            return await self._cache.get_async(path, spec)
        finally:
            self._waits.append(time.monotonic() - begin)

    async def decode_ahead(self, videos: Sequence[tuple[str, FrameSpec]]) -> None:
        """As FrameCache.decode_ahead."""
        await self._cache.decode_ahead(videos)

    async def counts(self) -> dict[str, int]:
        """Videos decoded or tried, requests served without a decode, bytes kept."""
        return {"decodes": self._cache.decodes, "hits": self._cache.hits, "bytes": self._cache.bytes}

    async def take_waits(self) -> list[float]:
        """Return the seconds that each request since the last call waited for its frames."""
        waits, self._waits = self._waits, []
        return waits


def get_frames(path: str, spec: FrameSpec, config: CacheConfig) -> DecodedVideo:
    """Return a video's frames from this node's cache, or this process's where Ray does not run. Blocks.

    Args:
        path: The video.
        spec: Which frames, at which size.
        config: The limits of the cache; those of the first caller apply.

    Raises:
        VideoError: The video cannot be decoded; the message names the file.
    """
    if not ray.is_initialized():
        with _one_at_a_time:
            cache = process_cache(config)
        return cache.get(path, spec)
    try:
        return ray.get(get_frame_cache(config).get.remote(path, spec))
    except RayTaskError as error:
        # Ray's message carries the actor's traceback; the cause alone names the file and what to do.
        raise (error.cause if isinstance(error.cause, VideoError) else error) from None


def frame_metrics(seconds: float = 10.0) -> dict[str, float]:
    """Return the sums over the caches of all nodes: `frames/decoded`, `frames/served` and `frames/bytes`.

    `frames/wait_mean_seconds` and `frames/wait_max_seconds` are the times that the requests since the last call waited
    for their frames; 0 without requests. A cache that has died or does not answer within `seconds` is left out: a
    request for its frames reports the error.
    """
    totals = {"frames/decoded": 0.0, "frames/served": 0.0, "frames/bytes": 0.0}
    waits = [0.0]
    for name in ray.util.list_named_actors():  # of this run: each has a namespace of its own
        if name.startswith(ACTOR_PREFIX):
            try:
                cache = ray.get_actor(name)
                counts, new = ray.get([cache.counts.remote(), cache.take_waits.remote()], timeout=seconds)
            except (RayError, ValueError):
                continue
            for total, count in zip(totals, ("decodes", "hits", "bytes"), strict=True):
                totals[total] += counts[count]
            waits += new
    mean = sum(waits) / max(1, len(waits) - 1)
    return {**totals, "frames/wait_mean_seconds": mean, "frames/wait_max_seconds": max(waits)}


@lru_cache(maxsize=1)
def process_cache(config: CacheConfig) -> FrameCache:
    """The one cache of this process."""
    return FrameCache(config)


def get_frame_cache(config: CacheConfig) -> ray.actor.ActorHandle[FrameCacheActor]:
    """The handle of this node's cache, which is made where there is none."""
    with _one_at_a_time:
        return _actor(ray.get_runtime_context().get_node_id(), config)


# If two threads miss `_actor`'s cache at once, one of the two handles is dropped. If that thread has created the actor,
# Ray ends the actor while the other thread uses it.
_one_at_a_time = threading.Lock()


@lru_cache(maxsize=1)  # Ray ends an actor when its last handle is gone
def _actor(node: str, config: CacheConfig) -> ray.actor.ActorHandle[FrameCacheActor]:
    options = {
        "name": f"{ACTOR_PREFIX}{node}",
        "get_if_exists": True,
        "max_restarts": -1,  # all that is lost with it is decoded again
        "max_task_retries": 1,  # more would let a video that kills it do so for ever
        "num_cpus": 0,  # it must fit in addition to verl's workers, which reserve all CPUs
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    return ray.remote(FrameCacheActor).options(**options).remote(config)
