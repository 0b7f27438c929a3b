"""A child made by fork opens what it needs anew, and whatever it does with what is its parent's leaves that alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.engine.docker_engine import DockerEngine
from lab.errors import HostError
from lab.exec.hostexec import Frame, Session
from lab.exec.processes import Process
from tests.unit.exec.test_sessions import ONE, opened
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_hostexec import FakeHost
from tests.unit.socket_engine import Handler, SocketEngine, block, document

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, of threads


def in_child(work: Callable[[], object]) -> None:
    """Fork, and fail with what fails in the child, or when it has not ended in time."""
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(10)
        try:
            work()
            status = 0
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


class Host(FakeHost):
    """Ends each command when it gets input; `close` would be noticed."""

    def __init__(self) -> None:
        self.closed = False
        super().__init__(self._answer)

    def _answer(self, host: FakeHost, heard: Frame) -> None:
        kind, number, _ = heard
        if kind == b"I":
            self.say(b"X", number, 0)

    def close(self) -> None:
        self.closed = True
        super().close()


@contextmanager
def held(lock: threading.Condition | threading.Lock) -> Iterator[None]:
    """By another thread, which a child would not have."""
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(5)
    try:
        yield
    finally:
        over.set()
        holder.join()


def test_a_command_of_the_parent_is_told_lost_in_the_child_at_once_and_goes_on_in_the_parent() -> None:
    host = Host()
    session = Session(host, "client")
    process = Process(session.start(["cat"]))

    def work() -> None:
        assert not session.alive
        process.kill()
        with pytest.raises(HostError, match="client is that of the process that forked this one"):
            process.wait(5)

    with held(process._news), held(session._state), held(session._sending):
        in_child(work)
    heard = len(host.heard)
    process.write(b"x")
    assert process.wait(5).exit == 0
    assert len(host.heard) == heard + 1
    session.close()


class HostsEngine(FakeEngine):
    def open_exec(self, container: str, argv: object, user: str | None) -> Host:
        return Host()


def test_the_child_opens_sessions_of_its_own_and_removes_no_sniffer_of_its_parent() -> None:
    engine = HostsEngine()
    sessions = opened(engine)
    first, sniffer = sessions.open(ONE), sessions.sniffer("one", "small", "router")

    def work() -> None:
        second = sessions.open(ONE)
        assert second is not first
        assert second.alive
        assert sessions.sniffer("one", "small", "router") is not sniffer
        sessions.close()
        assert [name for action, name in engine.done if action == "remove"] == ["temporary-1"]

    with held(sessions._lock):
        in_child(work)
    assert first.alive
    sessions.close()


def test_a_stream_that_the_child_closes_goes_on_in_the_parent(tmp_path: Path) -> None:
    go = threading.Event()

    def log(handler: Handler) -> None:
        handler.start()
        assert go.wait(5)
        handler.chunk(block(1, b"after the fork\n"))
        handler.chunk(b"")

    answers = {
        "/containers/x/json": document({"Config": {"Tty": False}}),
        "/containers/x/logs": log,
        "/containers/json": document([]),
    }
    with SocketEngine(tmp_path / "engine.sock", answers) as server:
        engine = DockerEngine(server.variables)
        stream = engine.logs("x", follow=True)

        def work() -> None:
            stream.close()
            assert engine.containers() == []
            engine.close()

        with held(engine._connecting):
            in_child(work)
        go.set()
        assert list(stream) == [b"after the fork\n"]
        engine.close()
