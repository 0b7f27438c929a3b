"""The arithmetic of `make bench`, and how its rows look; the measuring itself needs hosts."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import __main__ as command
from bench import bench, cold, render
from bench.measure import Row, by_turns
from lab import LabError


def row(ours: tuple[float, ...], theirs: tuple[float, ...], goal: str = "", unit: str = "s") -> Row:
    return Row("warm", "lab up", "compose up -d", unit, ours, theirs, goal)


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert row((1.0, 2.0, 9.0), (1.0, 1.0, 3.0)).ratio == 2.0


def test_a_round_that_was_slow_for_both_changes_nothing() -> None:
    assert row((1.1, 11.0, 1.1), (1.0, 10.0, 1.0)).ratio == pytest.approx(1.1)


def test_rounds_of_different_numbers_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="zip"):
        _ = row((1.0, 2.0), (1.0,)).ratio


@pytest.mark.parametrize(
    ("goal", "ours", "met"),
    [
        ("<= 1.05", 1.04, True),
        ("<= 1.05", 1.06, False),
        (">= 0.9", 0.91, True),
        (">= 0.9", 0.89, False),
        ("", 9.0, None),
    ],
)
def test_a_goal_is_met_on_its_side(goal: str, ours: float, met: bool | None) -> None:
    assert row((ours,), (1.0,), goal).met is met


def test_neither_is_always_measured_first() -> None:
    order: list[str] = []

    def sample(name: str, value: float) -> float:
        order.append(name)
        return value

    assert by_turns([lambda: sample("a", 1.0), lambda: sample("b", 2.0)], 3) == [(1.0,) * 3, (2.0,) * 3]
    assert "".join(order) == "abbaab"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.345, "s", "12.3 s"),
        (0.5, "s", "0.5 s"),
        (0.0456, "s", "45.6 ms"),
        (0.00123, "s", "1.23 ms"),
        (123456.7, "requests/s", "123,457 requests/s"),
        (99.5, "requests/s", "99.5 requests/s"),
    ],
)
def test_a_quantity_has_the_digits_that_mean_something(value: float, unit: str, text: str) -> None:
    assert render.quantity(value, unit) == text


def test_the_table_shows_both_sides_the_ratio_and_the_verdict() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    rows = [row((2.0,), (1.0,), "<= 1.05"), row((1.0,), (2.0,), "<= 1.05"), row((3.0,), (4.0,))]
    console.print(render.table(rows))
    lines = [line.strip() for line in console.export_text().splitlines()]
    assert [line.split()[-1] for line in lines if line.startswith("warm")] == ["missed", "met", "information"]
    assert "2 s" in lines[3]
    assert "2.00" in lines[3]
    assert "<= 1.05" in lines[3]


def test_the_document_has_every_sample() -> None:
    document = json.loads(render.document([row((2.0, 4.0), (1.0, 2.0), "<= 1.05"), row((1.0,), (1.0,))]))
    assert document["machine"]["processors"] >= 1
    first, second = document["rows"]
    assert first["ours"] == [2.0, 4.0]
    assert (first["ratio"], first["goal"], first["met"]) == (2.0, "<= 1.05", False)
    assert (second["goal"], second["met"]) == (None, None)


@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_each_benchmark_says_what_it_measures(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    assert callable(module.measure)
    assert len(command.first_line(name)) > 30


def test_an_unknown_benchmark_is_told_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "wram"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "no benchmark 'wram'; there are run, requests, again, warm, peers, cold" in capsys.readouterr().err


def test_no_step_of_a_cold_build_can_be_cached() -> None:
    text = "# base\nFROM a AS build\nRUN x\nFROM b\nCOPY --from=build /x /\n"
    assert cold.never_seen(text, "t") == (
        '# base\nFROM a AS build\nENV LAB_BENCH=t\nLABEL lab.bench="t"\nRUN x\n'
        'FROM b\nENV LAB_BENCH=t\nLABEL lab.bench="t"\nCOPY --from=build /x /\n'
    )


class FoundLab:
    """A lab that is up or down, and notes what it is told."""

    def __init__(self, states: list[str]) -> None:
        self.done: list[str] = []
        self.machine = self
        self.own = [type("Container", (), {"state": state})() for state in states]

    def up(self) -> None:
        self.done.append("up")

    def down(self) -> None:
        self.done.append("down")


@pytest.mark.parametrize(("states", "end"), [([], "down"), (["running", "exited"], "up"), (["exited"], "down")])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SystemExit, RuntimeError])
def test_the_lab_is_left_as_it_was_found(states: list[str], end: str, error: type[BaseException] | None) -> None:
    lab = FoundLab(states)
    with contextlib.suppress(KeyboardInterrupt, SystemExit, RuntimeError), bench.as_found(lab):  # type: ignore[arg-type]
        lab.done.append("measured")
        if error:
            raise error
    assert lab.done == ["measured", end]


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    made = bench.Bench(None, rounds=1)  # type: ignore[arg-type]
    assert 0 < made.seconds("true", folder=tmp_path) < 10
    with pytest.raises(LabError, match="false ended with 1"):
        made.seconds("false", folder=tmp_path)
