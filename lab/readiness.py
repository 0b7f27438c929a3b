"""When a host is ready: its own health check, run inside it as soon as it is up, has succeeded.

The engine runs the same check at its interval and shows the outcome in its lists; waiting for the first interval to
pass would only tell later what can be known at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lab.engine import Container, Engine
from lab.errors import CommandTimeout, HostError
from lab.processes import Completed
from lab.waiting import Deadline

PROBE_SECONDS = 5.0
FIRST_RETRY, LAST_RETRY = 0.05, 1.0
"""Seconds between two probes of a host that is not ready; the wait doubles, and an event of the host cuts it short."""

Probe = Callable[[Container, Sequence[str], float], Completed]
"""Run an argument list in a container within so many seconds."""


def wait_until_ready(
    engine: Engine, containers: Sequence[Container], probe: Probe, deadline: Deadline, say: Callable[[Container], None]
) -> None:
    """Return when each container has passed its own health check; `say` is told of each as it does.

    Raises HostError, with the host's last words, for the first that dies or has not passed at the deadline.
    """
    watch = _Watch(engine, containers)
    try:
        with ThreadPoolExecutor(max_workers=max(1, min(8, len(containers))), thread_name_prefix="ready") as pool:
            for container in pool.map(lambda one: _wait(engine, one, probe, deadline, watch), containers):
                say(container)
    finally:
        watch.close()


class _Watch:
    """Wakes those who wait for a container when the engine tells of it."""

    def __init__(self, engine: Engine, containers: Sequence[Container]) -> None:
        self._news = threading.Condition()
        self._died: set[str] = set()
        self._told = {container.id: 0 for container in containers}
        self._stream = engine.events()
        threading.Thread(target=self._read, name="ready-events", daemon=True).start()

    def _read(self) -> None:
        for event in self._stream:
            if event.container in self._told and not event.action.startswith("exec_"):
                with self._news:
                    self._told[event.container] += 1
                    if event.action == "die":
                        self._died.add(event.container)
                    self._news.notify_all()

    def died(self, container: str) -> bool:
        return container in self._died

    def wait(self, container: str, seconds: float) -> None:
        """Until something happens to the container, at most so many seconds."""
        with self._news:
            before = self._told[container]
            self._news.wait_for(lambda: self._told[container] != before, seconds)

    def close(self) -> None:
        self._stream.close()


def _wait(engine: Engine, container: Container, probe: Probe, deadline: Deadline, watch: _Watch) -> Container:
    command = engine.health_command(container.id)
    if not command:
        return container
    retry, answer = FIRST_RETRY, ""
    while True:
        try:
            done = probe(container, command, min(PROBE_SECONDS, max(deadline.remaining, 0.1)))
            if done.exit == 0:
                return container
            answer = (done.stderr or done.stdout).decode(errors="backslashreplace").strip() or f"exit code {done.exit}"
        except CommandTimeout:
            answer = f"no answer within {PROBE_SECONDS:g} s"
        except HostError as error:
            answer = error.cause
            if watch.died(container.id) or _ended(engine, container):
                raise HostError(
                    f"{container.name} ended: {last_words(engine, container)}", remedy(container)
                ) from error
        if deadline.passed:
            raise HostError(
                f"{container.name} is not healthy: its check says {_one_line(answer)}; its log ends with: "
                f"{last_words(engine, container)}",
                remedy(container),
            )
        watch.wait(container.id, min(retry, deadline.remaining))
        retry = min(2 * retry, LAST_RETRY)


def _ended(engine: Engine, container: Container) -> bool:
    return not any(one.id == container.id and one.state in ("running", "paused") for one in engine.containers())


def last_words(engine: Engine, container: Container) -> str:
    """The end of the host's log on one line."""
    text = b"".join(engine.logs(container.id, tail=3)).decode(errors="backslashreplace")
    return _one_line(text) or "(nothing)"


def remedy(container: Container) -> str:
    return f"lab logs {container.service or container.name} shows the whole log; lab up tries again."


def _one_line(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())
