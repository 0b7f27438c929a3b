"""Playing transcripts on hosts that are not there: steps, windows, what went wrong, and when stages stand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.errors import CommandError, CommandFailed, ExpectationFailed, HostError
from lab.exec.processes import Completed
from lab.replay import Stage, StagePool, Step, Suite, Transcript, Window, play, pool

ROOT = Path(__file__).parents[3]


class Shell:
    """A process that echoes what it is told, in upper case, after `output`."""

    def __init__(self, host: FakeHost, command: str) -> None:
        self.host, self.command = host, command
        self.stdout, code = host.programs.get(command, (b"", 0))
        self.code = code
        self._consumed = 0

    def expect(self, pattern: bytes, timeout: float) -> Any:
        import re

        match = re.search(pattern, self.stdout[self._consumed :])
        if not match:
            raise ExpectationFailed(f"waited for {pattern!r}")
        self._consumed += match.end()
        return match

    def write(self, data: bytes) -> None:
        self.host.log.append((self.command, data))
        self.stdout += b"^C" if data == b"\x03" else data.replace(b"\n", b"\r\n") + data.upper().replace(b"\n", b"\r\n")

    def wait(self, timeout: float) -> Completed:
        return Completed(("script",), self.code, self.stdout, b"", 0.1)

    def kill(self) -> None:
        self.host.log.append((self.command, b"closed"))


class FakeHost:
    def __init__(self, **programs: tuple[bytes, int]) -> None:
        self.programs = {name.replace("_", " "): value for name, value in programs.items()}
        self.log: list[tuple[str, bytes]] = []
        self.ran: list[list[str]] = []

    def start(self, argv: list[str], **_: object) -> Shell:
        return Shell(self, argv[argv.index("--command") + 1])

    def run(self, argv: list[str], *, input: bytes = b"", user: str | None = None) -> Completed:
        self.ran.append(argv)
        return Completed(tuple(argv), 1 if "false" in argv else 0, b"", b"", 0.1)


def suite(*stages: str, subnets: Any = None) -> Suite:
    return Suite((), {name: Stage(name, name, {"client": "client"}) for name in stages}, subnets or {})


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(talk=(b"hi\r\n", 0), fail=(b"oh\r\n", 2), where=(b"at 10.9.8.1\r\n", 0))


@pytest.fixture
def stages(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[StagePool]:
    @contextmanager
    def set_up(lab: object, stage: Stage, argument: str) -> Iterator[dict[str, FakeHost]]:
        yield {"client": host}

    monkeypatch.setattr(pool, "set_up", set_up)
    lab: Any = SimpleNamespace(
        settings=SimpleNamespace(root=ROOT, variables={"NET": "10.9.8"}),
        declaration=SimpleNamespace(subnets={"lan": "NET"}),
    )
    with StagePool(lab, suite("workstation", subnets={"lan": "192.168.1", "far": "192.168.2"})) as made:
        yield made


def transcript(command: str, expected: str, **fields: Any) -> Transcript:
    return Transcript(
        1,
        "one",
        "it speaks",
        "Somewhere",
        "workstation",
        "Here",
        Window("client", command),
        command,
        expected,
        **fields,
    )


def test_a_command_that_ends_by_itself(stages):
    (outcome,) = play([transcript("talk", "hi\n")], stages)
    assert (outcome.same, outcome.comparison.exact, outcome.trouble) == (True, True, "")


def test_another_exit_code_is_a_difference(stages):
    (outcome,) = play([transcript("fail", "oh")], stages)
    assert (outcome.same, outcome.trouble) == (False, "it ended with exit code 2 instead of 0")
    (outcome,) = play([transcript("fail", "oh", exit=2)], stages)
    assert outcome.same


def test_lines_are_typed_and_the_key_ends_it(stages, host):
    steps = (Step(see="hi\n"), Step(type="a"), Step(see="A\n"), Step(press="^C"))
    (outcome,) = play([transcript("talk", "hi\na\nA\n^C", steps=steps)], stages)
    assert outcome.same
    assert host.log == [("talk", b"a\n"), ("talk", b"\x03"), ("talk", b"closed")]


def test_what_never_comes_is_told_with_what_came(stages):
    (outcome,) = play([transcript("talk", "hi", steps=(Step(see="ho"),))], stages)
    assert not outcome.same
    assert "waited for b'ho'" in outcome.trouble
    assert outcome.comparison.shown == "hi"


def test_a_window_that_stays_is_looked_at_when_the_last_text_is_there(stages):
    (outcome,) = play([transcript("talk", "h", steps=(Step(see="h"),), stays=True)], stages)
    assert outcome.same


def test_another_window_opens_at_its_first_step_and_is_not_compared(stages, host):
    steps = (Step("other", see="oh"), Step("other", type="x"), Step())
    play_one = transcript("talk", "hi", windows={"other": Window("client", "fail")}, steps=steps)
    (outcome,) = play([play_one], stages)
    assert outcome.same
    assert host.log == [("fail", b"x\n"), ("talk", b"closed"), ("fail", b"closed")]


def test_files_are_put_and_commands_run_first(stages, host):
    (outcome,) = play([transcript("talk", "hi", files={"here": "LICENSE"}, prepare=("chmod u+x here",))], stages)
    assert outcome.same
    assert [argv[-1] for argv in host.ran] == ["here", "chmod u+x here"]


def test_what_cannot_be_prepared_is_told(stages, host, monkeypatch):
    def fails(*_: object, **__: object) -> Completed:
        raise CommandFailed("no such compiler")

    monkeypatch.setattr(host, "run", fails)
    (outcome,) = play([transcript("talk", "", prepare=("gcc",))], stages)
    assert (outcome.same, outcome.trouble) == (False, "before it could be typed: no such compiler")


def test_where_the_lan_is_elsewhere_the_articles_addresses_are_meant(stages):
    (outcome,) = play([transcript("where", "at 192.168.1.1", steps=(Step(see="at 192.168.1.1"),))], stages)
    assert outcome.same


# Stages


class Record:
    """Stages note here when they are set up and torn down."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.changed = threading.Condition()

    @contextmanager
    def set_up(self, lab: object, stage: Stage, argument: str) -> Iterator[dict[str, FakeHost]]:
        self.note(f"+{stage.name}{argument}")
        try:
            yield {"client": FakeHost()}
        finally:
            self.note(f"-{stage.name}{argument}")

    def note(self, event: str) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait_for(self, event: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: event in self.events, 5)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    record = Record()
    monkeypatch.setattr(pool, "set_up", record.set_up)
    return record


