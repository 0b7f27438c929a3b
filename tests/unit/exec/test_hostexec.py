"""services/base/hostexec.c, compiled here, under lab.hostexec: as in a host, but without one."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.errors import CommandTimeout, HostError, UsageError
from lab.exec.hostexec import Decoder, Session, frame, run_payload
from lab.exec.processes import Completed, Process

SOURCE = Path(__file__).parents[3] / "services" / "base" / "hostexec.c"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.fail("gcc is missing: these tests compile hostexec.c (apt-get install gcc libc6-dev)")
    path = tmp_path_factory.mktemp("hostexec") / "hostexec"
    words = re.search(r"RUN (gcc -std=.*) -o", (SOURCE.parent / "Dockerfile").read_text())
    assert words, "the Dockerfile no longer says how hostexec is compiled"
    subprocess.run([*words[1].split(), "-o", str(path), str(SOURCE)], check=True)
    return path


class Far:
    """The program at the far end of a socket pair; a transport."""

    def __init__(self, program: Path) -> None:
        self.near, far = socket.socketpair()
        with far:
            self.popen = subprocess.Popen([program], stdin=far, stdout=far, stderr=subprocess.PIPE)
        self._ended: tuple[int, bytes] | None = None

    complaint = b""

    def send(self, data: bytes) -> None:
        self.near.sendall(data)

    def recv(self, size: int) -> bytes:
        return self.near.recv(size)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.near.shutdown(socket.SHUT_RDWR)

    def ended(self) -> tuple[int, bytes]:
        """Its exit code and what it complained of, once it has ended."""
        if self._ended is None:
            _, errors = self.popen.communicate(timeout=5)
            self._ended = self.popen.returncode, errors
        return self._ended

    def memory(self) -> int:
        """Bytes that it holds in memory."""
        text = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024


@pytest.fixture
def far(program: Path) -> Iterator[Far]:
    far = Far(program)
    yield far
    far.close()
    far.ended()
    far.near.close()


@pytest.fixture
def session(far: Far) -> Iterator[Session]:
    with Session(far, "here") as session:
        yield session


@pytest.fixture
def run(session: Session) -> Callable[..., Completed]:
    def run(*argv: str, input: bytes = b"", timeout: float = 10.0, **options: object) -> Completed:
        return Process(session.start(argv, **options)).communicate(input, timeout)

    return run


def dies(pid: int, within: float = 3.0) -> bool:
    """Whether a process, not a child of ours, is gone or goes within so many seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within)[0])
    finally:
        os.close(handle)


def pids(process: Process, count: int) -> list[int]:
    """The numbers that a command prints first, a line each."""
    return [int(process.expect(rb"(\d+)\n")[1]) for _ in range(count)]


# What goes over the wire


def test_the_wire_to_the_byte(far: Far):
    decoder = Decoder()
    far.send(
        b"\0\0\0\x1bR\0\0\0\x05" + b"\0\0\x10\0" + b"\0\2\0\1" + b"\0" + b"printenv\0" + b"A\0" + b"A=\xc3\xa9xy\0"
    )
    heard = []
    while not heard or heard[-1][0] != b"X":
        heard += decoder.feed(far.recv(4096))
    assert heard[0] == (b"H", 0, b"\0\0\0\1\0\1\0\0")
    assert heard[1][:2] == (b"P", 5)
    assert heard[2:] == [(b"1", 5, b"\xc3\xa9xy\n"), (b"X", 5, b"\0\0\0\0")]
    far.close()
    assert far.ended() == (0, b"")


def test_frames_as_the_caller_makes_them():
    assert frame(b"K", 258, b"\x02") == b"\0\0\0\1K\0\0\1\2\2"
    assert run_payload(["nc", ""], {"A": "b=c"}, "/tmp") == b"\0\4\0\0\0\2\0\1/tmp\0nc\0\0A=b=c\0"


def test_frames_are_found_however_the_stream_is_cut():
    stream = frame(b"1", 1, b"abc") + frame(b"X", 1, b"\0\0\0\0") + frame(b"E", 2)
    whole = list(Decoder().feed(stream))
    decoder = Decoder()
    assert [found for byte in stream for found in decoder.feed(bytes([byte]))] == whole
    assert whole == [(b"1", 1, b"abc"), (b"X", 1, b"\0\0\0\0"), (b"E", 2, b"")]


