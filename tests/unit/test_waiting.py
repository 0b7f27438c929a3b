from collections.abc import Callable
from dataclasses import dataclass, field

from lab.waiting import Deadline, poll


@dataclass
class FakeClock:
    time: float = 100.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def after(attempts: int) -> Callable[[], str | None]:
    left = iter(range(attempts))
    return lambda: None if next(left, None) is not None else "done"


def test_a_deadline_never_has_less_than_nothing_left() -> None:
    clock = FakeClock()
    deadline = Deadline.after(5, clock)
    assert deadline.remaining == 5
    clock.time += 7
    assert deadline.remaining == 0
    assert deadline.passed


def test_poll_does_not_sleep_after_success() -> None:
    clock = FakeClock()
    assert poll(after(0), Deadline.after(5, clock)) == "done"
    assert clock.slept == []


def test_poll_tries_again_until_it_succeeds() -> None:
    clock = FakeClock()
    assert poll(after(3), Deadline.after(5, clock), every=1) == "done"
    assert clock.slept == [1, 1, 1]


def test_poll_gives_up_at_the_deadline_and_not_past_it() -> None:
    clock = FakeClock()
    assert poll(lambda: None, Deadline.after(2.5, clock), every=1) is None
    assert clock.time == 102.5


def test_poll_makes_one_attempt_even_when_the_deadline_has_passed() -> None:
    assert poll(after(0), Deadline.after(-1, FakeClock())) == "done"
