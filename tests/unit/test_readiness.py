from collections.abc import Callable, Sequence

import pytest

from lab.engine import Container, Event
from lab.errors import HostError
from lab.processes import Completed
from lab.readiness import wait_until_ready
from lab.waiting import Deadline
from tests.unit.fake_engine import FakeEngine, container


def answers(*exits: int) -> Callable[[Container, Sequence[str], float], Completed]:
    left = iter(exits)

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        code = next(left)
        return Completed(tuple(command), code, b"", b"not yet" if code else b"", 0.0)

    return probe


def test_a_host_whose_check_succeeds_at_once_is_ready() -> None:
    told: list[Container] = []
    router = container("router")
    wait_until_ready(FakeEngine([router]), [router], answers(0), Deadline.after(5), told.append)
    assert told == [router]


def test_a_check_that_fails_is_tried_again() -> None:
    router = container("router")
    wait_until_ready(FakeEngine([router]), [router], answers(1, 1, 0), Deadline.after(5), lambda one: None)


def test_at_the_deadline_the_error_has_the_checks_words_and_the_logs_end() -> None:
    router = container("router")
    engine = FakeEngine([router], log_text=b"cannot bind\n")
    with pytest.raises(HostError, match=r"small_router_1 is not healthy: its check says not yet; .*cannot bind"):
        wait_until_ready(engine, [router], answers(1), Deadline.after(0), lambda one: None)


def test_a_host_that_ends_is_told_before_the_deadline() -> None:
    router = container("router", state="exited")
    engine = FakeEngine([router], log_text=b"out of memory\n")

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        raise HostError("the connection to router has ended")

    with pytest.raises(HostError, match="small_router_1 ended: out of memory"):
        wait_until_ready(engine, [router], probe, Deadline.after(60), lambda one: None)


def test_an_event_of_the_host_cuts_the_wait_for_the_next_try_short() -> None:
    router = container("router")
    engine = FakeEngine([router])
    tries = []

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        tries.append(one)
        # With each failure comes an event: were it not heeded, ten tries would take five seconds of waiting.
        engine.event_streams[0].put(Event(one.id, "health_status: starting"))
        return Completed(("check",), 1 if len(tries) < 10 else 0, b"", b"", 0.0)

    deadline = Deadline.after(3)
    wait_until_ready(engine, [router], probe, deadline, lambda one: None)
    assert len(tries) == 10


def test_the_event_stream_is_closed_in_the_end() -> None:
    router = container("router")
    engine = FakeEngine([router])
    wait_until_ready(engine, [router], answers(0), Deadline.after(5), lambda one: None)
    assert list(engine.event_streams[0]) == []
