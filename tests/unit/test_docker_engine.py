"""The engine's hijacked connection; what the engine's errors become is held by tests/errors/docker_engine.yaml."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from lab.docker_engine import DockerEngine, ExecTransport
from lab.engine import EngineVersion


def block(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(data)) + data


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, ExecTransport]]:
    """The engine's end, and ours as the SDK hands it out: when the answer's last line has been read."""
    far, near = socket.socketpair()
    far.sendall(b"HTTP/1.1 101 UPGRADED\r\n" + block(1, b"early"))
    reader = near.makefile("rb")
    assert reader.readline() == b"HTTP/1.1 101 UPGRADED\r\n"
    stream = SimpleNamespace(
        _sock=near, _response=SimpleNamespace(raw=SimpleNamespace(_fp=SimpleNamespace(fp=reader))), close=reader.close
    )
    transport = ExecTransport(stream)
    with far:
        yield far, transport
    transport.close()


def test_what_came_along_with_the_engines_answer_is_not_lost(ends: tuple[socket.socket, ExecTransport]) -> None:
    far, transport = ends
    assert transport.recv(100) == b"early"
    far.sendall(block(1, b"late"))
    assert transport.recv(100) == b"late"


def test_a_block_may_be_taken_in_pieces(ends: tuple[socket.socket, ExecTransport]) -> None:
    far, transport = ends
    assert [transport.recv(2), transport.recv(2), transport.recv(2)] == [b"ea", b"rl", b"y"]
    far.sendall(block(1, b"next")[:5])
    far.sendall(block(1, b"next")[5:])
    assert transport.recv(2) == b"ne"


def test_standard_error_is_kept_apart(ends: tuple[socket.socket, ExecTransport]) -> None:
    far, transport = ends
    far.sendall(block(2, b"no such program\n") + block(1, b"x"))
    assert transport.recv(100) == b"early"
    assert transport.recv(100) == b"x"
    assert transport.complaint == b"no such program\n"


def test_the_end_of_the_connection_is_the_end(ends: tuple[socket.socket, ExecTransport]) -> None:
    far, transport = ends
    far.close()
    assert transport.recv(100) == b"early"
    assert transport.recv(100) == b""


def test_what_is_sent_arrives(ends: tuple[socket.socket, ExecTransport]) -> None:
    far, transport = ends
    transport.send(b"frame")
    assert far.recv(100) == b"frame"
    transport.close()
    assert far.recv(100) == b""


@pytest.mark.parametrize(
    ("counted", "used"),
    [
        ({"usage": 900, "stats": {"total_inactive_file": 200}}, 700),  # cgroup v1
        ({"usage": 900, "stats": {"inactive_file": 100}}, 800),  # cgroup v2
        ({}, None),  # a kernel without the memory controller
    ],
)
def test_memory_is_counted_without_the_page_cache_or_not_at_all(
    counted: dict[str, object], used: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DockerEngine({})
    client = SimpleNamespace(stats=lambda *_, **__: {"memory_stats": counted})
    monkeypatch.setitem(vars(engine), "client", client)
    assert engine.memory("router") == used


def answering(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **info: object) -> DockerEngine:
    """An engine that tells this of itself."""
    engine = DockerEngine(environment)
    answer = {"Version": "28.5.2", "ApiVersion": "1.51", "Components": [{"Name": "Engine"}]}
    known = {"DockerRootDir": "/", "Name": socket.gethostname(), "SecurityOptions": ["name=seccomp,profile=builtin"]}
    answer |= {name: told for name, told in info.items() if name in answer}
    client = SimpleNamespace(version=lambda: answer, info=lambda: known | info)
    monkeypatch.setitem(vars(engine), "client", client)
    return engine


def test_an_engine_tells_where_it_is_and_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = answering(monkeypatch, {"DOCKER_HOST": "unix:///run/x.sock"}).version()
    assert found == EngineVersion("28.5.2", (1, 51), "Docker Engine", "unix:///run/x.sock (DOCKER_HOST)", False)
    rootless = answering(monkeypatch, {}, SecurityOptions=["name=seccomp,profile=builtin", "name=rootless"])
    assert rootless.version().rootless
    podman = answering(monkeypatch, {}, Components=[{"Name": "Podman Engine"}, {"Name": "Conmon"}])
    assert podman.version().product == "Podman"


@pytest.mark.parametrize(
    ("address", "name", "seen"),
    [
        ("unix:///var/run/docker.sock", "an older name of this machine", True),
        ("unix:///run/user/1000/docker.sock", socket.gethostname(), True),
        ("unix:///home/ann/.docker/desktop/docker.sock", "docker-desktop", False),
        ("tcp://tower:2375", socket.gethostname(), False),
    ],
)
def test_only_a_disk_of_this_machine_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, address: str, name: str, seen: bool
) -> None:
    assert (answering(monkeypatch, {"DOCKER_HOST": address}, Name=name).free_disk() is not None) == seen
