from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lab.hostexec import Transport
from lab.sessions import Sessions
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_hostexec import FakeHost


class SlowEngine(FakeEngine):
    """Opens an exec only when both threads have asked, or when it is clear that one waits for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[FakeHost] = []
        self._both = threading.Barrier(2)

    def open_exec(self, container: str, argv: Sequence[str], user: str | None) -> Transport:
        with contextlib.suppress(threading.BrokenBarrierError):
            self._both.wait(0.2)
        self.hosts.append(FakeHost())
        return self.hosts[-1]


def test_two_threads_share_the_session_that_the_first_opens() -> None:
    engine = SlowEngine()
    sessions = Sessions(engine)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: sessions.open("one"), range(2))
    assert first is second
    assert len(engine.hosts) == 1
    sessions.close()


def test_sessions_of_two_hosts_open_side_by_side() -> None:
    engine = SlowEngine()
    sessions = Sessions(engine)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(sessions.open, ["one", "two"])
    assert first is not second
    sessions.close()
    assert not first.alive
    assert not second.alive
