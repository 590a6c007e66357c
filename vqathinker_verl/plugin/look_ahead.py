"""Decode the next batch's videos while the trainer updates.

verl's synchronous trainer takes a batch from its dataloader when a step begins, and generation then waits for the
first frames. Here, the trainer reads the next batch when generation has ended, and the agent loop workers request its
videos from the caches of their nodes.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from omegaconf import DictConfig

from vqathinker_verl.frames import CacheConfig, FrameSpec
from vqathinker_verl.plugin.config import cache_config
from vqathinker_verl.plugin.dataset import frames_shown
from vqathinker_verl.plugin.frame_actor import get_frame_cache


class LookAheadLoader:
    """A stateful dataloader whose next batches can be looked at before they are taken.

    Its state is that of the batches taken: a run that resumes from it gets the ones looked at. It never ends: after an
    epoch it begins the next one, as verl does with the loader below.

    Args:
        loader: torchdata's StatefulDataLoader, or what has its methods.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self._batches: Iterator[Any] | None = None
        self._ahead: deque[tuple[dict[str, Any], Any]] = deque()  # the loader's state before a batch, and the batch

    def __iter__(self) -> "LookAheadLoader":
        return self

    def __next__(self) -> Any:
        return self._ahead.popleft()[1] if self._ahead else self._read()

    def __len__(self) -> int:
        return len(self.loader)

    def look_ahead(self, count: int) -> list[Any]:
        """The next `count` batches, which stay to be taken."""
        while len(self._ahead) < count:
            state = self.loader.state_dict()
            self._ahead.append((state, self._read()))
        return [batch for _, batch in list(self._ahead)[:count]]

    def state_dict(self) -> dict[str, Any]:
        """The loader's state after the last batch that was taken."""
        return self._ahead[0][0] if self._ahead else self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._ahead.clear()
        self._batches = None
        self.loader.load_state_dict(state)

    def _read(self) -> Any:
        if self._batches is None:
            self._batches = iter(self.loader)
        try:
            return next(self._batches)
        except StopIteration:
            self._batches = iter(self.loader)
            return next(self._batches)


def decode_ahead(
    prompts: Sequence[list[dict[str, Any]]],
    workers: Sequence[ray.actor.ActorHandle[Any]],
    image_patch_size: int,
    data: DictConfig,
) -> None:
    """Start decoding the videos of prompts on the nodes that will need them, without waiting.

    Args:
        prompts: The messages of each prompt of a batch.
        workers: The agent loop workers, among which verl will spread the batch.
        image_patch_size: The processor's.
        data: The run's `data` config.
    """
    config = cache_config(data)
    share = -(-len(prompts) // len(workers))  # as AgentLoopManagerTQ.generate_sequences splits a batch
    asked: list[ray.ObjectRef[None]] = []
    for number, worker in enumerate(workers):
        videos = [
            video
            for messages in prompts[number * share : (number + 1) * share]
            for video in frames_shown(messages, image_patch_size, data)
        ]
        if videos:
            asked.append(worker.__ray_call__.remote(_ask_node, config, videos))
    ray.get(asked)


def _ask_node(_worker: Any, config: CacheConfig, videos: list[tuple[str, FrameSpec]]) -> None:
    """Runs in an agent loop worker: passes the videos on to the cache of its node."""
    get_frame_cache(config).decode_ahead.remote(videos)
