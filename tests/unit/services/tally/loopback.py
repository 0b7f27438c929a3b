"""The tally servers and their clients on loopback, for the tests beside this file."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.waiting import Deadline, poll

PROGRAMS = Path(__file__).parents[4] / "services" / "tally"
PATIENCE = 5.0  # seconds for what should take milliseconds
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


class Server:
    """A running server program; its log is a file, so that nothing has to be drained."""

    def __init__(self, way: str, log: Path, *options: str) -> None:
        self.way = way
        self.path = log
        with log.open("w") as out:
            self.process = subprocess.Popen([program(way), *options], stdout=out, env=ENVIRONMENT)
        self.port = int(self.wait_for_log(r"^ready on UDP port (\d+)")[1])

    def log(self) -> str:
        return self.path.read_text()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        found = poll(lambda: re.search(pattern, self.log(), re.MULTILINE), Deadline.after(PATIENCE))
        assert found, f"no line matches {pattern!r} in:\n{self.log()}"
        return found

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def child_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"new, child (\d+)", self.log())]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


class Client:
    """One (address, port), speaking to a server datagram by datagram."""

    def __init__(self, server: Server, address: str = "127.0.0.2") -> None:
        self.server = server
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind((address, 0))

    def send(self, request: bytes) -> None:
        self.sock.send(request)

    def ask(self, request: bytes) -> bytes:
        self.sock.send(request)
        return self.sock.recv(65_535)

    def knock(self, request: bytes = b"hello\n") -> bytes:
        """Speaks to the well-known port and stays there."""
        self.sock.connect(("127.0.0.1", self.server.port))
        return self.ask(request)

    def hello(self) -> int:
        """The hand-over, the same with both servers: go on with the port that the answer names."""
        port = int(re.fullmatch(rb"\+port (\d+)\n", self.knock())[1])  # type: ignore[index]
        self.sock.connect(("127.0.0.1", port))
        return port

    def is_welcome(self) -> bool:
        """Whether a hello brings a port; it does not when refused, or unanswered because too many are refused."""
        self.sock.settimeout(0.2)
        try:
            return self.knock().startswith(b"+port")
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(PATIENCE)

    def is_forgotten(self) -> bool:
        """The clear answer to a stale client: a line that says so, or that nobody is on the port any more."""
        self.sock.settimeout(0.2)
        try:
            return self.ask(b"still there?\n") == b"-unknown, say hello first\n"
        except ConnectionRefusedError:
            return True
        except TimeoutError:  # a child that was just about to end has taken the question with it
            return False
        finally:
            self.sock.settimeout(PATIENCE)


def program(way: str) -> str:
    return str(PROGRAMS / f"tally_{way}.py")


Start = Callable[..., Server]
"""Starts a server of that way (`table` or `child`) with these options, on a free port."""

both = pytest.mark.parametrize("way", ["table", "child"])


@contextmanager
def scripted_server(answer: Callable[[bytes], bytes | list[bytes] | None]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers as told, None being silence; yields its port and the requests it has heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                request, client = sock.recvfrom(65_535)
                if request == b"end of test":
                    return
                heard.append(request)
                answers = answer(request) or []
                for text in [answers] if isinstance(answers, bytes) else answers:
                    sock.sendto(text, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1], heard
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
                ender.sendto(b"end of test", sock.getsockname())
            thread.join()
