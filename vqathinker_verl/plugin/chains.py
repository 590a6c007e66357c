"""Choose the rows of a batch if some of them are chains: complete chains, in a fixed share of the batch.

verl 0.9.1 has no setting for the sampler of its V1 trainers, so the trainer's mixin replaces it (trainer.py). Batches
are consecutive runs of this order, for the asynchronous trainers too, which take one row at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler


def batch_order(
    chains: Sequence[str | None],
    strengths: Sequence[float | None],
    *,
    batch_size: int,
    chain_share: float,
    rng: np.random.Generator | None,
) -> list[int]:
    """Return the rows of one epoch, batch after batch.

    An epoch shows each labelled row once, except the last ones that do not fill a batch; without labelled rows, it has
    as many batches as the chains fill. If a chain does not fit into the rest of its share, only some of its strengths
    are shown, spread over the chain. A single remaining place is given to a labelled row.

    Args:
        chains: The chain of each row, None for a labelled row.
        strengths: The strength of each row of a chain.
        batch_size: Rows of a batch.
        chain_share: Share in [0, 1] of a batch that chains fill. With chains alone it is 1.
        rng: Shuffles rows and chains; None keeps their order.
    """
    labelled = [row for row, chain in enumerate(chains) if chain is None]
    members: dict[str, list[int]] = {}
    for row in sorted(
        (row for row, chain in enumerate(chains) if chain is not None), key=lambda row: (strengths[row] or 0.0, row)
    ):
        members.setdefault(str(chains[row]), []).append(row)
    groups = [rows for rows in members.values() if len(rows) > 1]
    if not groups:
        chain_share = 0.0
    elif not labelled:
        chain_share = 1.0
    places = round(chain_share * batch_size)
    if labelled and places < batch_size:
        num_batches = len(labelled) // (batch_size - places)
    else:
        num_batches = sum(map(len, groups)) // batch_size
    upcoming_labelled, upcoming_chains = _endless(labelled, rng), _endless(groups, rng)
    order: list[int] = []
    for _ in range(num_batches):
        batch: list[int] = []
        while places - len(batch) >= 2:
            rows = next(upcoming_chains)
            left = places - len(batch)
            if left < len(rows):
                rows = [rows[number] for number in np.linspace(0, len(rows) - 1, left).round().astype(int)]
            batch += rows
        source = upcoming_labelled if labelled else (rows[0] for rows in upcoming_chains)
        while len(batch) < batch_size:
            batch.append(next(source))
        order += batch
    return order


def _endless(items: Sequence[Any], rng: np.random.Generator | None) -> Iterator[Any]:
    """The items in random order, and again in another."""
    while items:
        numbers = np.arange(len(items)) if rng is None else rng.permutation(len(items))
        yield from (items[number] for number in numbers.tolist())


class ChainSampler(Sampler[int]):
    """The order of `batch_order`, another one in each epoch; a run can resume in the middle of one.

    Args:
        chains: The chain of each row, None for a labelled row.
        strengths: The strength of each row of a chain.
        batch_size: Rows of a training batch.
        chain_share: Share of a batch that chains fill.
        seed: Of the order.
        shuffle: Whether rows and chains are shuffled.
    """

    def __init__(
        self,
        chains: Sequence[str | None],
        strengths: Sequence[float | None],
        *,
        batch_size: int,
        chain_share: float,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        self.chains, self.strengths = list(chains), list(strengths)
        self.batch_size, self.chain_share, self.seed, self.shuffle = batch_size, chain_share, seed, shuffle
        self.epoch = 0
        self._length = len(self.order(0))

    def order(self, epoch: int) -> list[int]:
        """The rows of an epoch."""
        rng = np.random.default_rng([self.seed, epoch]) if self.shuffle else None
        return batch_order(
            self.chains, self.strengths, batch_size=self.batch_size, chain_share=self.chain_share, rng=rng
        )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> "_Epoch":
        epoch = _Epoch(self, self.epoch)
        self.epoch += 1
        return epoch


class _Epoch:
    """An epoch's iterator, whose state torchdata's StatefulDataLoader saves."""

    def __init__(self, sampler: ChainSampler, epoch: int) -> None:
        self.sampler, self.epoch, self.yielded = sampler, epoch, 0
        self.rows = sampler.order(epoch)

    def __iter__(self) -> "_Epoch":
        return self

    def __next__(self) -> int:
        if self.yielded == len(self.rows):
            raise StopIteration
        self.yielded += 1
        return self.rows[self.yielded - 1]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "yielded": self.yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.yielded = state["epoch"], state["yielded"]
        self.rows = self.sampler.order(self.epoch)
        self.sampler.epoch = self.epoch + 1
