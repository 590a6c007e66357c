"""Requests that arrive together are scored together, each with a result or an error of its own."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

FAILURES = 3  # failed items in a row from which the scoring counts as broken


class QueueFullError(Exception):
    """As many requests as allowed are waiting."""


class ShuttingDownError(Exception):
    """No further request is taken."""


@dataclass(eq=False)
class Job(Generic[Item, Result]):
    """One admitted request. It is given its item later: an upload takes a place while it is being received."""

    item: Item | None = None
    future: "asyncio.Future[Result]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher(Generic[Item, Result]):
    """Collects items into batches and scores one batch at a time, in a thread of its own.

    All methods are called in the event loop; `run` has to be running there. A job whose caller was cancelled is left
    out of the next batch.

    Args:
        score: Yields the results of a list of items, in order. Called by one thread.
        max_batch: Most items of a batch.
        wait_seconds: How long a batch that is not full waits for more items.
        max_waiting: Most jobs that were admitted and are not being scored.
        on_batch: Called with the size of each batch.
    """

    def __init__(
        self,
        score: Callable[[list[Item]], Iterator[Result]],
        *,
        max_batch: int,
        wait_seconds: float,
        max_waiting: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._score = score
        self._max_batch = max_batch
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._on_batch = on_batch
        self._waiting: set[Job[Item, Result]] = set()
        self._queue: asyncio.Queue[Job[Item, Result]] = asyncio.Queue()
        self._failures = 0
        self._running: Future[None] | None = None
        self.closed = False

    @property
    def waiting(self) -> int:
        """Number of jobs that were admitted and are not being scored."""
        return len(self._waiting)

    def waits(self, job: Job[Item, Result]) -> bool:
        """Whether a job was admitted and is not being scored."""
        return job in self._waiting

    @property
    def broken(self) -> bool:
        """Whether the last items all failed: a reason to restart the process, not a fault of one video."""
        return self._failures >= FAILURES

    @contextlib.contextmanager
    def admitted(self) -> Iterator[Job[Item, Result]]:
        """Give a job a place in the queue, and take it back at the end.

        Raises:
            QueueFullError: There is none left.
            ShuttingDownError: `close` was called.
        """
        if self.closed:
            raise ShuttingDownError
        if self.waiting >= self._max_waiting:
            raise QueueFullError
        job: Job[Item, Result] = Job()
        self._waiting.add(job)
        try:
            yield job
        finally:
            self._waiting.discard(job)
            job.future.cancel()

    async def result(self, job: Job[Item, Result], item: Item) -> Result:
        """Wait for the result of an admitted job. Whatever scoring it raised is raised here.

        Raises:
            ShuttingDownError: `close` was called before it was begun.
        """
        if self.closed:
            raise ShuttingDownError
        job.item = item
        self._queue.put_nowait(job)
        return await job.future

    def close(self) -> None:
        """Admit no job any more, and end those that wait; a batch that was begun is finished."""
        self.closed = True
        for job in self._waiting:
            if not job.future.done():
                job.future.set_exception(ShuttingDownError())
                job.future.exception()  # retrieved: a job that is still being received asks later, or never

    def idle_within(self, seconds: float) -> bool:
        """Wait until no batch is being scored, at most for `seconds`; whether none is.

        A thread cannot be interrupted: it may still score after `run` was cancelled. For use outside the event loop.
        """
        return self._running is None or not wait([self._running], seconds).not_done

    async def run(self) -> None:
        """Score batches until cancelled."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        loop = asyncio.get_running_loop()
        try:
            while True:
                jobs = await self._next_batch()
                if not jobs:
                    continue
                self._waiting.difference_update(jobs)
                self._on_batch(len(jobs))
                self._running = executor.submit(self._score_jobs, loop, jobs)
                await asyncio.wrap_future(self._running)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    async def _next_batch(self) -> list[Job[Item, Result]]:
        jobs = [await self._queue.get()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while len(jobs) < self._max_batch:
                    jobs.append(await self._queue.get())
        return [job for job in jobs if not job.future.done()]

    def _score_jobs(self, loop: asyncio.AbstractEventLoop, jobs: Sequence[Job[Item, Result]]) -> None:
        """In the thread: hand back each result as it comes. After a failure the rest are scored one by one."""
        answered = 0
        try:
            items = [job.item for job in jobs if job.item is not None]
            for job, result in zip(jobs, self._score(items), strict=True):
                loop.call_soon_threadsafe(_set_result, job.future, result)
                answered += 1
                self._failures = 0
        except Exception as error:
            if len(jobs) == 1:
                self._failures += 1
                loop.call_soon_threadsafe(_set_exception, jobs[0].future, error)
                return
            logger.warning("a batch of %d failed (%s); the rest are scored one by one", len(jobs), error)
            for job in jobs[answered:]:
                if not job.future.done():
                    self._score_jobs(loop, [job])


def _set_result(future: "asyncio.Future[Result]", result: Result) -> None:
    if not future.done():  # the caller may be gone
        future.set_result(result)


def _set_exception(future: "asyncio.Future[Result]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
