"""Which packages are fetched once for all images, and that the offer never outlives the build nor fails it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.build import archives
from lab.engine.base import TemporaryContainer
from lab.errors import MachineError
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_store import Told

SERVICES = Path(__file__).parents[3] / "services"


def folder(root: Path, name: str, dockerfile: str) -> Path:
    (root / name).mkdir()
    (root / name / "Dockerfile").write_text(dockerfile)
    return root / name


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [folder(tmp_path, "a", "RUN apt-add nsd ldnsutils\n"), folder(tmp_path, "b", "RUN apt-add rsyslog\n")]


class Engine(FakeEngine):
    """Gives what it creates an address."""

    def __init__(self, address: str = "172.17.0.2") -> None:
        super().__init__(log_text=b"fetching nsd\n")
        self.address = address
        self.wanted: list[TemporaryContainer] = []

    def create(self, wanted: TemporaryContainer) -> str:
        self.wanted.append(wanted)
        made = super().create(wanted)
        self.change(made, addresses={"bridge": self.address} if self.address else {})  # type: ignore[arg-type]
        return made


def test_what_each_apt_add_names_is_read_from_the_dockerfiles(tmp_path: Path) -> None:
    text = """# by apt-add example words
FROM datagram-lab/base
COPY apt-add /usr/local/sbin/
RUN printf 'path-exclude=x' >/etc/x \\
# a comment within
 && apt-add gcc libstdc++6 \\
      libc6-dev \\
 && rm -r /usr/x
RUN apt-add rsyslog && rm -rf /etc/rsyslog.d
RUN true
"""
    made = folder(tmp_path, "a", text)
    assert archives.packages([made, made, tmp_path / "none"]) == ["gcc libstdc++6 libc6-dev", "rsyslog"]


def test_every_apt_add_of_the_lab_is_found() -> None:
    folders = sorted(path.parent for path in SERVICES.glob("*/Dockerfile"))
    written = sum(
        line.count("apt-add ") - line.count("COPY apt-add ")
        for folder in folders
        for line in (folder / "Dockerfile").read_text().splitlines()
    )
    assert written == sum(len(archives.packages([folder])) for folder in folders) >= 12


def test_the_offer_lasts_as_long_as_the_build(two: list[Path]) -> None:
    engine = Engine()
    with archives.offered(engine, "small", two, Told()) as url:
        assert url == "http://172.17.0.2:8000/datagram-lab"
        assert [record.image for record in engine.records] == ["datagram-lab/debian:bookworm"]
    assert engine.records == []
    assert list(engine.wanted[0].command or [])[-2:] == ["nsd ldnsutils", "rsyslog"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MachineError])
def test_the_offer_ends_with_a_build_that_fails(two: list[Path], error: type[BaseException]) -> None:
    engine = Engine()
    with pytest.raises(error), archives.offered(engine, "small", two, Told()):
        raise error("")
    assert engine.records == []


def test_a_single_image_is_not_worth_an_offer(two: list[Path]) -> None:
    engine = Engine()
    with archives.offered(engine, "small", two[:1], Told()) as url:
        assert url is None
    assert engine.done == []


def test_where_the_container_cannot_be_had_each_image_asks_debian(two: list[Path]) -> None:
    class Full(Engine):
        def create(self, wanted: TemporaryContainer) -> str:
            raise MachineError("the engine's disk is full")

    told = Told()
    with archives.offered(Full(), "small", two, told) as url:
        assert url is None
    assert told.steps == ["each image fetches its own packages (the engine's disk is full)"]


def test_a_container_without_an_address_is_no_offer(two: list[Path]) -> None:
    engine, told = Engine(address=""), Told()
    with archives.offered(engine, "small", two, told) as url:
        assert url is None
    assert told.steps == ["each image fetches its own packages (the engine gave the container no address)"]
    assert engine.records == []
