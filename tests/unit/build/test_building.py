from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lab.build.building import _build, _build_some, build_missing
from lab.errors import MachineError
from lab.progress import Silent
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_store import FakeStore
from tests.unit.small_project import config_of


def build(compose: FakeCompose, order: TopologicalSorter[str], progress: Silent) -> None:
    packages = dict.fromkeys(("one", "two", "host", "tools", "base", "bad", "slow", "a", "b", "c", "d", "e"), 1)
    _build(lambda service: compose.build([service], print), order, {**packages, "big": 9}, progress)


class FakeCompose:
    """Builds when told to; a barrier makes it wait until so many builds are under way."""

    def __init__(self, side_by_side: int = 1, fails: str = "") -> None:
        self.begun: list[str] = []
        self.built: list[str] = []
        self._fails = fails
        self._barrier = threading.Barrier(side_by_side)

    def build(self, services: list[str], say: object) -> None:
        self.begun += services
        self._barrier.wait(10)
        if self._fails in services:
            raise MachineError(f"{self._fails} cannot be built")
        self.built += services


def test_what_waits_for_nothing_is_built_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    compose = FakeCompose(side_by_side=2)
    build(compose, TopologicalSorter({"one": [], "two": []}), Silent())
    assert sorted(compose.built) == ["one", "two"]


def test_a_base_is_built_before_what_starts_from_it() -> None:
    compose = FakeCompose()
    build(compose, TopologicalSorter({"host": ["tools"], "tools": ["base"]}), Silent())
    assert compose.built == ["base", "tools", "host"]


def test_nothing_is_built_on_a_base_that_failed() -> None:
    compose = FakeCompose(fails="base")
    with pytest.raises(MachineError, match="base cannot be built"):
        build(compose, TopologicalSorter({"host": ["base"]}), Silent())
    assert compose.built == []


def test_after_the_first_that_fails_none_is_begun_and_what_is_under_way_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    workers: dict[str, threading.Thread] = {}
    both = threading.Barrier(2)

    class Compose(FakeCompose):
        def build(self, services: list[str], say: object) -> None:
            workers[services[0]] = threading.current_thread()
            self.begun += services
            if len(self.begun) <= 2:
                both.wait(10)
            if services == ["bad"]:
                raise MachineError("bad cannot be built")
            if services == ["slow"]:
                workers["bad"].join(10)  # that one goes when nothing more is to come
            self.built += services

    compose, order = Compose(), TopologicalSorter[str]({name: [] for name in ("bad", "slow", "c", "d", "e")})
    with pytest.raises(MachineError, match="bad cannot be built"):
        build(compose, order, Silent())
    assert sorted(compose.begun) == ["bad", "slow"]
    assert compose.built == ["slow"]


def test_after_ctrl_c_none_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    class Interrupted(Silent):
        def step(self, text: str) -> None:
            raise KeyboardInterrupt

    compose, order = FakeCompose(), TopologicalSorter[str]({name: [] for name in ("a", "b", "c")})
    with pytest.raises(KeyboardInterrupt):
        build(compose, order, Interrupted())
    assert compose.begun == ["a", "b"], "two are under way, on one processor"


def test_what_installs_most_is_begun_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    compose = FakeCompose()
    build(compose, TopologicalSorter({name: [] for name in ("a", "b", "c", "big")}), Silent())
    assert "big" in compose.begun[:2]


# ---- what a failed build leaves


class ClassicCompose:
    """Says what the classic builder says of two steps, of which the second may fail."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def build(self, services: list[str], say: Callable[[str], None], offer: str | None) -> None:
        for container in ("d9924c08c2d0", "74dab7e6c13a"):
            say("Step 2/4 : RUN echo ---> Running in circles")
            say(f" ---> Running in {container}")
        if self._fails:
            raise MachineError("the build failed")


class Engine:
    def __init__(self, fails: bool = False) -> None:
        self.removed: list[str] = []
        self._fails = fails

    def remove(self, container: str) -> None:
        self.removed.append(container)
        if self._fails:
            raise MachineError("the engine is gone")


def test_a_failed_build_leaves_no_container() -> None:
    engine, lines = Engine(), list[str]()
    with pytest.raises(MachineError, match="the build failed"):
        _build_some(engine, ClassicCompose(fails=True), None, lines.append, "base")  # type: ignore[arg-type]
    assert engine.removed == ["d9924c08c2d0", "74dab7e6c13a"]
    assert len(lines) == 4, "all that Compose says is still told"


def test_the_failure_of_a_build_is_told_though_its_container_cannot_be_removed() -> None:
    engine = Engine(fails=True)
    with pytest.raises(MachineError, match="the build failed"):
        _build_some(engine, ClassicCompose(fails=True), None, print, "base")  # type: ignore[arg-type]
    assert len(engine.removed) == 2


def test_a_build_that_works_removes_its_own_containers() -> None:
    engine = Engine()
    _build_some(engine, ClassicCompose(fails=False), None, print, "base")  # type: ignore[arg-type]
    assert engine.removed == []


class AskedCompose(FakeCompose):
    """Of a project with a host whose image Compose names, one with a name, and a profile that is not asked for."""

    def __init__(self) -> None:
        super().__init__()
        text = "{web: {build: web}, db: {build: db, image: ours/db}, cache: {image: redis}}"
        self.config = config_of(f"services: {text}", Path("/shop"), project="shop")

    def build(self, services: Sequence[str], say: object, offer: str | None) -> None:
        self.built += services


@pytest.mark.parametrize(
    ("there", "all", "built"),
    [
        ([], False, ["web", "db"]),
        (["shop-web", "ours/db"], False, []),
        (["shop_web"], False, ["db"]),
        (["shop-web", "ours/db"], True, ["web", "db"]),
    ],
)
def test_of_a_project_of_plain_compose_what_is_missing_is_built(there: list[str], all: bool, built: list[str]) -> None:
    compose = AskedCompose()
    told = build_missing(FakeStore(*there), FakeEngine(), compose, Silent(), all=all)  # type: ignore[arg-type]
    assert (compose.built, told) == (built, bool(built))
