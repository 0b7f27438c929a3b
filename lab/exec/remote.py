"""A command under way in a host, whatever way it was started: what `lab.exec.processes.Process` stands on.

`lab.exec.hostexec` starts commands by a program of ours inside the host, `lab.exec.plain` by the engine's own exec,
in any image.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from lab import forks
from lab.errors import CommandTimeout, HostError, UsageError
from lab.waiting import Deadline

OUTPUT_WINDOW = 1 << 18
"""Bytes of output that a command may be ahead of who reads it."""
LEFT_BEHIND = "the connection to {} is that of the process that forked this one"

STDOUT, STDERR = 1, 2
Chunk = tuple[int, bytes]
"""STDOUT or STDERR, and some bytes of it, never empty."""


class Session(Protocol):
    """The commands of one host and user. Threads may share it."""

    name: str
    """The host's, for errors."""

    @property
    def alive(self) -> bool:
        """False once the connection has ended; a new one is needed then."""

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> RemoteProcess:
        """Have the command started, and do not wait until it is.

        `env` adds to the container's environment. A command that cannot be started ends with exit code 127 or 126
        and the reason on its standard error.
        """

    def close(self) -> None:
        """End the connection; what still runs of its commands is killed in the host."""


def check_words(argv: Sequence[str], words: Sequence[str]) -> None:
    """Raise UsageError for an argument list that is none, and for words that no command can be given."""
    if not argv or isinstance(argv, str):
        raise UsageError(f"a command is a list with at least one word, such as ['nc', '-u'], not {argv!r}")
    if any("\0" in word for word in words):
        raise UsageError(f"a NUL character cannot be passed to a command: {words!r}")


class RemoteProcess(ABC):
    """One command under way in a host. `lab.exec.processes.Process` is what users hold.

    Its output is read either chunk by chunk (`chunks`), when the command waits for a slow reader as it would at a
    pipe, or by a `sink`, which gets each chunk at once.
    """

    def __init__(self, argv: Sequence[str], host: str) -> None:
        self.argv = tuple(argv)
        self.host = host
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        self.status: int | None = None
        """Exit code, or minus the signal that killed it; None while it runs."""
        self.news = threading.Condition()
        """Notified at each chunk, credit and change of state."""
        self._lost: str | None = None
        self._chunks: deque[Chunk] = deque()
        self._sink: Callable[[int, bytes], None] | None = None
        forks.note(self)

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process id inside the host; 0 for what could not be started."""

    @abstractmethod
    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        """Send bytes to its standard input; waits while too many of them are still unread there.

        Raises CommandError when it has ended, CommandTimeout (without harm to the command) at the deadline.
        """

    @abstractmethod
    def close_stdin(self) -> None:
        """End its standard input; no matter if it has ended."""

    @abstractmethod
    def signal(self, number: int) -> None:
        """Send a signal to its process group (SIGKILL: to all of its session); no matter if it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """End it and all that it started, for certain."""

    @abstractmethod
    def took(self, size: int) -> None:
        """Note that so many bytes of output have been read, by whoever read them; `news` is not held."""

    @property
    def over(self) -> bool:
        """Whether it has ended, or the connection to it has."""
        return self.status is not None or self._lost is not None

    def check_alive(self) -> None:
        """Raise HostError if the connection ended before the command did."""
        if self.status is None and self._lost is not None:
            raise HostError(self._lost, f"lab status shows whether it runs, lab logs {self.host} what it said last.")

    def chunks(self, deadline: Deadline | None = None) -> Iterator[Chunk]:
        """Its output as it comes, to the end of it; CommandTimeout (without harm to the command) at the deadline."""
        while True:
            with self.news:
                if not self.news.wait_for(
                    lambda: self._chunks or self.over, None if deadline is None else deadline.remaining
                ):
                    raise CommandTimeout(f"`{self.argv[0]}` on {self.host} had not ended in time")
                if not self._chunks:
                    self.check_alive()
                    return
                chunk = self._chunks.popleft()
            yield chunk
            self.took(len(chunk[1]))

    def attach(self, sink: Callable[[int, bytes], None]) -> None:
        """Hand all output to `sink`, under `news`, from the thread that reads; it must not wait for anything."""
        with self.news:
            self._sink = sink
            taken = 0
            while self._chunks:
                chunk = self._chunks.popleft()
                taken += len(chunk[1])
                sink(*chunk)
        self.took(taken)

    def arrive(self, stream: int, data: bytes) -> bool:
        """Take in some output, under `news`; whether it has been read already, by a sink."""
        if self._sink:
            self._sink(stream, data)
            return True
        self._chunks.append((stream, data))
        return False

    def end(self, status: int) -> None:
        """Note its end, under `news`."""
        self.ended_at = time.monotonic()
        self.status = status

    def lose(self, reason: str) -> None:
        """Note that nothing more will come."""
        with self.news:
            self._lost = reason
            self.news.notify_all()

    def start_afresh(self) -> None:
        threading.Condition.__init__(self.news)  # in its place, since others hold it, too
        self._lost = LEFT_BEHIND.format(self.host)
