"""Time: monotonic deadlines, and the only place that sleeps.

Seconds throughout. The clock can be replaced, so that tests of waiting wait for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment by which something must have happened; made once and passed down, so that waits never add up."""

    at: float
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        return cls(clock.now() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock.now())

    @property
    def passed(self) -> bool:
        return self.clock.now() >= self.at


def poll(attempt: Callable[[], T | None], deadline: Deadline, *, every: float = 0.02) -> T | None:
    """The first answer of `attempt` that is neither None nor False, or None at the deadline.

    At least one attempt is made; nothing sleeps after success, nor past the deadline. For what offers no event.
    """
    while True:
        if answer := attempt():
            return answer
        if deadline.passed:
            return None
        deadline.clock.sleep(min(every, deadline.remaining))
