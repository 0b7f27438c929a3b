"""What a `Lab` keeps open into its hosts: one session per host and user, one sniffer per watched host."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from lab import forks
from lab.engine.base import Container, Engine, TemporaryContainer
from lab.errors import LabError
from lab.exec.hostexec import PROGRAM, Session
from lab.exec.processes import Completed, Process

SNIFFER_IMAGE = "datagram-lab/client"


@dataclass(frozen=True)
class _Sniffer:
    id: str
    host_started: str


_with_sniffers: set[Sessions] = set()
"""Those that have left a container in the engine, held here lest nobody else does."""


@atexit.register
def _close_at_exit() -> None:
    for sessions in list(_with_sniffers):
        with contextlib.suppress(LabError):
            sessions.close()


class Sessions:
    """Opens at first use, again after a host was restarted; `close` ends everything it opened. Thread-safe.

    What is not closed ends with the interpreter. A child made by fork opens its own, and leaves its parent's alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.start_afresh()
        forks.note(self)

    def start_afresh(self) -> None:
        _with_sniffers.discard(self)
        self._open: dict[tuple[str, str | None], Session] = {}
        self._sniffers: dict[str, _Sniffer] = {}
        self._opening: dict[tuple[str, str | None], threading.Lock] = {}
        self._sniffing: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    def open(self, container: str, user: str | None = None, name: str = "") -> Session:
        """The session of this user in this container; errors call the host by `name`."""
        key = container, user
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:  # two threads must not open the same one, and hosts need not wait for each other
            session = self._open.get(key)
            if session is None or not session.alive:
                session = Session(self._engine.open_exec(container, [PROGRAM], user), name or container[:12])
                with self._lock:
                    self._open[key] = session
            return session

    def probe(self, container: Container, command: Sequence[str], seconds: float) -> Completed:
        """Run a host's health check once."""
        with Process(self.open(container.id, name=container.service).start(command)) as process:
            return process.communicate(timeout=seconds)

    def sniffer(self, container: str, project: str, name: str) -> Session:
        """A session, as root with NET_RAW, in a container of our own that shares this one's network."""
        with self._lock_of_sniffer(container):  # as for sessions: one at a time for a host
            started = self._engine.started_at(container)
            known = self._sniffers.get(container)
            if known is not None and known.host_started != started:
                self.forget(container)  # its host was restarted, and took the network they shared away
                known = None
            if known is None:
                wanted = TemporaryContainer(
                    SNIFFER_IMAGE,
                    project,
                    ["sleep", "infinity"],
                    network_of=container,
                    user="root",
                    cap_add=["NET_RAW"],
                )
                known = _Sniffer(self._engine.create(wanted), started)
                with self._lock:
                    self._sniffers[container] = known
                    _with_sniffers.add(self)
            return self.open(known.id, "root", name)

    def forget(self, container: str) -> None:
        """End what is open into a container that is going away; a sniffer that is just being made, too."""
        with self._lock_of_sniffer(container):
            with self._lock:
                gone = [key for key in self._open if key[0] == container]
                sessions = [self._open.pop(key) for key in gone]
                sniffer = self._sniffers.pop(container, None)
            for session in sessions:
                session.close()
            if sniffer is not None:
                self.forget(sniffer.id)
                self._engine.remove(sniffer.id)

    def close(self) -> None:
        with self._lock:
            containers = {key[0] for key in self._open} | set(self._sniffing)
        for container in containers:
            self.forget(container)
        _with_sniffers.discard(self)

    def _lock_of_sniffer(self, container: str) -> threading.RLock:
        with self._lock:
            return self._sniffing.setdefault(container, threading.RLock())
