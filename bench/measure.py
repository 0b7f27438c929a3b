"""The arithmetic: two things measured by turns, and one number of what comes out. Nothing here knows of a lab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

Sample = Callable[[], float]
"""Measures once: seconds, or a rate."""


@dataclass(frozen=True)
class Row:
    """One comparison."""

    benchmark: str
    what: str
    reference: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    goal: str = ""
    """`<= 1.05` or `>= 0.9`; empty for a row that only informs."""

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: what slows a whole round down slows both of its halves down."""
        return median(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if not self.goal:
            return None
        relation, bound = self.goal.split()
        return self.ratio <= float(bound) if relation == "<=" else self.ratio >= float(bound)

    def as_json(self) -> dict[str, object]:
        record: dict[str, object] = asdict(self)
        return {**record, "goal": self.goal or None, "ratio": self.ratio, "met": self.met}


def by_turns(samples: Sequence[Sample], rounds: int) -> list[tuple[float, ...]]:
    """The samples of each, measured A B, B A, A B …, so that neither always comes first."""
    found: list[list[float]] = [[] for _ in samples]
    for number in range(rounds):
        order = range(len(samples)) if number % 2 == 0 else reversed(range(len(samples)))
        for index in order:
            found[index].append(samples[index]())
    return [tuple(values) for values in found]