@pytest.mark.parametrize("argv", [[], "true", ["a\0b"], ["x" * 300_000], ["x"] * 20_000])
def test_words_that_no_command_can_be_given_are_refused_here(argv: list[str]):
    with pytest.raises(UsageError):
        run_payload(argv)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"a frame too long"),
        (frame(b"Z", 1), b"unknown type"),
        (frame(b"\0", 1), b"unknown type"),
        (frame(b"R", 1, b"short"), b"bad run frame"),
        (frame(b"R", 1, run_payload(["true"])[:-1]), b"bad run frame"),
        (frame(b"R", 1, b"\0\0\0\1\0\0\0\0\0\0\0"), b"bad number"),
        (frame(b"R", 1, b"\0\0\0\1\0\2\0\0\0a\0"), b"too few strings"),
        (frame(b"R", 1, b"\0\0\0\1\0\1\0\0\0a\0b\0"), b"too many strings"),
        (frame(b"R", 9, run_payload(["true"])), b"bad run frame"),
        (frame(b"I", 9, bytes(70_000)), b"beyond the window"),
        (frame(b"E", 9) + frame(b"I", 9, b"x"), b"beyond the window or its end"),
        (frame(b"K", 9, b"\0"), b"bad signal"),
        (frame(b"K", 9, b"\x80"), b"bad signal"),
        (frame(b"C", 9, b"\xff\xff\xff\xff"), b"bad credit"),
    ],
    ids=lambda value: value.decode().replace(" ", "-") if value[:1].islower() else "",
)
def test_a_broken_protocol_ends_the_program_and_its_commands(far: Far, sent: bytes, complaint: bytes):
    far.send(frame(b"R", 9, run_payload(["sleep", "1000"])))
    decoder, pid = Decoder(), 0
    while not pid:
        pid = next((int.from_bytes(data, "big") for kind, _, data in decoder.feed(far.recv(99)) if kind == b"P"), 0)
    far.send(sent)
    code, errors = far.ended()
    assert (code, complaint in errors) == (100, True), errors
    assert dies(pid)


def test_frames_for_a_command_that_has_ended_are_no_error(session: Session, far: Far, run: Callable[..., Completed]):
    assert run("true").exit == 0
    far.send(b"".join(frame(kind, 1, b"\x09") for kind in (b"I", b"E", b"K", b"C")))
    assert run("true").exit == 0


# What passes through


def test_five_megabytes_come_back_unharmed(run: Callable[..., Completed]):
    data = random.Random(1).randbytes(5_000_000)
    done = run("cat", input=data, timeout=30)
    assert done.stdout == data
    assert (done.exit, done.stderr) == (0, b"")


def test_both_outputs_are_separate_and_binary(run: Callable[..., Completed]):
    data = bytes(range(256)) * 300
    done = run("sh", "-c", "tee /dev/stderr", input=data)
    assert done.stdout == data
    assert done.stderr == data


@pytest.mark.parametrize("code", [0, 1, 100, 127, 255])
def test_exit_code(run: Callable[..., Completed], code: int):
    done = run("sh", "-c", f"exit {code}")
    assert (done.exit, done.signal) == (code, None)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "PIPE"])
def test_death_by_signal(run: Callable[..., Completed], name: str):
    done = run("sh", "-c", f"ulimit -c 0; kill -{name} $$")
    assert (done.exit, done.signal) == (128 + signal.Signals["SIG" + name], name)


def test_what_cannot_be_run(run: Callable[..., Completed], tmp_path: Path):
    (tmp_path / "plain").write_text("")
    assert run("no-such-command").exit == 127
    assert run("").exit == 127
    assert run(str(tmp_path / "plain")).exit == 126
    assert run(str(tmp_path)).stderr == f"lab: exec: {tmp_path}: Permission denied\n".encode()
    nowhere = run("true", cwd=str(tmp_path / "nowhere"))
    assert (nowhere.exit, nowhere.stderr) == (
        126,
        f"lab: chdir: {tmp_path}/nowhere: No such file or directory\n".encode(),
    )


def test_environment_and_folder(run: Callable[..., Completed], tmp_path: Path):
    done = run("sh", "-c", 'echo "$A:$HOME"; pwd', env={"A": "é = b\n", "HOME": ""}, cwd=str(tmp_path))
    assert done.text == f"é = b\n:\n{tmp_path}\n"
    assert run("printenv", "HOME").text.strip() == os.environ["HOME"]


