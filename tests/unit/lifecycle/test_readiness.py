import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from lab.engine.base import PROJECT_LABEL, Container, Event
from lab.engine.logs import LogReader
from lab.errors import HostError
from lab.exec.processes import Completed
from lab.lifecycle import readiness as readiness_module
from lab.lifecycle.readiness import ANNOUNCES_LABEL, Probe, Readiness, Say
from tests.unit.fake_engine import FakeEngine, FakeStream, container


def answers(*exits: int) -> Callable[[Container, Sequence[str], float], Completed]:
    left = iter(exits)

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        code = next(left)
        return Completed(tuple(command), code, b"", b"not yet" if code else b"", 0.0)

    return probe


def wait(engine: FakeEngine, probe: Probe, seconds: float = 5, say: Say = lambda _: None) -> None:
    with Readiness(engine, probe, seconds, say) as readiness:
        readiness.wait(engine.records)


def test_a_host_whose_check_succeeds_at_once_is_ready() -> None:
    told: list[Container] = []
    router = container("router")
    wait(FakeEngine([router]), answers(0), say=told.append)
    assert told == [router]


def test_a_check_that_fails_is_tried_again() -> None:
    told: list[Container] = []
    wait(FakeEngine([container("router")]), answers(1, 1, 0), say=told.append)
    assert len(told) == 1


def test_at_its_time_the_error_has_the_checks_words_and_the_logs_end() -> None:
    engine = FakeEngine([container("router")], log_text=b"cannot bind\n")
    with pytest.raises(HostError, match=r"small_router_1 is not healthy: its check says not yet; .*cannot bind"):
        wait(engine, answers(1), seconds=0)


def test_a_host_that_ends_is_told_before_its_time() -> None:
    engine = FakeEngine([container("router", state="exited")], log_text=b"out of memory\n")

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        raise HostError("the connection to router has ended")

    with pytest.raises(HostError, match="small_router_1 ended: out of memory"):
        wait(engine, probe, seconds=60)


def test_an_event_of_the_host_cuts_the_wait_for_the_next_try_short() -> None:
    router = container("router")
    engine = FakeEngine([router])
    tries = []

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        tries.append(one)
        # With each failure comes an event: were it not heeded, ten tries would take five seconds of waiting.
        engine.event_streams[0].put(Event(one.id, "health_status: starting"))
        return Completed(("check",), 1 if len(tries) < 10 else 0, b"", b"", 0.0)

    wait(engine, probe, seconds=3)
    assert len(tries) == 10


def test_a_host_of_the_project_is_looked_at_when_it_starts_and_once_only() -> None:
    router, looked = container("router"), threading.Event()
    engine = FakeEngine([router])
    asked: list[str] = []

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        asked.append(one.service)
        return Completed(("check",), 0, b"", b"", 0.0)

    with Readiness(engine, probe, 5, lambda _: looked.set(), "small") as readiness:
        engine.event_streams[0].put(Event("another", "start", {PROJECT_LABEL: "large"}))
        engine.event_streams[0].put(Event(router.id, "start", router.labels))
        assert looked.wait(5), "nobody looked before the wait"
        readiness.wait([router])
    assert asked == ["router"]


def test_the_end_of_the_block_ends_what_nobody_waits_for() -> None:
    router, asked = container("router"), threading.Event()
    engine = FakeEngine([router])
    told: list[Container] = []

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        asked.set()
        return Completed(("check",), 1, b"", b"not yet", 0.0)

    with Readiness(engine, probe, 3600, told.append, "small"):
        engine.event_streams[0].put(Event(router.id, "start", router.labels))
        assert asked.wait(5)
    assert told == []
    assert engine.event_streams[0].closed


def announcer(log: bytes) -> tuple[FakeEngine, Container]:
    """A host that is said to announce its success, and what its log has."""
    router = container("router", labels={ANNOUNCES_LABEL: "healthy"})
    return FakeEngine([router], log_text=log), router


def asked(engine: FakeEngine, *, started: bool) -> list[str]:
    """The hosts whose checks were run from outside, until all were ready."""
    hosts: list[str] = []
    looked = threading.Event()

    def probe(one: Container, command: Sequence[str], seconds: float) -> Completed:
        hosts.append(one.service)
        return Completed(("check",), 0, b"", b"", 0.0)

    with Readiness(engine, probe, 5, lambda _: looked.set(), "small") as readiness:
        if started:
            for one in engine.records:
                engine.event_streams[0].put(Event(one.id, "start", one.labels))
            assert looked.wait(5)
        readiness.wait(engine.records)
    return hosts


def test_a_host_that_announces_its_success_is_not_asked() -> None:
    engine, _ = announcer(b"ready: 10.0.0.1\nhealthy: check\n")
    assert asked(engine, started=True) == []


