"""One piece of work for all the coroutines that need it at the same time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs `make()` once a key while anybody is inside `use(key, make)`, and forgets it when the last one leaves.

    verl starts the G sessions of a prompt together and each calls the agent loop for itself: this is where they meet.
    No eviction rule is needed, and an error reaches every session of the prompt.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def use(self, key: str, make: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
        """Yield what `make()` returned for `key`, awaiting the run that the first user started."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.ensure_future(make())
            self._users[key] = 0
        self._users[key] += 1
        try:
            # Shielded: a session that is cancelled must not cancel the work of the others.
            yield await asyncio.shield(self._tasks[key])
        finally:
            self._users[key] -= 1
            if self._users[key] == 0:
                del self._tasks[key], self._users[key]
