"""Process and Completed against a scripted host."""

from __future__ import annotations

import threading

import pytest

from lab.errors import CommandError, CommandFailed, CommandTimeout, ExpectationFailed, HostError, UsageError
from lab.exec.hostexec import Frame, Session
from lab.exec.processes import Completed, Process
from tests.unit.fake_hostexec import FakeHost


def answering(*answers: tuple[bytes, bytes | int]) -> FakeHost:
    """A host that gives these answers to each command as it starts."""

    def script(host: FakeHost, heard: Frame) -> None:
        if heard[0] == b"R":
            for kind, payload in answers:
                host.say(kind, heard[1], payload)
        if heard[0] == b"K" and heard[2] == b"\x09":
            host.say(b"X", heard[1], -9)

    return FakeHost(script)


def start(host: FakeHost, **options: bool | int) -> Process:
    return Process(Session(host, "ucserver").start(["nc", "-u", "a b"]), **options)


def test_completed_holds_what_the_command_did():
    done = start(answering((b"P", 7), (b"1", b"out\xff"), (b"2", b"err"), (b"X", 3))).wait()
    assert (done.argv, done.exit, done.stdout, done.stderr) == (("nc", "-u", "a b"), 3, b"out\xff", b"err")
    assert done.text == "out\\xff"
    assert done.signal is None
    assert 0 < done.elapsed < 5


def test_death_by_a_signal_is_not_the_exit_code_of_the_same_number():
    killed = start(answering((b"X", -15))).wait()
    exited = start(answering((b"X", 143))).wait()
    assert (killed.exit, killed.signal) == (143, "TERM")
    assert (exited.exit, exited.signal) == (143, None)


def test_real_time_signal_has_a_number_for_a_name():
    assert start(answering((b"X", -40))).wait().signal == "40"


def test_check_returns_the_success_itself():
    done = Completed(("true",), 0, b"", b"", 0.1)
    assert done.check() is done


def test_check_says_which_command_failed_where_and_what_it_said():
    done = Completed(("nc", "a b"), 1, b"x", b"nc: refused\nbye\n", 0.1, host="client")
    with pytest.raises(CommandFailed) as raised:
        done.check()
    assert raised.value.cause == "`nc 'a b'` on client ended with exit code 1: nc: refused | bye"
    assert (raised.value.stdout, raised.value.stderr) == (b"x", b"nc: refused\nbye\n")


def test_check_names_the_signal():
    with pytest.raises(CommandFailed, match=r"was killed by SIGSEGV: \(nothing\)"):
        Completed(("a",), 139, b"", b"", 0.1, signal="SEGV").check()


def test_pid_is_the_one_in_the_host():
    assert start(answering((b"P", 4711))).pid == 4711


def test_what_cannot_be_started_ends_as_in_a_shell():
    missing = start(answering((b"F", b"\0\0\0\x02exec: nc: No such file or directory"))).wait()
    denied = start(answering((b"F", b"\0\0\0\x0dexec: nc: Permission denied"))).wait()
    no_folder = start(answering((b"F", b"\0\0\0\x02chdir: /x: No such file or directory")))
    assert (missing.exit, missing.stderr) == (127, b"lab: exec: nc: No such file or directory\n")
    assert denied.exit == 126
    assert (no_folder.wait().exit, no_folder.pid) == (126, 0)


def test_expect_consumes_up_to_the_end_of_its_match():
    process = start(answering((b"1", b"one\ntw"), (b"1", b"o\nthree\n")))
    assert process.expect(rb"(\w+)\n").group(1) == b"one"
    assert process.expect(r"(\w+)\n")[1] == b"two"
    assert process.expect(rb"\w+").group() == b"three"
    assert process.stdout == b"one\ntwo\nthree\n"


def test_expect_wakes_for_output_that_comes_later():
    host = FakeHost()
    process = start(host)
    threading.Timer(0.05, host.say, (b"1", 1, b"ready\n")).start()
    assert process.expect(b"ready", timeout=5)


def test_expect_times_out_with_what_there_was_and_harms_nothing():
    process = start(answering((b"1", b"ONE\n"), (b"2", b"oops")))
    with pytest.raises(
        ExpectationFailed, match=r"waited 0.05 s without b'TWO' in its output: ONE; standard error: oops"
    ):
        process.expect(b"TWO", timeout=0.05)
    assert process.running
    assert process.expect(b"ONE")


def test_expect_ends_at_once_when_the_command_has_ended():
    process = start(answering((b"1", b"ONE\n"), (b"X", 2)))
    with pytest.raises(ExpectationFailed, match=r"ended \(exit code 2\) without b'TWO'"):
        process.expect(b"TWO", timeout=60)


def test_wait_kills_at_its_deadline_and_keeps_the_output():
    host = answering((b"1", b"half"))
    with pytest.raises(CommandTimeout, match=r"had not ended after 0.05 s and was killed") as raised:
        start(host).wait(0.05)
    assert raised.value.stdout == b"half"
    assert host.heard[-1] == (b"K", 1, b"\x09")


