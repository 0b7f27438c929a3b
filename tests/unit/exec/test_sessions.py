from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from lab.engine.base import TemporaryContainer, Transport
from lab.errors import HostError
from lab.exec import hostexec
from lab.exec.plain import PlainSession
from lab.exec.sessions import Sessions
from lab.toolbox.image import Toolbox, image_name
from tests.unit.fake_engine import FakeEngine, container
from tests.unit.fake_hostexec import FakeHost
from tests.unit.fake_store import FakeStore

PROJECT = Path(__file__).parents[3]


ONE, TWO = container("one"), container("two")


def opened(engine: FakeEngine) -> Sessions:
    """Into the hosts of an engine that has the toolbox."""
    return Sessions(engine, Toolbox(engine, lambda: FakeStore(image_name())))


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
    sessions = opened(engine)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: sessions.open(ONE), range(2))
    assert first is second
    assert len(engine.hosts) == 1
    sessions.close()


def test_sessions_of_two_hosts_open_side_by_side() -> None:
    engine = SlowEngine()
    sessions = opened(engine)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(sessions.open, [ONE, TWO])
    assert first is not second
    sessions.close()
    assert not first.alive
    assert not second.alive


def test_a_host_goes_by_our_program_where_its_image_says_that_it_holds_it() -> None:
    engine = SnifferEngine(lambda: None)
    sessions = opened(engine)
    foreign = replace(TWO, labels={})
    assert isinstance(sessions.open(ONE), hostexec.Session)
    assert isinstance(sessions.open(foreign), PlainSession)
    assert sessions.open(foreign) is sessions.open(foreign)
    sessions.close()


def test_nothing_is_captured_on_the_machines_own_network() -> None:
    engine = FakeEngine([replace(ONE, network_mode="host")])
    with pytest.raises(HostError, match="router is on the machine's own network, where the lab captures and injects"):
        opened(engine).sniffer(ONE.id, "small", "router")


class SnifferEngine(FakeEngine):
    """Makes a container only when `ready` says so."""

    def __init__(self, ready: Callable[[], object]) -> None:
        super().__init__()
        self._ready = ready

    def create(self, wanted: TemporaryContainer) -> str:
        self._ready()
        return super().create(wanted)

    def open_exec(self, container: str, argv: Sequence[str], user: str | None) -> Transport:
        return FakeHost()


def test_two_threads_share_the_sniffer_that_the_first_makes() -> None:
    both = threading.Barrier(2)

    def ready() -> None:  # when both are at it, or when it is clear that one waits for the other
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)

    engine = SnifferEngine(ready)
    sessions = opened(engine)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: sessions.sniffer("one", "small", "router"), range(2))
    assert first is second
    assert len(engine.records) == 1
    sessions.close()
    assert engine.records == []


def test_a_sniffer_that_is_being_made_is_ended_by_close_too() -> None:
    making, go = threading.Event(), threading.Event()

    def ready() -> None:
        making.set()
        assert go.wait(5)

    engine = SnifferEngine(ready)
    sessions = opened(engine)
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(sessions.sniffer, "one", "small", "router")
        assert making.wait(5)
        closed = pool.submit(sessions.close)
        wait([closed], timeout=0.2)  # as far as it gets
        go.set()
        closed.result(5)
    assert not made.result(5).alive
    assert engine.records == []


def test_a_host_that_was_restarted_gets_another_sniffer() -> None:
    engine = SnifferEngine(lambda: None)
    sessions = opened(engine)
    first = sessions.sniffer("one", "small", "router")
    engine.started_at = lambda container: "later"  # type: ignore[method-assign]
    second = sessions.sniffer("one", "small", "router")
    assert (first.alive, second.alive) == (False, True)
    assert len(engine.records) == 1
    sessions.close()


AT_EXIT = """
from tests.unit.exec.test_sessions import SnifferEngine, opened

class Telling(SnifferEngine):
    def remove(self, container):
        super().remove(container)
        print("removed", container)

for number in range(2):
    opened(Telling(lambda: None)).sniffer("one", "small", "router")
"""


def test_what_nobody_closes_ends_with_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT], capture_output=True, text=True, timeout=30, cwd=PROJECT
    )
    assert (done.stdout, done.stderr) == ("removed temporary-0\n" * 2, "")
