"""One frame cache a node: the agent loop workers of a node share decoded videos, within a step and across epochs.

verl spreads prompts over its agent loop workers anew in every epoch, so a cache in each worker would decode a video
once a worker and keep as many copies. The cache is a Ray actor with a name of its node's, made by whoever asks first;
it ends with the job. Frames come back through Ray's object store, one copy of them a prompt. Outside of Ray (tests,
scripts) the process has a cache of its own.
"""

import threading
from functools import lru_cache

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vqathinker_verl.frames import DecodedVideo, FrameCache, FrameSpec, VideoError

ACTOR_PREFIX = "vqathinker_frames_"


class NodeFrames:
    """The actor: a FrameCache behind an event loop, so that many can wait for one decode."""

    def __init__(self, max_bytes: int, timeout_seconds: float) -> None:
        self._cache = FrameCache(max_bytes, timeout_seconds=timeout_seconds)

    async def get(self, path: str, spec: FrameSpec) -> DecodedVideo:
        """As FrameCache.get_async."""
        return await self._cache.get_async(path, spec)

    async def counts(self) -> dict[str, int]:
        """Videos decoded or tried, requests served without a decode, bytes kept."""
        return {"decodes": self._cache.decodes, "hits": self._cache.hits, "bytes": self._cache.bytes}


def frames_of(path: str, spec: FrameSpec, *, max_bytes: int, timeout_seconds: float) -> DecodedVideo:
    """Return a video's frames from this node's cache, or this process's where Ray does not run. Blocks.

    Args:
        path: the video.
        spec: which frames, at which size.
        max_bytes: most bytes of frames kept by the node; what the first caller says counts.
        timeout_seconds: longest decode of one video; likewise.

    Raises:
        VideoError: the video cannot be decoded; the message names the file.
    """
    if not ray.is_initialized():
        return process_cache(max_bytes, timeout_seconds).get(path, spec)
    try:
        return ray.get(node_frames(max_bytes, timeout_seconds).get.remote(path, spec))
    except RayTaskError as error:
        # Ray's message carries the actor's traceback; the cause alone names the file and what to do.
        raise (error.cause if isinstance(error.cause, VideoError) else error) from None


def frame_metrics(seconds: float = 10.0) -> dict[str, float]:
    """What the caches of all nodes did so far and hold: `frames/decoded`, `frames/served`, `frames/bytes`, added up.

    A cache that has died or does not answer within `seconds` is left out: who needs its frames reports that.
    """
    totals = {"frames/decoded": 0.0, "frames/served": 0.0, "frames/bytes": 0.0}
    for name in ray.util.list_named_actors():  # of this run: each has a namespace of its own
        if name.startswith(ACTOR_PREFIX):
            try:
                counts = ray.get(ray.get_actor(name).counts.remote(), timeout=seconds)
            except (RayError, ValueError):
                continue
            for total, count in zip(totals, ("decodes", "hits", "bytes"), strict=True):
                totals[total] += counts[count]
    return totals


@lru_cache(maxsize=1)
def process_cache(max_bytes: int, timeout_seconds: float) -> FrameCache:
    """The one cache of this process."""
    return FrameCache(max_bytes, timeout_seconds=timeout_seconds)


def node_frames(max_bytes: int, timeout_seconds: float) -> ray.actor.ActorHandle:
    """The handle of this node's cache, which is made where there is none."""
    with _one_at_a_time:
        return _actor(ray.get_runtime_context().get_node_id(), max_bytes, timeout_seconds)


# Of two threads that miss `_actor`'s cache at once, one's handle is dropped; if that is the one that made the actor,
# Ray ends the actor under the other's feet.
_one_at_a_time = threading.Lock()


@lru_cache(maxsize=1)  # Ray ends an actor to which nobody holds a handle any more
def _actor(node: str, max_bytes: int, timeout_seconds: float) -> ray.actor.ActorHandle:
    options = {
        "name": f"{ACTOR_PREFIX}{node}",
        "get_if_exists": True,
        "max_restarts": -1,  # all that is lost with it is decoded again
        "max_task_retries": 1,  # more would let a video that kills it do so for ever
        "num_cpus": 0,  # it must find room beside verl's workers, which reserve all CPUs
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    return ray.remote(NodeFrames).options(**options).remote(max_bytes, timeout_seconds)
