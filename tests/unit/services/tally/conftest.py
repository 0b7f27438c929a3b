from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.services.tally.loopback import (
    PROGRAMS,
    Client,
    Server,
    Start,
)


@pytest.fixture
def modules(monkeypatch):
    """The programs' own modules can be imported."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def start_one(way: str, *options: str) -> Server:
        words = options if "--port" in options else (*options, "--port", "0")
        servers.append(Server(way, tmp_path / f"{len(servers)}.log", *words))
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture
def new_client() -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:

        def make(server: Server, address: str = "127.0.0.2") -> Client:
            made = Client(server, address)
            stack.callback(made.sock.close)
            return made

        yield make
