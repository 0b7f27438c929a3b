"""What becomes of a pull when the engine's answer breaks off; the engine here is a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import requests

from lab.engine.docker_images import DockerImageStore
from lab.engine.images import NotPulled
from tests.unit.fake_store import Told

HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
MESSAGE = b'{"status": "Pulling fs layer"}\r\n'

Answering = Callable[[bytes], DockerImageStore]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Make a store whose engine gives that answer to one request, and ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    session = requests.Session()
    session.trust_env = False
    threads = []

    def answer(data: bytes) -> None:
        with listener.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(data)

    def make(data: bytes) -> DockerImageStore:
        threads.append(threading.Thread(target=answer, args=(data,)))
        threads[0].start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = SimpleNamespace(base_url=url, api_version="1.41", post=session.post)
        return DockerImageStore(SimpleNamespace(client=client, address=url))  # type: ignore[arg-type]

    with listener, session:
        yield make
        for thread in threads:
            thread.join(5)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD % b"200 OK" + chunk(MESSAGE),
        HEAD % b"200 OK" + chunk(MESSAGE)[:9],
        HEAD % b"200 OK" + chunk(MESSAGE + MESSAGE[:9]) + chunk(b""),
        HEAD % b"500 Internal Server Error" + chunk(MESSAGE),
    ],
    ids=["between two messages", "in the middle of one", "with half a message", "in an error"],
)
def test_an_engine_that_ends_during_a_pull_has_not_pulled(answering: Answering, answer: bytes) -> None:
    with pytest.raises(NotPulled) as caught:
        answering(answer).pull("debian:bookworm-slim", Told())
    assert caught.value.cause == "debian:bookworm-slim: the engine broke off in the middle of its answer"
    assert caught.value.remedy == "lab doctor tells whether the engine still runs; then repeat."


def test_a_pull_to_its_end_tells_what_it_is_at(answering: Answering) -> None:
    told = Told()
    answering(HEAD % b"200 OK" + chunk(MESSAGE) + chunk(b"")).pull("debian:bookworm-slim", told)
    assert told.details == ["Pulling fs layer"]


def test_the_registrys_refusal_is_told_in_its_words(answering: Answering) -> None:
    refusal = HEAD % b"404 Not Found" + chunk(b'{"message": "no such\\nmanifest"}') + chunk(b"")
    with pytest.raises(NotPulled, match=r"^debian:bookworm-slim: no such manifest\n"):
        answering(refusal).pull("debian:bookworm-slim", Told())


class ContainerdClient:
    """An engine with two images, as the SDK tells of them; the storage driver says who keeps them."""

    def __init__(self, *status: list[str]) -> None:
        self._status = list(status)

    def info(self) -> dict[str, object]:
        return {"DriverStatus": self._status or None}

    def images(self, filters: dict[str, object]) -> list[dict[str, object]]:
        return []

    def history(self, image: str) -> list[dict[str, object]]:
        steps = [{"Created": 2, "CreatedBy": "apt-add", "Size": 5}, {"Created": 1, "CreatedBy": "", "Size": 80}]
        return steps[1:] if "debian" in image else steps

    def inspect_image(self, image: str) -> dict[str, object]:
        layers, size = (["sha256:1"], 70) if "debian" in image else (["sha256:1", "sha256:2"], 72)
        return {"Id": image, "Size": size, "Config": {}, "RootFS": {"Layers": layers}}


@pytest.mark.parametrize(
    ("status", "expected"),
    [([], 85), ([["Backing Filesystem", "extfs"]], 85), ([["driver-type", "io.containerd.snapshotter.v1"]], 85 + 72)],
)
def test_the_packed_copies_count_where_containerd_keeps_them(status: list[list[str]], expected: int) -> None:
    engine = SimpleNamespace(client=ContainerdClient(*status), address="unix:///engine")
    names = ["datagram-lab/debian:bookworm", "datagram-lab/base:latest"]
    assert DockerImageStore(engine).disk_usage(names) == expected  # type: ignore[arg-type]
