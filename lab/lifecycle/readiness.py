"""When a host is ready: its own health check has succeeded; without one, when it runs.

The engine runs the check at its interval, and its events tell of the outcome. In an image that holds our program for
commands the check is run as soon as the host is up, since waiting for the first interval to pass would only tell later
what can be known at once. A host with ANNOUNCES_LABEL runs its check itself as it starts and says so in its log, which
spares the engine running a program in each; one that was up before or keeps silent is asked.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lab.engine.base import HOSTEXEC_LABEL, Container, Engine
from lab.engine.logs import LogReader
from lab.errors import CommandTimeout, ExpectationFailed, HostError, MachineError
from lab.exec.processes import Completed
from lab.waiting import Deadline

FIRST_PATIENCE, LAST_PATIENCE = 1.0, 5.0
"""Seconds that a probe may take, doubled with each: the first one's request may be lost on a host that just starts."""
FIRST_RETRY, LAST_RETRY = 0.05, 1.0
"""Seconds between two probes of a host that is not ready; the wait doubles, and an event of the host cuts it short."""
SIDE_BY_SIDE = 4
"""Probes at once: each takes the engine a program."""
LISTENERS = 32
"""Hosts looked after at once."""
ANNOUNCES_LABEL = "lab.announces"
"""On hosts that announce their success: the word that begins that line of the log. Without a check to run, the line
begins with `announce`."""
SILENCE = 3.0
"""Seconds after which a host that announces is asked all the same."""

Probe = Callable[[Container, Sequence[str], float], Completed]
"""Run an argument list in a container within so many seconds."""
Say = Callable[[Container], None]
"""Told of each host, by another thread, as it passes its check."""


