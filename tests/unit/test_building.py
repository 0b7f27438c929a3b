from __future__ import annotations

import threading
from graphlib import TopologicalSorter

import pytest

from lab.building import _build
from lab.errors import MachineError
from lab.progress import Silent


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
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    compose = FakeCompose(side_by_side=2)
    _build(compose, TopologicalSorter({"one": [], "two": []}), 2, Silent())  # type: ignore[arg-type]
    assert sorted(compose.built) == ["one", "two"]


def test_a_base_is_built_before_what_starts_from_it() -> None:
    compose = FakeCompose()
    _build(compose, TopologicalSorter({"host": ["tools"], "tools": ["base"]}), 3, Silent())  # type: ignore[arg-type]
    assert compose.built == ["base", "tools", "host"]


def test_nothing_is_built_on_a_base_that_failed() -> None:
    compose = FakeCompose(fails="base")
    with pytest.raises(MachineError, match="base cannot be built"):
        _build(compose, TopologicalSorter({"host": ["base"]}), 2, Silent())  # type: ignore[arg-type]
    assert compose.built == []


def test_after_the_first_that_fails_none_is_begun_and_what_is_under_way_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
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
        _build(compose, order, 5, Silent())  # type: ignore[arg-type]
    assert sorted(compose.begun) == ["bad", "slow"]
    assert compose.built == ["slow"]


def test_after_ctrl_c_none_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    class Interrupted(Silent):
        def step(self, text: str) -> None:
            raise KeyboardInterrupt

    compose, order = FakeCompose(), TopologicalSorter[str]({name: [] for name in ("a", "b", "c")})
    with pytest.raises(KeyboardInterrupt):
        _build(compose, order, 3, Interrupted())  # type: ignore[arg-type]
    assert compose.begun == ["a"]
