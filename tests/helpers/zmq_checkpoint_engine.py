"""Weights from the trainer to vLLM servers on other devices, on machines without a GPU.

verl's `separate_async` trainer insists on a checkpoint engine between devices. Of those in verl 0.9.1 none runs without
a GPU: nccl and nixl import CuPy, pin memory or wait for CUDA, and the others are for other hardware. This one sends
each weight through ZeroMQ, so that the tests can run that trainer.

verl imports the module in every process that sends or receives (`checkpoint_engine.custom_backend_module`). It takes
the name "nccl", as verl's engine for Ascend does on Ascend, so that the recipe is tested as it is.
"""

from collections.abc import AsyncGenerator, Generator
from typing import Any

import torch
import zmq
import zmq.asyncio
from ray.util import get_node_ip_address
from safetensors.torch import load, save
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

END = b""
WEIGHTS_UNDER_WAY = 4  # per receiver, on each side: a slow one holds the sender up, not its memory


@CheckpointEngineRegistry.register("nccl")
class ZmqCheckpointEngine(CheckpointEngine):
    """One message per weight, from the trainer's first worker to each receiver; an empty one is the end.

    Args:
        bucket_size: other engines gather weights to this size; not used here.
        is_master: whether this is the trainer's first worker.
        others: settings of the engine that has the name elsewhere; they say nothing here.
    """

    def __init__(self, bucket_size: int, is_master: bool = False, **others: Any) -> None:
        self.is_master = is_master
        self.incoming: zmq.asyncio.Socket | None = None
        self.outgoing: list[zmq.asyncio.Socket] = []

    def prepare(self) -> str | None:
        if self.is_master:
            return None
        self.incoming = _socket(zmq.PULL)
        address = f"tcp://{get_node_ip_address()}"
        return f"{address}:{self.incoming.bind_to_random_port(address)}"

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[str | None]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        receivers = metadata[actor_wg_world_size:]
        nobody: list[list[str]] = [[]]
        return (
            {"receivers": [receivers, *nobody * (actor_wg_world_size - 1)]},
            {"receivers": nobody * rollout_world_size},
        )

    def init_process_group(self, receivers: list[str]) -> None:
        for address in receivers:
            socket = _socket(zmq.PUSH)
            socket.connect(address)
            self.outgoing.append(socket)

    def finalize(self) -> None:
        for socket in (self.incoming, *self.outgoing):
            if socket is not None:
                socket.close()
        self.incoming, self.outgoing = None, []

    @torch.no_grad()
    async def send_weights(
        self, weights: Generator[tuple[str, torch.Tensor], None, None], global_steps: int | None = None
    ) -> None:
        for name, weight in weights:  # every worker takes part in putting a weight together; one sends it
            if self.outgoing:
                await self._send(save({name: weight.contiguous()}))
        await self._send(END)

    async def _send(self, message: bytes) -> None:
        for socket in self.outgoing:
            await socket.send(message)

    async def receive_weights(self, global_steps: int | None = None) -> AsyncGenerator[tuple[str, torch.Tensor], None]:
        while message := await self.incoming.recv():
            for name, weight in load(message).items():
                yield name, weight


def _socket(kind: int) -> zmq.asyncio.Socket:
    socket = zmq.asyncio.Context.instance().socket(kind)
    socket.set_hwm(WEIGHTS_UNDER_WAY)
    socket.linger = 0  # all is received when verl finalizes; after a failure nothing should wait
    return socket
