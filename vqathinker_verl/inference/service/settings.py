"""Limits and access of the service: one frozen record, made once by the command."""

import math
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class ServiceSettings:
    """What the service allows.

    Attributes:
        video_roots: Folders whose videos may be named by their path; without one, no path is accepted.
        max_upload_mb: Largest request body, in megabytes of 1,000,000 bytes.
        timeout_seconds: Longest time from a request's header to its answer: upload, queue and scoring.
        max_queue: Most requests that wait, those that are still being received included.
        batch_size: Most videos that are scored together.
        batch_wait_seconds: How long a batch that is not full waits for more requests.
        token: What requests have to send as `Authorization: Bearer TOKEN`; None: nothing.

    Raises:
        ValueError: A value is out of range, a root is no folder, or the token has characters that a header cannot have.
    """

    video_roots: tuple[Path, ...] = ()
    max_upload_mb: float = 256.0
    timeout_seconds: float = 300.0
    max_queue: int = 128
    batch_size: int = 32
    batch_wait_seconds: float = 0.01
    token: str | None = None

    def __post_init__(self) -> None:
        for root in self.video_roots:
            if not root.is_dir():
                raise ValueError(f"--video-root {root}: no folder; expected the folder of the videos")
        for option, value in (("--max-upload-mb", self.max_upload_mb), ("--timeout", self.timeout_seconds)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{option}: expected a number above 0, got {value:g}")
        for option, count in (("--max-queue", self.max_queue), ("--batch-size", self.batch_size)):
            if count < 1:
                raise ValueError(f"{option}: expected at least 1, got {count}")
        if not (math.isfinite(self.batch_wait_seconds) and self.batch_wait_seconds >= 0):
            raise ValueError(f"--batch-wait-ms: expected 0 or more, got {1000 * self.batch_wait_seconds:g}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.split()
                                           == [self.token]):  # fmt: skip
            raise ValueError("the token: expected ASCII characters without spaces")

    @property
    def max_upload_bytes(self) -> int:
        """Largest request body, in bytes."""
        return int(self.max_upload_mb * MEGABYTE)
