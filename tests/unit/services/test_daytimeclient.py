"""The daytime client of the workstation, against servers on the loopback that lose, garble or refuse."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "services" / "client" / "daytimeclient"
LINE = b"01 JUL 2014 10:26:42 BST\r\n"


@pytest.fixture(scope="module")
def daytimeclient() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("daytimeclient", str(PROGRAM))
    spec = importlib.util.spec_from_loader("daytimeclient", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


@contextmanager
def server(reply: bytes = LINE, *, ignoring: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Its port and what it has received; the first `ignoring` datagrams get no answer."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, sender = sock.recvfrom(1024)
                if data == b"end":
                    return
                heard.append(data)
                if len(heard) > ignoring:
                    sock.sendto(reply, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1], heard
        finally:
            sock.sendto(b"end", sock.getsockname())
            thread.join()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=20, check=False)


def test_it_prints_the_line_of_the_article() -> None:
    with server() as (port, _):
        done = run("127.0.0.1", str(port))
    assert done.stdout == f"time from ('127.0.0.1', {port})  is  01 JUL 2014 10:26:42 BST\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_datagram_wakes_the_server(daytimeclient: ModuleType) -> None:
    with server() as (port, heard):
        assert daytimeclient.ask("localhost", port) == ("01 JUL 2014 10:26:42 BST", ("127.0.0.1", port))
    assert heard == [b""]


def test_a_lost_request_is_sent_again(daytimeclient: ModuleType) -> None:
    with server(ignoring=2) as (port, heard):
        line, _ = daytimeclient.ask("127.0.0.1", port, timeout=0.05)
    assert line == "01 JUL 2014 10:26:42 BST"
    assert len(heard) >= 3


def test_it_gives_up_after_its_tries(daytimeclient: ModuleType) -> None:
    with server(ignoring=99) as (port, heard):
        with pytest.raises(daytimeclient.NoTime, match=f"127.0.0.1 port {port}: no answer to 4 datagrams") as raised:
            daytimeclient.ask("127.0.0.1", port, timeout=0.02, tries=4)
        assert raised.value.code == 111
    assert len(heard) == 4


def test_it_waits_a_second_and_tries_more_than_three_times_by_itself(daytimeclient: ModuleType) -> None:
    assert daytimeclient.TIMEOUT >= 1
    assert daytimeclient.TRIES >= 3


def test_a_stranger_is_not_believed(daytimeclient: ModuleType) -> None:
    """Only the address that was asked may answer, however quick another one is."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as o,
    ):
        asked.bind(("127.0.0.1", 0))

        def answer() -> None:
            _, client = asked.recvfrom(1024)
            o.sendto(b"31 DEC 1999 23:59:59 GMT\r\n", client)
            asked.sendto(LINE, client)

        thread = threading.Thread(target=answer)
        thread.start()
        line, _ = daytimeclient.ask("127.0.0.1", asked.getsockname()[1])
        thread.join()
    assert line == "01 JUL 2014 10:26:42 BST"


def test_a_servers_bytes_cannot_reach_the_terminal_raw(daytimeclient: ModuleType) -> None:
    with server(b"\x1b[2J\xff now\n") as (port, _):
        line, _ = daytimeclient.ask("127.0.0.1", port)
    assert line == r"\x1b[2J\xff now"


def test_a_port_that_nobody_has_is_refused_at_once() -> None:
    port = free_port()
    done = run("127.0.0.1", str(port))
    assert done.returncode == 111
    assert re.fullmatch(rf"daytimeclient: 127\.0\.0\.1 port {port}: refused, nothing listens .*\n", done.stderr)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "daytime", "", "1²"])
def test_a_wrong_port_number_is_named(port: str) -> None:
    done = run("127.0.0.1", port)
    assert done.returncode == 100
    assert done.stderr == f"daytimeclient: port {port!r}: expected a number from 1 to 65535\n"


@pytest.mark.parametrize("words", [[], ["-h"], ["localhost", "13", "x"]])
def test_wrong_words_show_the_usage(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (100, "", "usage: daytimeclient HOST [PORT]\n")


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [(socket.EAI_NONAME, 100, "no such host"), (socket.EAI_AGAIN, 111, "the name server does not answer")],
)
def test_a_name_that_is_not_found_is_told_from_one_that_cannot_be_looked_up(
    daytimeclient: ModuleType, monkeypatch: pytest.MonkeyPatch, failure: int, code: int, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror(failure, "as the resolver says")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(daytimeclient.NoTime, match=f"'nosuch': {reason}") as raised:
        daytimeclient.ask("nosuch")
    assert raised.value.code == code


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "..", ""])
def test_a_name_that_can_be_no_name_ends_without_a_traceback(host: str) -> None:
    done = run(host, str(free_port()))
    assert done.returncode in (100, 111)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