class Readiness:
    """Looks after hosts that start: a context around whatever starts them, then `wait` for them.

    Each is looked at side by side with others. The hosts of `project` are looked at from the moment at which the
    engine tells of their start, so that those which started first are ready before the last one has.
    """

    def __init__(
        self, engine: Engine, probe: Probe, seconds: float, say: Say = lambda _: None, project: str | None = None
    ) -> None:
        """`seconds` are what each host is given, from when it is first looked at."""
        self._engine = engine
        self._probe = probe
        self._seconds = seconds
        self._say = say
        self._project = project
        self._news = threading.Condition()
        self._told: Counter[str] = Counter()
        self._began = time.time()
        self._started: set[str] = set()
        self._died: set[str] = set()
        self._logs: set[LogReader] = set()
        self._over = False
        self._looks: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(LISTENERS, thread_name_prefix="ready")
        self._probing = threading.Semaphore(SIDE_BY_SIDE)
        self._events = engine.events()

    def __enter__(self) -> Readiness:
        threading.Thread(target=self._read, name="ready-events", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._over = True
            self._news.notify_all()
            for log in self._logs:
                log.close()
        self._events.close()
        self._pool.shutdown(cancel_futures=True)

    def wait(self, containers: Sequence[Container]) -> None:
        """Return when each has passed its own health check.

        Raises HostError, with the host's last words, for the first that dies or has not passed in its time.
        """
        for look in [self._look_after(container) for container in containers]:
            look.result()

    def _read(self) -> None:
        # Events only tell sooner what would be found out anyway; a lost engine, too, is told by who asks it next.
        with contextlib.suppress(MachineError):
            self._listen()

    def _listen(self) -> None:
        for event in self._events:
            if event.action.startswith("exec_"):
                continue
            with self._news:
                if self._over:
                    return
                self._told[event.container] += 1
                self._news.notify_all()
                if event.action == "die":
                    self._died.add(event.container)
                elif event.action == "start" and event.subject.project == self._project:
                    self._started.add(event.container)
                    self._look_after(event.subject)

    def _look_after(self, container: Container) -> Future[None]:
        with self._news:
            if container.id not in self._looks:
                self._looks[container.id] = self._pool.submit(self._look, container)
            return self._looks[container.id]

    def _look(self, container: Container) -> None:
        """Until its check succeeds, or nobody waits for that any more."""
        if HOSTEXEC_LABEL not in container.labels:
            self._wait_for_the_engine(container)
        elif not self._announces(container) and not self._over:
            self._ask_until_it_succeeds(container)
        if not self._over:
            self._say(container)

    def _announces(self, container: Container) -> bool:
        """Whether the host, which must have started before our eyes, tells in time that its check has succeeded."""
        word = container.labels.get(ANNOUNCES_LABEL)
        if not word or container.id not in self._started:
            return False
        with LogReader(self._engine, container.id, self._began) as log:
            with self._news:
                if self._over:
                    return False
                self._logs.add(log)
            try:
                said = log.expect(rf"^({re.escape(word)}|announce):", SILENCE, container.name)
            except ExpectationFailed:
                return False
            finally:
                with self._news:
                    self._logs.discard(log)
        return said[1] == word

    def _wait_for_the_engine(self, container: Container) -> None:
        """Until the engine calls it healthy, or has no check to run."""
        deadline = Deadline.after(self._seconds)
        while not self._over:
            with self._news:
                before = self._told[container.id]
            record = self._engine.container(container.id)
            if record is None or record.state not in ("running", "paused"):
                raise HostError(f"{container.name} ended: {last_words(self._engine, container)}", remedy(container))
            if record.health in ("", "healthy"):
                return
            if deadline.passed:
                raise HostError(
                    f"{container.name} is not healthy: {self._verdict(container)}; its log ends with: "
                    f"{last_words(self._engine, container)}",
                    remedy(container),
                )
            with self._news:
                self._news.wait_for(
                    lambda: self._over or self._told[container.id] != before,  # noqa: B023 - used at once
                    min(LAST_RETRY, deadline.remaining),
                )

    def _verdict(self, container: Container) -> str:
        said = self._engine.health_said(container.id)
        if said is None:
            return f"the engine has not run its check to an end within {self._seconds:g} s"
        return f"its check says {_one_line(said)}"

    def _ask_until_it_succeeds(self, container: Container) -> None:
        command = self._engine.health_command(container.id)
        deadline, retry, patience = Deadline.after(self._seconds), FIRST_RETRY, FIRST_PATIENCE
        while command and (answer := self._ask(container, command, min(patience, max(deadline.remaining, 0.1)))):
            if deadline.passed:
                raise HostError(
                    f"{container.name} is not healthy: its check says {_one_line(answer)}; its log ends with: "
                    f"{last_words(self._engine, container)}",
                    remedy(container),
                )
            self._rest(container.id, min(retry, deadline.remaining))
            if self._over:
                return
            retry, patience = min(2 * retry, LAST_RETRY), min(2 * patience, LAST_PATIENCE)

    def _rest(self, container: str, seconds: float) -> None:
        """Until something happens to the container, at most so many seconds."""
        with self._news:
            before = self._told[container]
            self._news.wait_for(lambda: self._over or self._told[container] != before, seconds)

    def _ask(self, container: Container, command: Sequence[str], seconds: float) -> str | None:
        """None when the check succeeds, or nobody waits for that any more; else what it says.

        Raises HostError when the host has ended.
        """
        try:
            with self._probing:
                if self._over:
                    return None
                done = self._probe(container, command, seconds)
        except CommandTimeout:
            return f"no answer within {seconds:g} s"
        except HostError as error:
            if container.id in self._died or _ended(self._engine, container):
                raise HostError(
                    f"{container.name} ended: {last_words(self._engine, container)}", remedy(container)
                ) from error
            return error.cause
        if done.exit == 0:
            return None
        return (done.stderr or done.stdout).decode(errors="backslashreplace").strip() or f"exit code {done.exit}"


def _ended(engine: Engine, container: Container) -> bool:
    return not any(one.id == container.id and one.state in ("running", "paused") for one in engine.containers())


def last_words(engine: Engine, container: Container) -> str:
    """The end of the host's log on one line."""
    text = b"".join(engine.logs(container.id, tail=3)).decode(errors="backslashreplace")
    return _one_line(text) or "(nothing)"


def remedy(container: Container) -> str:
    name = container.service or container.name
    return f"lab logs {name} shows the whole log, lab doctor looks at the machine; lab up tries again."


def _one_line(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())
