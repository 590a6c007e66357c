"""One frame cache a node: the agent loop workers of a node share decoded videos, within a step and across epochs.

verl spreads prompts over its agent loop workers anew in every epoch, so a cache in each worker would decode a video
once a worker and keep as many copies. The cache is a Ray actor with a name of its node's, made by whoever asks first;
it ends with the job. Frames come back through Ray's object store, one copy of them a prompt. Outside of Ray (tests,
scripts) the process has a cache of its own.
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
        """Seconds that each request waited for its frames, of those since the last call."""
        waits, self._waits = self._waits, []
        return waits


def get_frames(path: str, spec: FrameSpec, config: CacheConfig) -> DecodedVideo:
    """Return a video's frames from this node's cache, or this process's where Ray does not run. Blocks.

    Args:
        path: The video.
        spec: Which frames, at which size.
        config: The limits of the cache; what the first caller says counts.

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
    """What the caches of all nodes did so far and hold: `frames/decoded`, `frames/served`, `frames/bytes`, added up.

    `frames/wait_mean_seconds` and `frames/wait_max_seconds` are how long requests waited for their frames, of those
    since the last call; 0 without any. A cache that has died or does not answer within `seconds` is left out: who
    needs its frames reports that.
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


# Of two threads that miss `_actor`'s cache at once, one's handle is dropped; if that is the one that made the actor,
# Ray ends the actor under the other's feet.
_one_at_a_time = threading.Lock()


@lru_cache(maxsize=1)  # Ray ends an actor to which nobody holds a handle any more
def _actor(node: str, config: CacheConfig) -> ray.actor.ActorHandle[FrameCacheActor]:
    options = {
        "name": f"{ACTOR_PREFIX}{node}",
        "get_if_exists": True,
        "max_restarts": -1,  # all that is lost with it is decoded again
        "max_task_retries": 1,  # more would let a video that kills it do so for ever
        "num_cpus": 0,  # it must find room beside verl's workers, which reserve all CPUs
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    return ray.remote(FrameCacheActor).options(**options).remote(config)
