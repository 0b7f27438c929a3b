"""The `lab` command on live hosts: what passes through it, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.waiting import Deadline, poll

LAB = Path(sys.executable).with_name("lab")
EVERY_BYTE = bytes(range(256))

FIND = """
import os, sys
mark = sys.stdin.buffer.read()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if mark in open(f"/proc/{pid}/cmdline", "rb").read():
            print(pid)
    except OSError:
        pass
"""
"""Lists the processes with the words that it reads; its own command line does not have them."""

STUBBORN = """
import os, signal
# Not print: a signal may come while the one below still holds the buffer.
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"INT\\n"))
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"TERM\\n"))
print("ready", flush=True)
while True:
    signal.pause()
"""


def run(*words: str, input: bytes = b"", timeout: float = 30) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([LAB, *words], input=input, capture_output=True, timeout=timeout)


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `lab` command under way; killed at the end of the block if it has not ended."""
    pipe = subprocess.PIPE
    with subprocess.Popen([LAB, *words], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def mark() -> str:
    """A word that no other process has."""
    return uuid.uuid4().hex


@pytest.fixture
def remains(client, mark: str) -> Callable[[], list[str]]:
    """Processes in the client with the mark; asked for again until there is none, or two seconds have passed."""

    def look() -> list[str]:
        return client.run(["python3", "-c", FIND], input=mark.encode()).check().text.split()

    def after_a_moment() -> list[str]:
        poll(lambda: not look(), Deadline.after(2), every=0.1)
        return look()

    return after_a_moment


@contextmanager
def marked(mark: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`lab exec` of a shell with a child, both with the mark, seen to run."""
    # By default SIGINT ends it at any moment; Python's own handler would leave a gap before pause().
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); print('ready', flush=True); signal.pause()"
    script = f'python3 -c "{program}" "$0"; :'
    with started("exec", *options, "client", "--", "sh", "-c", script, mark) as process:
        assert line(process) == b"ready\n"
        yield process


# ---- what passes through --------------------------------------------------------------------------------------


def test_a_megabyte_of_every_byte_passes_through_unharmed(client):
    data = EVERY_BYTE * 4096
    done = run("exec", "client", "--", "cat", input=data)
    assert done.stdout == data
    assert (done.returncode, done.stderr) == (0, b"")


def test_standard_error_is_separate_and_as_binary(client):
    done = run("exec", "client", "--", "sh", "-c", "cat >&2; echo out", input=EVERY_BYTE)
    assert done.stdout == b"out\n"
    assert done.stderr == EVERY_BYTE


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 3"], 3),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_the_exit_code_is_the_commands(client, words: list[str], code: int):
    assert run("exec", "client", "--", *words).returncode == code


def test_a_program_that_is_not_there_is_named(client):
    assert b"no-such-program" in run("exec", "client", "--", "no-such-program").stderr


def test_the_end_of_standard_input_arrives(client):
    assert run("exec", "client", "--", "wc", "-c", input=b"").stdout == b"0\n"
    assert run("exec", "client", "--", "wc", "-c", input=b"seven\n\n").stdout == b"7\n"


def test_a_closed_standard_input_is_an_empty_one(client):
    done = subprocess.run(["sh", "-c", '"$0" exec client -- wc -c <&-', LAB], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"0\n")


def test_input_that_the_command_does_not_read_is_no_error(client):
    done = run("exec", "client", "--", "head", "-c", "1", input=EVERY_BYTE * 8192)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\0", b"")


def test_a_dialogue_is_possible_since_nothing_is_held_back(client):
    with started("exec", "client", "--", "cat") as process:
        assert process.stdin is not None
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            process.stdin.flush()
            assert line(process) == word
        process.stdin.close()
        assert process.wait(10) == 0


def test_options_before_the_host_are_labs_and_after_it_the_commands(client):
    done = run(
        "exec",
        "-u",
        "root",
        "-e",
        "GREETING=hi there",
        "-w",
        "/usr",
        "client",
        "sh",
        "-uc",
        'id -u; pwd; echo "$GREETING"',
    )
    assert done.stdout == b"0\n/usr\nhi there\n"


# ---- what ends it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_command_inside_too(client, mark, remains, number: signal.Signals, code: int):
    with marked(mark) as process:
        process.send_signal(number)
        assert process.wait(10) == code
        assert remains() == []


def test_kill_9_of_lab_ends_the_command_inside_too(client, mark, remains):
    with marked(mark) as process:
        process.kill()
        process.wait(10)
        assert remains() == []


def test_a_command_may_answer_a_signal_and_the_second_one_ends_it(client, mark, remains):
    with started("exec", "client", "--", "python3", "-c", STUBBORN, mark) as process:
        assert line(process) == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert line(process) == b"INT\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 137
        assert remains() == []


def test_at_the_timeout_nothing_remains_inside(client, mark, remains):
    with marked(mark, "--timeout", "500ms") as process:
        assert process.wait(10) == 124
        assert process.stderr is not None
        assert process.stderr.read() == b"lab: `sh` on client had not ended after 0.5 s and was ended\n"
        assert remains() == []


def test_a_reader_who_leaves_ends_the_command_inside_too(client, mark, remains):
    with started("exec", "client", "--", "yes", mark) as process:
        assert line(process) == mark.encode() + b"\n"
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(10) == 141
        assert remains() == []


def test_the_search_for_what_remains_finds_what_runs(client, mark):
    with marked(mark):
        assert client.run(["python3", "-c", FIND], input=mark.encode()).text.split()


# ---- the other commands -----------------------------------------------------------------------------------------


def test_logs_of_two_hosts_are_followed_until_ctrl_c(lab):
    with started("logs", "-f", "-n", "0", "peer69", "farpeer") as process:
        seen = {line(process).partition(b" | ")[0].strip() for _ in range(20)}  # each says one or more a second
        assert seen == {b"peer69", b"farpeer"}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_log_that_has_ended_by_then_is_printed_whole(lab):
    done = run("logs", "ucserver")
    assert done.returncode == 0
    assert done.stdout.decode(errors="replace").startswith("ready")


def test_status_as_json_has_each_host_with_its_address(lab):
    done = run("status", "--json")
    hosts = {host["name"]: host for host in json.loads(done.stdout)["hosts"]}
    assert done.returncode in (0, 1)
    assert hosts["ucserver"]["addresses"] == lab.host("ucserver").addresses
    assert {"router", "client", "ucserver", "farpeer"} <= set(hosts)
    assert all(host["role"] and host["try"] for host in hosts.values())


def test_all_hosts_keep_within_250_mib_of_memory_and_their_images_within_520_mb_of_disk(lab):
    """An engine whose kernel counts no memory tells of none; then only the images are held to it."""
    sizes = json.loads(run("status", "--sizes", "--json").stdout)
    assert 0 < sizes["images_bytes"] <= 520e6
    assert sum(used or 0 for used in sizes["memory_bytes"].values()) <= 250 * 2**20


def test_a_shell_needs_no_terminal(client):
    done = run("shell", "client", input=b"hostname; exit 4\n")
    assert (done.returncode, done.stdout) == (4, b"client\n")


def test_a_near_miss_is_named_before_anything_is_asked_of_a_host(lab):
    done = run("exec", "ucservr", "--", "true")
    assert done.returncode == 2
    assert done.stderr.startswith(b'lab: no host "ucservr"; did you mean ucserver?\n')


def test_it_works_from_any_folder_with_lab_dir(lab, tmp_path: Path):
    done = subprocess.run(
        [LAB, "exec", "client", "hostname"],
        cwd=tmp_path,
        env={**os.environ, "LAB_DIR": str(lab.settings.root)},
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, b"client\n")
