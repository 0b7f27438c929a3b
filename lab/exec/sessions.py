"""What a `Lab` keeps open into its hosts: one session per host and user, one sniffer per watched host."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lab import forks
from lab.engine.base import HOSTEXEC_LABEL, PROJECT_LABEL, TEMPORARY_LABEL, Container, Engine
from lab.errors import HostError, LabError
from lab.exec import hostexec
from lab.exec.plain import PlainSession
from lab.exec.processes import Completed, Process
from lab.exec.remote import Session
from lab.toolbox.image import Toolbox


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

    def __init__(self, engine: Engine, toolbox: Toolbox) -> None:
        self._engine = engine
        self._toolbox = toolbox
        self.start_afresh()
        forks.note(self)

    def start_afresh(self) -> None:
        _with_sniffers.discard(self)
        self._open: dict[tuple[str, str | None], Session] = {}
        self._sniffers: dict[str, _Sniffer] = {}
        self._opening: dict[tuple[str, str | None], threading.Lock] = {}
        self._sniffing: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    def open(self, container: Container, user: str | None = None, name: str = "") -> Session:
        """The session of this user in this container; errors call the host by `name`.

        It goes by our own program where the container's image says that it holds that, else by the engine's exec.
        """

        def connected() -> Session:
            called = name or container.id[:12]
            if program := container.labels.get(HOSTEXEC_LABEL):
                return hostexec.Session(self._engine.open_exec(container.id, [program], user), called, program)
            project = container.labels.get(TEMPORARY_LABEL) or container.labels.get(PROJECT_LABEL, "")
            return PlainSession(
                self._engine, container.id, user, called, partial(self._toolbox.signal, container.id, project)
            )

        return self._opened((container.id, user), connected)

    def _opened(self, key: tuple[str, str | None], connected: Callable[[], Session]) -> Session:
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:  # two threads must not open the same one, and hosts need not wait for each other
            session = self._open.get(key)
            if session is None or not session.alive:
                session = connected()
                with self._lock:
                    self._open[key] = session
            return session

    def probe(self, container: Container, command: Sequence[str], seconds: float) -> Completed:
        """Run a host's health check once."""
        with Process(self.open(container, name=container.service).start(command)) as process:
            return process.communicate(timeout=seconds)

    def sniffer(self, container: str, project: str, name: str) -> Session:
        """A session, as root with NET_RAW, in a container of our own that shares this one's network."""
        with self._lock_of_sniffer(container):  # as for sessions: one at a time for a host
            record = self._engine.container(container)
            if record and record.network_mode == "host":
                raise HostError(
                    f"{name} is on the machine's own network, where the lab captures and injects nothing",
                    "Give it networks of its own in the Compose file (network_mode: host is what it has).",
                )
            started = self._engine.started_at(container)
            known = self._sniffers.get(container)
            if known is not None and known.host_started != started:
                self.forget(container)  # its host was restarted, and took the network they shared away
                known = None
            if known is None:
                known = _Sniffer(self._toolbox.beside(container, project), started)
                with self._lock:
                    self._sniffers[container] = known
                    _with_sniffers.add(self)
            sniffer = known.id
            return self._opened((sniffer, "root"), lambda: PlainSession(self._engine, sniffer, "root", name))

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
