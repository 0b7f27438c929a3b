"""Commands by the engine's own exec keep the promises of those by our program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from lab.engine.base import Exec
from lab.errors import CommandError, CommandFailed, CommandTimeout, HostError, LabError, UsageError
from lab.exec import plain
from lab.exec.plain import MARK, PlainSession
from lab.exec.processes import Process
from lab.exec.remote import OUTPUT_WINDOW, STDERR, STDOUT
from lab.waiting import Deadline, poll
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_exec import FakeExec

REFUSAL = b'OCI runtime exec failed: exec failed: unable to start container process: exec: "nc": %s: unknown\r\n'


@dataclass
class ExecEngine(FakeEngine):
    """Runs each command as a FakeExec, and notes what it was asked for."""

    execs: list[FakeExec] = field(default_factory=list)
    asked: list[tuple[tuple[str, ...], str | None, Mapping[str, str], str | None]] = field(default_factory=list)
    started: bool = True

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Exec:
        self.asked.append((tuple(argv), user, env or {}, cwd))
        self.execs.append(FakeExec(started=self.started))
        return self.execs[-1]


class Host:
    """One host, its engine's side of the commands, and the signals that went beside it."""

    def __init__(self) -> None:
        self.engine = ExecEngine()
        self.signals: list[tuple[str, int]] = []
        self.on_signal: Callable[[int], int] = self.ends
        self.session = PlainSession(self.engine, "id", "nobody", "web", self.signal)

    def signal(self, mark: str, number: int) -> int:
        self.signals.append((mark, number))
        return self.on_signal(number)

    def ends(self, number: int) -> int:
        if number:
            self.far.end(128 + number)
        return 42

    @property
    def far(self) -> FakeExec:
        return self.engine.execs[-1]

    def start(self, **options: bool) -> Process:
        return Process(self.session.start(["nc"]), **options)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    for one in made.engine.execs:
        one.close()


def test_output_error_and_exit_code_come_apart_and_whole(host: Host) -> None:
    process = host.start()
    host.far.say(STDOUT, b"\0\xffa\r\n")
    host.far.say(STDERR, b"b")
    host.far.say(STDOUT, b"c")
    host.far.end(7)
    done = process.wait(5)
    assert (done.stdout, done.stderr, done.exit, done.signal) == (b"\0\xffa\r\nc", b"b", 7, None)


def test_user_folder_and_environment_are_the_engines_to_set_and_a_mark_is_added(host: Host) -> None:
    host.session.start(["nc", "-u"], env={"A": "b"}, cwd="/srv")
    argv, user, env, cwd = host.engine.asked[0]
    assert (argv, user, cwd) == (("nc", "-u"), "nobody", "/srv")
    assert env["A"] == "b"
    assert set(env) == {"A", MARK}


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (b"executable file not found in $PATH", 127),
        (b"stat /nc: no such file or directory", 127),
        (b"permission denied", 126),
    ],
)
def test_what_cannot_be_started_ends_as_in_a_shell_with_the_reason_on_standard_error(
    host: Host, why: bytes, code: int
) -> None:
    host.engine.started = False
    process = host.start()
    host.far.say(STDOUT, REFUSAL % why)
    host.far.end(126, started=False)
    done = process.wait(5)
    assert (done.exit, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"lab: OCI runtime exec failed")


def test_a_folder_that_is_not_there_is_no_missing_program(host: Host) -> None:
    host.engine.started = False
    process = host.start()
    host.far.say(STDOUT, b'chdir to cwd ("/no") set in config.json failed: no such file or directory: unknown\r\n')
    host.far.end(127, started=False)
    assert process.wait(5).exit == 126


@pytest.mark.parametrize(("code", "signal"), [(139, "SEGV"), (137, "KILL"), (129, None), (143, None)])
def test_a_code_beyond_doubt_names_the_signal(host: Host, code: int, signal: str | None) -> None:
    process = host.start()
    host.far.end(code)
    done = process.wait(5)
    assert (done.exit, done.signal) == (code, signal)


def test_a_signal_goes_by_the_commands_mark_and_is_named_in_the_end(host: Host) -> None:
    process = host.start()
    process.signal("TERM")
    done = process.wait(5)
    assert (done.exit, done.signal) == (143, "TERM")
    assert host.signals == [(f"{MARK}={host.engine.asked[0][2][MARK]}", 15)]


def test_two_commands_have_two_marks(host: Host) -> None:
    host.start()
    host.start()
    first, second = (asked[2][MARK] for asked in host.engine.asked)
    assert first != second


