"""What the engine's errors become is held by tests/errors/docker_engine.yaml, its streams by test_docker_streams.py."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import docker.errors
import pytest

from lab.engine.base import Container, EngineVersion
from lab.engine.docker_engine import DockerEngine


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
    monkeypatch.setattr(engine, "_client", client)
    assert engine.memory("router") == used


def answering(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **info: object) -> DockerEngine:
    """An engine that tells this of itself."""
    engine = DockerEngine(environment)
    answer = {"Version": "28.5.2", "ApiVersion": "1.51", "Components": [{"Name": "Engine"}]}
    known = {"DockerRootDir": "/", "Name": socket.gethostname(), "SecurityOptions": ["name=seccomp,profile=builtin"]}
    answer |= {name: told for name, told in info.items() if name in answer}
    client = SimpleNamespace(version=lambda: answer, info=lambda: known | info)
    monkeypatch.setattr(engine, "_client", client)
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


def test_a_container_is_known_by_its_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {
        "Id": "c1",
        "Name": "/lab-router-1",
        "Image": "sha256:1",
        "State": {"Status": "running", "Health": {"Status": "healthy"}, "ExitCode": 0},
        "Config": {"Image": "lab/router", "Labels": {"a": "b"}},
        "NetworkSettings": {"Networks": {"lan": {"IPAddress": "10.0.0.1"}, "none": {"IPAddress": ""}}},
    }
    engine = DockerEngine({})
    monkeypatch.setattr(engine, "_client", SimpleNamespace(inspect_container=lambda name: record))
    found = engine.container("c1")
    assert found == Container(
        "c1", "lab-router-1", "lab/router", "sha256:1", "running", "healthy", {"a": "b"}, {"lan": "10.0.0.1"}
    )
    record["State"] = {"Status": "exited", "ExitCode": 1}
    ended = engine.container("c1")
    assert ended is not None
    assert (ended.state, ended.health, ended.status) == ("exited", "", "Exited (1)")


def test_a_container_that_is_gone_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise docker.errors.NotFound(f"No such container: {name}")

    engine = DockerEngine({})
    monkeypatch.setattr(engine, "_client", SimpleNamespace(inspect_container=missing))
    assert engine.container("c1") is None
