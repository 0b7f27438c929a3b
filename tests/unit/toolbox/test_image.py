"""The toolbox is built once, when it is first needed, and used with the least rights."""

from __future__ import annotations

import re

import pytest

from lab.engine.base import TemporaryContainer
from lab.errors import HostError
from lab.toolbox import image
from lab.toolbox.image import Toolbox
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_store import FakeStore, Told


class Watched(FakeEngine):
    """Keeps what containers were asked for; the programs in them end with `status`."""

    status: int | None = 0

    def create(self, wanted: TemporaryContainer) -> str:
        self.wanted = wanted
        return super().create(wanted)

    def wait(self, container: str, seconds: float) -> int | None:
        return self.status


@pytest.fixture
def engine() -> Watched:
    return Watched(log_text=b"42\n")


def there(engine: Watched) -> Toolbox:
    return Toolbox(engine, lambda: FakeStore(image.image_name()))


def test_it_is_built_of_its_own_files_when_it_is_not_there(engine: Watched) -> None:
    store, told = FakeStore(registry=["debian:bookworm-slim"]), Told()
    toolbox = Toolbox(engine, lambda: store, progress=told)
    assert toolbox.image() == toolbox.image() == image.image_name()
    assert store.built == [image.image_name()]
    assert re.fullmatch(r"built of Dockerfile, ender.py, .*sniffer.py", store.ids[image.image_name()])
    assert any("toolbox" in step for step in told.steps)


def test_a_projects_own_debian_is_taken(engine: Watched) -> None:
    store = FakeStore("theirs/debian")
    Toolbox(engine, lambda: store, base=lambda: "theirs/debian").image()
    assert store.pulled == []
    assert store.built == [image.image_name()]


def test_every_program_that_it_is_asked_for_is_in_it() -> None:
    assert set(image._files()) == {"Dockerfile", *(f"{name}.py" for name in image.PROGRAMS)}
    assert image.program("sniffer", "eth0") == ["python3", "-S", f"{image.PLACE}/sniffer.py", "eth0"]


def test_beside_a_host_it_may_use_raw_sockets_and_no_more(engine: Watched) -> None:
    there(engine).beside("host", "small")
    assert (engine.wanted.network_of, engine.wanted.processes_of) == ("host", None)
    assert list(engine.wanted.cap_add) == ["NET_RAW"]


def test_among_a_hosts_processes_it_has_no_network_and_is_gone_after_the_signal(engine: Watched) -> None:
    assert there(engine).signal("host", "small", "LAB_COMMAND=x", 9) == 42
    assert (engine.wanted.network_of, engine.wanted.processes_of) == (None, "host")
    assert list(engine.wanted.command or ())[-2:] == ["LAB_COMMAND=x", "9"]
    assert engine.records == []


def test_a_mark_that_nobody_has_is_no_process(engine: Watched) -> None:
    engine.status = image.NONE_FOUND
    assert there(engine).signal("host", "small", "LAB_COMMAND=x", 9) == 0


@pytest.mark.parametrize("status", [None, 1 << 7, 0])
def test_what_the_ender_could_not_do_is_told(engine: Watched, status: int | None) -> None:
    engine.status, engine.log_text = status, b"python3: not found\n"
    with pytest.raises(HostError, match="the processes of host cannot be reached from beside it: python3: not found"):
        there(engine).signal("host", "small", "LAB_COMMAND=x", 9)
    assert engine.records == []


def test_it_is_removed_in_all_its_versions_with_its_own_base() -> None:
    store = FakeStore("lab-toolbox:1", "lab-toolbox:debian-bookworm", "theirs/debian")
    image.remove(store, Told())
    assert list(store.ids) == ["theirs/debian"]