def test_a_time_out_kills_and_tells_the_output(host: Host) -> None:
    process = host.start()
    host.far.say(STDOUT, b"so far")
    with pytest.raises(CommandTimeout, match="was killed; its output ends with: so far"):
        process.wait(0.05)
    assert host.signals[0][1] == 9
    assert not process.running


def test_too_much_output_kills_from_the_thread_that_reads_it(host: Host) -> None:
    process = Process(host.session.start(["nc"]), limit=10)
    host.far.say(STDOUT, b"x" * 11)
    with pytest.raises(CommandFailed, match="more than 10 bytes"):
        process.wait(5)


def test_the_process_id_is_found_from_beside(host: Host) -> None:
    process = host.start()
    assert (process.pid, process.pid) == (42, 42)
    assert len(host.signals) == 1


def test_what_could_not_be_started_has_no_process_id(host: Host) -> None:
    host.engine.started = False
    process = host.start()
    host.far.end(126, started=False)
    assert process.pid == 0
    assert host.signals == []


def test_a_command_that_hides_is_told_of(host: Host) -> None:
    process = host.start()
    host.on_signal = lambda number: 0
    with pytest.raises(HostError, match=r"`nc` on web cannot be found .*: none has LAB_COMMAND"):
        process.signal("TERM")


def test_a_signal_that_comes_too_late_is_no_error(host: Host) -> None:
    process = host.start()

    def too_late(number: int) -> int:
        host.far.end(0)
        raise HostError("cannot join the processes of a container that does not run")

    host.on_signal = too_late
    process.kill()
    assert process.wait(5).exit == 0
    process.kill()
    assert len(host.signals) == 1, "what has ended gets no signal"


def test_input_is_sent_in_parts_and_ended_once(host: Host) -> None:
    process = host.start()
    host.far.room = 3
    with pytest.raises(CommandTimeout, match="did not read its standard input in time"):
        process.write(b"abcdef", timeout=0.05)
    assert host.far.input == b"abc"
    host.far.room = 100
    process.write(b"def")
    process.close_stdin()
    assert (host.far.input, host.far.input_ended) == (b"abcdef", True)


def test_what_has_ended_takes_no_input(host: Host) -> None:
    process = host.start()
    host.far.end(0)
    with pytest.raises(CommandError, match="has ended; nothing can be written to it"):
        process.write(b"x")


def test_a_command_waits_for_a_slow_reader(host: Host) -> None:
    process = host.start(collect=False)
    for _ in range(4):
        host.far.say(STDOUT, b"x" * OUTPUT_WINDOW)
    host.far.end(0)
    remote = process._remote
    assert poll(lambda: len(remote._chunks) == 1, Deadline.after(5))
    assert sum(len(data) for _, data in process.chunks(5)) == 4 * OUTPUT_WINDOW
    assert process.wait(5).exit == 0


def test_a_container_that_goes_takes_its_commands_along(host: Host) -> None:
    process = host.start()
    host.far.gone = HostError("web is gone")
    host.far.end(None)
    with pytest.raises(HostError, match="the connection to web has ended: web is gone"):
        process.wait(5)


def test_a_command_that_the_engine_never_starts_is_told_of(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "START_SECONDS", 0.05)
    host.engine.started = False
    process = host.start()
    with pytest.raises(CommandTimeout, match="`nc` on web had not started after"):
        process.signal("INT")


def test_the_sessions_end_is_that_of_its_commands(host: Host) -> None:
    process = host.start()
    host.session.close()
    assert not process.running
    assert host.signals[0][1] == 9
    assert not host.session.alive
    with pytest.raises(HostError, match="the connection to web has ended: closed"):
        host.start()


def test_a_session_without_signals_lets_go_of_its_commands() -> None:
    engine = ExecEngine()
    process = Process(PlainSession(engine, "id", "root", "web").start(["sniffer"]))
    process.kill()
    assert not process.running
    assert (engine.execs[0].input_ended, engine.execs[0].closed) == (True, True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [([], "at least one word"), (["a\0b"], "a NUL character"), (["caf\udce9"], "words that are no UTF-8")],
)
def test_words_that_no_engine_takes_are_refused(host: Host, argv: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        host.session.start(argv)
    assert host.engine.asked == []


def test_a_signal_that_cannot_be_delivered_from_the_reading_thread_ends_the_wait(host: Host) -> None:
    process = Process(host.session.start(["nc"]), limit=1)

    def refused(number: int) -> int:
        raise LabError("no toolbox")

    host.on_signal = refused
    host.far.say(STDOUT, b"xx")
    with pytest.raises(HostError, match="no toolbox"):
        process.wait(5)


def test_threads_may_start_commands_at_once(host: Host) -> None:
    threads = [threading.Thread(target=host.start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({asked[2][MARK] for asked in host.engine.asked}) == 8