def test_the_end_of_a_block_kills():
    host = answering()
    with start(host) as process:
        assert process.running
    assert not process.running
    assert host.heard[-1] == (b"K", 1, b"\x09")


def test_an_ended_command_is_sent_nothing_more():
    host = answering((b"X", 0))
    with start(host) as process:
        process.wait()
        process.signal("INT")
        process.close_stdin()
    assert [kind for kind, _, _ in host.heard] == [b"R"]


def test_signal_goes_by_name():
    host = FakeHost()
    process = start(host)
    process.signal("int")
    process.signal("SIGUSR1")
    assert [payload for kind, _, payload in host.heard if kind == b"K"] == [b"\x02", b"\x0a"]
    with pytest.raises(UsageError, match='no signal "HUPP"'):
        process.signal("HUPP")


def test_write_waits_for_the_window_and_sends_no_more_than_it():
    host = FakeHost(window=10)
    process = start(host)
    with pytest.raises(CommandTimeout, match="did not read its standard input"):
        process.write(b"0123456789ABCDE", timeout=0.05)
    assert host.heard[-1] == (b"I", 1, b"0123456789")
    host.say(b"C", 1, 3)
    with pytest.raises(CommandTimeout):
        process.write(b"xyz!", timeout=0.5)
    assert host.heard[-1] == (b"I", 1, b"xyz")


def test_write_to_an_ended_command_is_an_error_but_communicate_takes_it_as_unread():
    process = start(answering((b"X", 0)))
    process.wait()
    with pytest.raises(CommandError, match="has ended"):
        process.write(b"x")
    assert start(answering((b"X", 0))).communicate(b"x" * 1_000_000).exit == 0


def test_communicate_sends_all_and_the_end():
    host = answering((b"X", 0))
    host_that_reads = FakeHost(lambda host, heard: host.say(b"X", 1, 0) if heard[0] == b"E" else None)
    assert start(host_that_reads).communicate(b"abc").exit == 0
    assert [frame[0::2] for frame in host_that_reads.heard[1:]] == [(b"I", b"abc"), (b"E", b"")]
    assert start(host).communicate().exit == 0


def test_a_vanished_host_ends_every_wait():
    host = FakeHost()
    process = start(host)
    threading.Timer(0.05, host.vanish).start()
    for wait in (process.wait, lambda: process.expect(b"x"), lambda: process.pid, process.communicate):
        with pytest.raises(HostError, match="the connection to ucserver has ended"):
            wait()


def test_nothing_can_be_started_over_a_lost_connection():
    host = FakeHost()
    session = Session(host, "ucserver")
    process = Process(session.start(["a"]))
    host.vanish()
    with pytest.raises(HostError):
        process.wait()
    assert not session.alive
    with pytest.raises(HostError):
        session.start(["b"])


@pytest.mark.parametrize("garbage", [b"OCI runtime exec failed: no such file", b"\0\0\0\x04H\0\0\0\0\0\0\0\x63"])
def test_what_is_not_the_program_of_this_version_is_told(garbage: bytes):
    class Wrong(FakeHost):
        def say(self, kind: bytes, number: int, payload: bytes | int = b"") -> None:
            self._answers.put(garbage)

    with pytest.raises(HostError, match=r"the connection to ucserver has ended: .+"):
        start(Wrong()).wait()


def test_output_within_the_limit_is_credited_and_beyond_it_kills():
    host = answering(*[(b"1", bytes(50_000))] * 10)
    process = start(host, limit=300_000)
    with pytest.raises(CommandFailed, match=r"wrote more than 300,000 bytes and was killed"):
        process.wait()
    assert len(process.stdout) == 300_000
    assert sum(int.from_bytes(payload, "big") for kind, _, payload in host.heard if kind == b"C") >= 300_000


def test_chunks_are_credited_only_as_they_are_taken():
    host = answering((b"1", bytes(60_000)), (b"2", b"e"), (b"1", bytes(60_000)), (b"X", 0))
    process = start(host, collect=False)
    chunks = process.chunks(timeout=5)
    assert [(stream, len(data)) for stream, data in chunks] == [(1, 60_000), (2, 1), (1, 60_000)]
    assert process.wait().stdout == b""

    endless = answering(*[(b"1", bytes(60_000))] * 4)
    chunks = start(endless, collect=False).chunks(timeout=0.2)
    next(chunks)
    assert [kind for kind, _, _ in endless.heard] == [b"R"]
    with pytest.raises(CommandTimeout):
        list(chunks)
    assert (b"C", 1, (120_000).to_bytes(4, "big")) in endless.heard


def test_an_interrupted_send_ends_the_session():
    class Interrupted(FakeHost):
        def send(self, data: bytes) -> None:
            if data[4:5] == b"I":
                raise KeyboardInterrupt
            super().send(data)

    host = Interrupted()
    process = start(host)
    with pytest.raises(KeyboardInterrupt):
        process.write(b"half")
    with pytest.raises(HostError, match="interrupted while sending"):
        process.wait()