def test_a_host_that_was_up_before_is_asked_whatever_its_log_says() -> None:
    engine, _ = announcer(b"healthy: check\n")
    assert asked(engine, started=False) == ["router"]


def test_a_host_that_keeps_silent_is_asked_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "SILENCE", 0.05)
    engine, _ = announcer(b"ready: 10.0.0.1, unhealthy: yet\n")
    assert asked(engine, started=True) == ["router"]


def test_a_host_that_cannot_announce_is_asked_at_once() -> None:
    engine, _ = announcer(b"announce: HEALTHCHECK is not set, so nothing is announced\n")
    began = time.monotonic()
    assert asked(engine, started=True) == ["router"]
    assert time.monotonic() - began < readiness_module.SILENCE


def questions(engine: FakeEngine) -> list[str]:
    """The ids of the hosts whose check the engine is asked for from now on."""
    asked: list[str] = []
    check = engine.health_command

    def noted(container: str) -> Sequence[str]:
        asked.append(container)
        return check(container)

    engine.health_command = noted  # type: ignore[method-assign]
    return asked


def never_asked(one: Container, command: Sequence[str], seconds: float) -> Completed:
    raise AssertionError("asked, though nobody waits for it any more")


def look(readiness: Readiness, container: Container) -> None:
    """What becomes of the look after a host; an error in it would else be lost."""
    readiness._looks[container.id].result(5)


def test_the_end_of_the_block_ends_the_listening_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = threading.Event()
    expect = LogReader.expect

    def watched(self: LogReader, pattern: str, timeout: float, host: str) -> re.Match[str]:
        listening.set()
        return expect(self, pattern, timeout, host)

    monkeypatch.setattr(LogReader, "expect", watched)
    monkeypatch.setattr(readiness_module, "SILENCE", 10.0)
    engine, router = announcer(b"ready\n")
    questioned = questions(engine)
    started = time.monotonic()
    with Readiness(engine, never_asked, 3600, project="small") as readiness:
        engine.event_streams[0].put(Event(router.id, "start", router.labels))
        assert listening.wait(5)
    assert time.monotonic() - started < 5
    look(readiness, router)
    assert questioned == []


def test_a_probe_whose_turn_comes_after_the_end_of_the_block_is_left_out() -> None:
    queued, left = threading.Event(), threading.Event()

    class Queue:
        """Lets nobody through before the block has been left."""

        def __enter__(self) -> None:
            queued.set()
            assert left.wait(5)

        def __exit__(self, *_: object) -> None: ...

    class Events(FakeStream[Event]):
        """Closed when the block is left."""

        def close(self) -> None:
            left.set()
            super().close()

    router, events = container("router"), Events(endless=True)
    engine = FakeEngine([router])
    engine.events = lambda: events  # type: ignore[method-assign]
    with Readiness(engine, never_asked, 3600, project="small") as readiness:
        readiness._probing = Queue()  # type: ignore[assignment]
        events.put(Event(router.id, "start", router.labels))
        assert queued.wait(5)
    look(readiness, router)


def foreign(health: str, state: str = "running") -> FakeEngine:
    """An engine with a host of another's image."""
    return FakeEngine([replace(container("web", health=health, state=state), labels={})])


def never(one: Container, command: Sequence[str], seconds: float) -> Completed:
    raise AssertionError("a program was run in a foreign host")


@pytest.mark.parametrize("health", ["healthy", ""])
def test_a_foreign_host_is_ready_when_the_engine_says_so_or_has_no_check(health: str) -> None:
    told: list[Container] = []
    wait(foreign(health), never, say=told.append)
    assert len(told) == 1


def test_an_event_tells_at_once_that_a_foreign_host_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "LAST_RETRY", 60.0)
    engine, looks = foreign("starting"), []
    ask = engine.container

    def container_asked(one: str) -> Container | None:
        looks.append(one)
        found = ask(one)
        engine.change("small_web_1", health="healthy")
        engine.event_streams[0].put(Event(one, "health_status: healthy"))
        return found

    monkeypatch.setattr(engine, "container", container_asked)
    wait(engine, never)
    assert len(looks) == 2


def test_a_foreign_host_that_stays_unwell_is_told_with_its_checks_words() -> None:
    with pytest.raises(HostError, match="small_web_1 is not healthy: its check says not yet; its log ends with"):
        wait(foreign("unhealthy"), never, seconds=0)


def test_a_check_that_the_engine_has_not_run_yet_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = foreign("starting")
    monkeypatch.setattr(engine, "health_said", lambda _: None)
    with pytest.raises(HostError, match="the engine has not run its check to an end within 0 s"):
        wait(engine, never, seconds=0)


def test_a_foreign_host_that_ends_is_told_before_its_time() -> None:
    with pytest.raises(HostError, match="small_web_1 ended"):
        wait(foreign("starting", state="exited"), never, seconds=60)
