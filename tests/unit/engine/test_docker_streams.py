"""Streams of the engine over a real socket: what arrives, who may end them, and that nobody is left waiting."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.engine import docker_engine
from lab.engine.base import Event
from lab.engine.docker_engine import DockerEngine
from lab.engine.docker_streams import ExecTransport
from lab.engine.logs import LogReader
from lab.errors import HostError, MachineError
from tests.unit.socket_engine import Answer, Handler, SocketEngine, block, document, missing

Serve = Callable[[dict[str, Answer]], DockerEngine]
CONTAINER = {"/containers/x/json": document({"Config": {"Tty": False}})}
EXEC = {"/containers/x/exec": document({"Id": "e"})}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(answers: dict[str, Answer]) -> DockerEngine:
            server = stack.enter_context(SocketEngine(tmp_path / "engine.sock", answers))
            engine = DockerEngine(server.variables)
            stack.callback(engine.close)
            return engine

        yield start
    gc.collect()  # a finalizer that finds its socket closed complains here, and so in the test that caused it


def serving(said: bytes) -> Answer:
    """A log that goes on after it has said that."""

    def answer(handler: Handler) -> None:
        handler.start()
        handler.chunk(said)
        handler.server.over.wait()

    return answer


# A log, the events


def test_a_log_is_output_and_error_in_their_order_however_they_arrive(serve: Serve) -> None:
    def answer(handler: Handler) -> None:
        handler.start()
        said = block(1, b"one\n") + block(2, b"two\n") + block(1, b"three\n")
        for at in range(0, len(said), 5):
            handler.chunk(said[at : at + 5])
        handler.chunk(b"")

    engine = serve({**CONTAINER, "/containers/x/logs": answer})
    assert b"".join(engine.logs("x")) == b"one\ntwo\nthree\n"


def test_a_terminals_log_is_not_multiplexed(serve: Serve) -> None:
    def answer(handler: Handler) -> None:
        handler.start()
        handler.chunk(b"got 492 from 192.168.1.73\r\n")
        handler.chunk(b"")

    terminal = {"/containers/x/json": document({"Config": {"Tty": True}})}
    engine = serve({**terminal, "/containers/x/logs": answer})
    assert b"".join(engine.logs("x")) == b"got 492 from 192.168.1.73\r\n"


def test_an_event_is_told_as_soon_as_its_line_has_ended(serve: Serve) -> None:
    engine = serve({"/events": serving(b'{"Action": "start", "Actor": {"ID": "x"}}\n{"Action": "die"')})
    events = engine.events()
    assert next(iter(events)) == Event("x", "start")
    events.close()


def test_a_container_that_is_gone_is_told_so(serve: Serve) -> None:
    engine = serve({**CONTAINER, "/containers/x/logs": missing})
    with pytest.raises(HostError, match="x is gone: No such container"):
        engine.logs("x")


def test_close_ends_who_reads_in_another_thread(serve: Serve) -> None:
    engine = serve({**CONTAINER, "/containers/x/logs": serving(block(1, b"first\n"))})
    stream = engine.logs("x", follow=True)
    heard, first = [], threading.Event()

    def read() -> None:
        for chunk in stream:
            heard.append(chunk)
            first.set()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert first.wait(5)
        stream.close()
        reading.result(5)
    assert heard == [b"first\n"]


def test_a_stream_that_is_closed_between_two_reads_has_ended(serve: Serve) -> None:
    """As when another thread closes it while its reader is busy with what it has read."""
    engine = serve({**CONTAINER, "/containers/x/logs": serving(block(1, b"one\n"))})
    stream = engine.logs("x")
    pieces = iter(stream)
    assert next(pieces) == b"one\n"
    stream.close()
    assert list(pieces) == []


def test_streams_may_be_ended_while_other_requests_run(serve: Serve) -> None:
    """An ended stream's connection must not come back to be somebody else's (ResponseNotReady)."""
    answers = {**CONTAINER, "/containers/x/logs": serving(block(1, b"line\n")), "/containers/json": document([])}
    engine = serve(answers)

    def follow(_: int) -> None:
        with LogReader(engine, "x", 1.0) as log:
            log.expect("line", 5, "x")

    def ask(_: int) -> None:
        assert engine.containers() == []

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, number) for number in range(100) for work in (follow, ask)]
        for one in done:
            one.result(20)


def test_what_the_record_itself_does_wrong_is_not_taken_for_an_end(serve: Serve) -> None:
    engine = serve({"/events": serving(b"no JSON\n")})
    with pytest.raises(ValueError, match="Expecting value"):
        next(iter(engine.events()))


def test_an_engine_that_breaks_off_is_no_end(serve: Serve) -> None:
    def answer(handler: Handler) -> None:
        handler.start()
        handler.chunk(block(1, b"half of\n"))
        handler.close_connection = True

    engine = serve({**CONTAINER, "/containers/x/logs": answer})
    with pytest.raises(MachineError, match="broke off in the middle"):
        list(engine.logs("x", follow=True))
    with LogReader(engine, "x", 1.0) as log, pytest.raises(MachineError, match="broke off in the middle"):
        log.expect("the other half", 5, "x")


# A program's input and output


def upgraded(serve: Serve, early: bytes, then: Callable[[socket.socket], None]) -> ExecTransport:
    def answer(handler: Handler) -> None:
        handler.upgrade(early)
        then(handler.connection)

    return serve({**EXEC, "/exec/e/start": answer}).open_exec("x", ["program"], None)


def test_what_came_along_with_the_engines_answer_is_not_lost(serve: Serve) -> None:
    go = threading.Event()

    def late(connection: socket.socket) -> None:
        assert go.wait(5)
        connection.sendall(block(1, b"late"))

    transport = upgraded(serve, block(1, b"early"), late)
    assert transport.recv(100) == b"early"
    go.set()
    assert transport.recv(100) == b"late"
    assert transport.recv(100) == b""
    transport.close()


def test_a_block_may_be_taken_in_pieces(serve: Serve) -> None:
    transport = upgraded(serve, block(1, b"early")[:5], lambda far: far.sendall(block(1, b"early")[5:]))
    assert [transport.recv(2), transport.recv(2), transport.recv(2)] == [b"ea", b"rl", b"y"]
    transport.close()


def test_standard_error_is_kept_apart(serve: Serve) -> None:
    transport = upgraded(serve, block(2, b"no such program\n") + block(1, b"x"), lambda far: None)
    assert transport.recv(100) == b"x"
    assert transport.recv(100) == b""
    assert transport.complaint == b"no such program\n"
    transport.close()


def test_what_is_sent_arrives_and_close_is_the_end_on_both_sides(serve: Serve) -> None:
    heard: list[bytes] = []
    ended = threading.Event()

    def listen(far: socket.socket) -> None:
        while data := far.recv(100):
            heard.append(data)
        ended.set()

    transport = upgraded(serve, b"", listen)
    transport.send(b"frame")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(transport.recv, 100)
        transport.close()
        assert reading.result(5) == b""
    assert ended.wait(5)
    assert heard == [b"frame"]


# An engine that has stopped


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "TIMEOUT", 1)


def silent(handler: Handler) -> None:
    handler.server.over.wait()


@pytest.mark.usefixtures("impatient")
def test_a_stopped_engine_is_told_of_and_not_waited_for(serve: Serve) -> None:
    engine = serve({**CONTAINER, **EXEC, "/containers/x/logs": silent, "/events": silent, "/exec/e/start": silent})
    for call in (lambda: engine.logs("x"), engine.events, lambda: engine.open_exec("x", ["program"], None)):
        with pytest.raises(MachineError, match="no engine answers"):
            call()


@pytest.mark.usefixtures("impatient")
def test_an_engine_that_stops_in_the_middle_of_a_log_is_told_of(serve: Serve) -> None:
    engine = serve({**CONTAINER, "/containers/x/logs": serving(block(1, b"half of\n"))})
    with pytest.raises(MachineError, match="no engine answers"):
        list(engine.logs("x"))


@pytest.mark.usefixtures("impatient")
def test_an_engine_that_reads_no_more_does_not_hold_up_who_sends(serve: Serve) -> None:
    over = threading.Event()
    transport = upgraded(serve, b"", lambda far: over.wait() and None)
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's affair
        transport.send(bytes(10_000_000))
    over.set()
    transport.close()


@pytest.mark.usefixtures("impatient")
def test_a_program_may_be_silent_for_longer_than_a_request_may_take(serve: Serve) -> None:
    go = threading.Event()

    def late(far: socket.socket) -> None:
        assert not go.wait(1.2)
        far.sendall(block(1, b"late"))

    transport = upgraded(serve, b"", late)
    assert transport.recv(100) == b"late"
    transport.close()