def test_program_is_looked_up_in_the_path_it_is_given(run: Callable[..., Completed], tmp_path: Path):
    tool = tmp_path / "tool-of-mine"
    tool.write_text("echo found")  # without #!: the shell runs it, as execvp(3) says
    tool.chmod(0o755)
    assert run("tool-of-mine", env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).text == "found\n"


def test_a_command_starts_clean(run: Callable[..., Completed], far: Far):
    masks = run("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status").text
    libc_own = 0b11 << 31  # signals 32 and 33: glibc lets no program touch them, whatever it was started with
    assert [int(line.split()[1], 16) & ~libc_own for line in masks.splitlines()] == [0, 0]
    parent, *descriptors = run("sh", "-c", "echo $PPID; ls /proc/$$/fd").text.split()
    assert descriptors == ["0", "1", "2"]
    assert int(parent) == far.popen.pid
    stat = run("cat", "/proc/self/stat").text
    pid, (_, _, group, own_session, terminal, *_) = stat.split()[0], stat.rpartition(")")[2].split()
    assert (group, own_session, terminal) == (pid, pid, "0")


def test_end_of_input_is_passed_on(session: Session):
    process = Process(session.start(["sh", "-c", "cat; echo end"]))
    process.write(b"one\n")
    assert process.expect(b"one\n")
    assert process.running
    process.close_stdin()
    assert process.wait().stdout == b"one\nend\n"


def test_dialogue(session: Session):
    with Process(session.start(["sed", "-u", "s/^/you said /"])) as sed:
        for word in (b"one", b"two"):
            sed.write(word + b"\n")
            assert sed.expect(rb"you said (\w+)\n")[1] == word


def test_a_command_need_not_read_its_input(run: Callable[..., Completed]):
    assert run("head", "-c", "3", input=b"abc" + bytes(5_000_000)).stdout == b"abc"
    assert run("sh", "-c", "exec <&-; echo closed", input=bytes(5_000_000)).stdout == b"closed\n"


def test_signal_reaches_the_whole_group(session: Session):
    script = """
    trap 'echo parent; wait; exit 5' USR1
    (trap 'echo child; exit' USR1; echo up; sleep 100 & wait) &
    echo up
    wait
    """
    process = Process(session.start(["sh", "-c", script]))
    process.expect(rb"up\n(.|\n)*up\n")
    process.signal("USR1")
    process.expect(rb"(?s)(?=.*parent\n)(?=.*child\n)")
    assert process.wait().exit == 5


# Many at once


def test_fifty_at_once(session: Session):
    processes = [Process(session.start(["sh", "-c", f"cat; exit {n}"])) for n in range(50)]
    for n, process in enumerate(processes):
        process.write(b"%d" % n * 1000)
    for process in reversed(processes):
        process.close_stdin()
    for n, process in enumerate(processes):
        done = process.wait()
        assert (done.exit, done.stdout) == (n, b"%d" % n * 1000)


def test_threads_share_a_session(session: Session):
    wrong = []

    def work(n: int) -> None:
        for turn in range(5):
            data = b"%d %d " % (n, turn) * 20_000
            if Process(session.start(["cat"])).communicate(data, 20).stdout != data:
                wrong.append((n, turn))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_number_of_commands_is_bounded(session: Session, run: Callable[..., Completed]):
    sleepers = [session.start(["sleep", "1000"]) for _ in range(256)]
    assert all(sleeper.pid for sleeper in sleepers)
    assert b"too many" in run("true").stderr
    Process(sleepers[0]).kill()
    assert run("true").exit == 0


def test_an_output_that_nobody_reads_holds_up_nobody(session: Session, far: Far, run: Callable[..., Completed]):
    stopped = [Process(session.start(["cat", "/dev/zero"]), collect=False) for _ in range(5)]
    assert run("seq", "200000").stdout.endswith(b"\n200000\n")
    assert far.memory() < 12_000_000
    for process in stopped:
        chunks = process.chunks(timeout=5)
        assert sum(len(next(chunks)[1]) for _ in range(100)) > 1_000_000
        process.kill()
        assert not process.running


def test_an_unread_output_is_not_taken_for_a_silent_one(session: Session, run: Callable[..., Completed]):
    process = Process(session.start(["head", "-c", "320000", "/dev/zero"]), collect=False)  # window, and pipe
    assert run("sleep", "0.3").exit == 0  # longer than a silent output is waited for
    assert sum(len(data) for _, data in process.chunks(timeout=5)) == 320_000


