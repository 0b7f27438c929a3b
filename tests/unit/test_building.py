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
        self.built: list[str] = []
        self._fails = fails
        self._barrier = threading.Barrier(side_by_side)

    def build(self, services: list[str], say: object) -> None:
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
