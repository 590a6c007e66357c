"""Find out why a run failed, from the lines that it printed."""

import re
import time
from collections import deque

# The watchdog's words, an exception's last line, and what Ray's C++ side says before it ends the process.
REASON = re.compile(
    r"(watchdog: .*|Failed to connect to GCS .*|\b\w*(?:Error|Exception): .*|\b\w*(?:Error|Exception):$)"
)
DEAD_ACTOR = re.compile(r"\tclass_name: (?:.*\.)?(\w+)")  # a line of what Ray says of an actor that died
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PREFIX = re.compile(r"^((?:\([\w:. /-]+ pid=\d+(?:, ip=[^)]*)?\) ?)+)")  # of Ray and vLLM, before what a process prints
LOG_PREFIX = re.compile(r"^(?:ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[\w.]+:\d+\] ")  # vLLM's, before every line
POINTER = re.compile(r"[Ss]ee (?:root cause|stack trace)")  # an exception that refers to another one above it
# Lines that follow an exception's message and are not part of it.
AFTER = re.compile(
    r"^(Traceback \(|  File |During handling|The above exception|Set the environment variable HYDRA_FULL_ERROR|"
    r"\[|\d{4}-\d\d-\d\d |\d\d:\d\d:\d\d|(INFO|WARNING|ERROR|DEBUG)\b|[IWEF]\d{4} |\*\*\*|\w+:\w+:)"
)
LONGEST_REASON = 12  # lines
CONTEXT = 15  # lines of the log


class FailureReader:
    """Follows a log and keeps the last complete reason for a failure, with the lines around it."""

    def __init__(self) -> None:
        self._reason: list[str] = []
        self._excerpt: list[str] = []
        self._source: str | None = None  # whose reason is still being printed
        self._recent: dict[str, deque[str]] = {}  # the last lines of each process
        self._deaths: dict[str, float] = {}  # class of a Ray actor -> when its death was reported

    def feed(self, line: str) -> None:
        """Read one line."""
        content = ANSI.sub("", line).rstrip()
        found = PREFIX.match(content)
        source = found[1].strip() if found else ""
        content = content[found.end() :] if found else content
        logged = LOG_PREFIX.match(content)
        content = content[logged.end() :] if logged else content
        recent = self._recent.setdefault(source, deque(maxlen=CONTEXT))
        recent.append(content)
        if self._reason and self._reason[0].startswith("watchdog"):
            return  # what fails and dies from here on is its doing
        if dead := DEAD_ACTOR.search(content):
            self._deaths[dead[1]] = time.monotonic()
        source = f"{source} logged" if logged else source  # each line of a logged message begins alike
        continues = source == self._source and content.strip() and not AFTER.match(content)
        if self._source is not None and source == self._source and not continues:
            self._source = None
        if match := REASON.search(content):
            if continues and self._source is not None and (self._reason[-1].endswith(":") or content[0].isspace()):
                self._reason.append(content)  # the message names another exception
            elif POINTER.search(content) and self._reason:
                root = (
                    self._reason[1:]
                    if POINTER.search(self._reason[0])
                    else [f"root cause: {self._reason[0]}", *self._reason[1:]]
                )
                self._reason, self._source = [match[1], *root], None
                return
            else:
                self._reason, self._source = [match[1]], source
            self._excerpt = list(recent)
        elif self._source is not None and continues and len(self._reason) < LONGEST_REASON:
            self._reason.append(content)
            self._excerpt = list(recent)

    @property
    def reason(self) -> str | None:
        """The last reason; it may have several lines."""
        return "\n".join(self._reason) or None

    @property
    def excerpt(self) -> list[str]:
        """The lines of the failed process up to its reason, at most `CONTEXT`."""
        return self._excerpt

    def dead_actors(self, since: float) -> list[str]:
        """Classes of the Ray actors whose death was reported since then, a moment of `time.monotonic`."""
        return [name for name, reported in self._deaths.items() if reported >= since]