def test_an_input_that_nobody_reads_holds_up_nobody(session: Session, far: Far, run: Callable[..., Completed]):
    deaf = [Process(session.start(["sleep", "1000"])) for _ in range(5)]
    for process in deaf:
        with pytest.raises(CommandTimeout):
            process.write(bytes(10_000_000), timeout=0.1)
    assert run("cat", input=b"x" * 500_000).stdout == b"x" * 500_000
    assert far.memory() < 12_000_000


def test_a_caller_that_does_not_read_at_all_costs_no_memory_and_each_command_its_turn(far: Far):
    run_frame = run_payload(["cat", "/dev/zero"])
    for number in range(20):
        far.send(frame(b"R", number, b"\x7f\xff\xff\xff" + run_frame[4:]))  # a window of 2 GB each
    decoder, heard = Decoder(), Counter[int]()
    list(decoder.feed(far.recv(100)))  # it runs …
    select.select([], [], [], 0.3)  # … and has time to fill what it can
    assert far.memory() < 12_000_000

    while sum(heard.values()) < 20_000_000:
        for kind, number, data in decoder.feed(far.recv(1 << 16)):
            assert kind in b"P1"
            if kind == b"1":
                assert not data.strip(b"\0")
                heard[number] += len(data)
    assert min(heard[number] for number in range(20)) > 200_000, heard
    far.close()
    assert far.ended() == (0, b"")


# How it ends

FAMILY = """
trap '' TERM                # deaf to the polite way
sleep 1000 & echo $!
timeout 1000 sleep 1000 & echo $!   # moves to a group of its own
echo $$
wait; wait
sleep 1000
"""


def test_nothing_survives_the_caller(far: Far):
    session = Session(far, "here")
    everybody = [pid for _ in range(3) for pid in pids(Process(session.start(["sh", "-c", FAMILY])), 3)]
    far.close()
    assert far.ended() == (0, b"")
    assert all(dies(pid) for pid in everybody)
    assert len(set(everybody)) == 9


def test_a_caller_killed_outright_is_noticed(far: Far):
    """As `kill -9` does it: the descriptors of the caller just close."""
    sleeper = pids(Process(Session(far, "here").start(["sh", "-c", "echo $$; exec sleep 1000"])), 1)[0]
    far.near.shutdown(socket.SHUT_WR)
    assert far.ended()[0] == 0
    assert dies(sleeper)


def test_a_polite_command_may_tidy_up_when_the_caller_goes(far: Far, tmp_path: Path):
    mark = tmp_path / "tidy"
    script = f"trap 'echo done >{mark}; exit' TERM; echo $$; sleep 1000 & wait"
    pids(Process(Session(far, "here").start(["sh", "-c", script])), 1)
    far.close()
    assert far.ended() == (0, b"")
    assert mark.read_text() == "done\n"


def test_a_timeout_kills_children_too(session: Session):
    process = Process(session.start(["sh", "-c", FAMILY]))
    everybody = pids(process, 3)
    with pytest.raises(CommandTimeout) as raised:
        process.wait(0.05)
    assert len(raised.value.stdout.split()) == 3
    assert all(dies(pid) for pid in everybody)


def test_a_daemon_left_behind_lives_on_and_holds_up_nobody(run: Callable[..., Completed]):
    began = time.monotonic()
    done = run("sh", "-c", "sleep 1000 & echo $!; exit 4")
    daemon = int(done.stdout)
    try:
        assert done.exit == 4
        assert 0.1 <= time.monotonic() - began < 5
        assert not dies(daemon, within=0.3)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_what_a_child_is_still_writing_is_waited_for(run: Callable[..., Completed]):
    assert run("sh", "-c", "seq 300000 & exit 0").stdout.endswith(b"\n300000\n")


def test_death_of_the_program_ends_every_wait_and_every_command(session: Session, far: Far):
    process = Process(session.start(["sleep", "1000"]))
    pid = process.pid
    far.popen.kill()
    with pytest.raises(HostError, match="the connection to here has ended"):
        process.wait()
    assert dies(pid)


def test_closing_the_session_ends_its_commands(far: Far):
    with Session(far, "here") as session:
        process = Process(session.start(["sleep", "1000"]))
        pid = process.pid
    with pytest.raises(HostError, match="closed"):
        process.wait()
    assert dies(pid)