def test_one_stage_serves_transcripts_in_a_row(record):
    with StagePool(SimpleNamespace(), suite(*"abcdef")) as stages:
        assert stages.hosts("a") is stages.hosts("a")
    assert record.events == ["+a", "-a"]


def test_the_argument_makes_another_stage(record):
    with StagePool(SimpleNamespace(), suite(*"abcdef")) as stages:
        stages.hosts("a 1")
        stages.hosts("a 2")
    assert sorted(record.events) == ["+a1", "+a2", "-a1", "-a2"]


def test_the_next_stages_are_set_up_meanwhile_and_no_more(record):
    with StagePool(SimpleNamespace(), suite(*"abcdef"), list("aabcdef")) as stages:
        stages.hosts("a")
        for name in "bcd":
            assert record.wait_for(f"+{name}")
        stages.hosts("c")
        assert record.wait_for("-a")
        assert record.wait_for("-b")
        assert "-d" not in record.events
    assert sorted(record.events) == sorted(f"{sign}{name}" for sign in "+-" for name in "abcdef")


def test_a_stage_is_set_up_again_only_when_it_has_been_torn_down(record):
    with StagePool(SimpleNamespace(), suite(*"abcdef")) as stages:
        for name in "abababab":
            stages.hosts(name)
    for name in "ab":
        own = [event for event in record.events if event.endswith(name)]
        assert own == [f"+{name}", f"-{name}"] * 4


def test_a_stage_that_cannot_be_set_up_is_told_and_the_others_are_torn_down(record, monkeypatch):
    @contextmanager
    def broken(lab: object, stage: Stage, argument: str) -> Iterator[dict[str, FakeHost]]:
        if stage.name == "b":
            raise HostError("no such host")
        with record.set_up(lab, stage, argument) as hosts:
            yield hosts

    monkeypatch.setattr(pool, "set_up", broken)
    with StagePool(SimpleNamespace(), suite(*"abcdef")) as stages:
        stages.hosts("a")
        with pytest.raises(HostError, match="no such host"):
            stages.hosts("b")
    assert record.events == ["+a", "-a"]


def test_a_stage_that_cannot_be_torn_down_is_told(record, monkeypatch):
    @contextmanager
    def sticky(lab: object, stage: Stage, argument: str) -> Iterator[dict[str, FakeHost]]:
        yield {}
        raise CommandError("it does not go away")

    monkeypatch.setattr(pool, "set_up", sticky)
    with pytest.raises(CommandError, match="go away"), StagePool(SimpleNamespace(), suite(*"abcdef")) as stages:
        stages.hosts("a")
