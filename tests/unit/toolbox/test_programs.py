"""The toolbox's programs, run as they are on this machine: those that need no rights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.toolbox import interfaces
from lab.toolbox.interfaces import NoInterface, chosen

PROJECT = Path(__file__).parents[3]

FAMILY = """
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(3))
wait = [sys.executable, "-c", "import signal; signal.pause()"]
hidden = subprocess.Popen(wait, env={})
away = subprocess.Popen(wait, start_new_session=True)
print(hidden.pid, away.pid, flush=True)
while True:
    signal.pause()
"""


def ender(mark: str, number: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROJECT / "lab/toolbox/ender.py", mark, str(number)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def family(mark: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A marked process, and the ids of a child without environment and of one in a session of its own."""
    name, _, value = mark.partition("=")
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        env={**os.environ, name: value},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout
        children = [int(word) for word in first.stdout.readline().split()]
        try:
            yield first, children
        finally:
            for pid in (first.pid, *children):
                if runs(pid):
                    os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_first_of_those_with_the_mark_is_found_and_unharmed() -> None:
    with family("LAB_COMMAND=found") as (first, children):
        done = ender("LAB_COMMAND=found", 0)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{first.pid}\n", "")
        assert all(map(runs, [first.pid, *children]))


def test_a_kill_reaches_all_that_was_started_whatever_it_has_done_to_hide() -> None:
    with family("LAB_COMMAND=killed") as (first, children), family("LAB_COMMAND=another") as (other, _):
        assert ender("LAB_COMMAND=killed", 9).returncode == 0
        assert first.wait(5) == -9
        assert not any(map(runs, children))
        assert runs(other.pid)


def test_another_signal_reaches_the_first_ones_process_group_alone() -> None:
    with family("LAB_COMMAND=asked") as (first, (hidden, away)):
        assert ender("LAB_COMMAND=asked", 2).returncode == 0
        assert first.wait(5) == 3
        assert runs(away)
        assert hidden


def test_a_mark_that_nobody_has_is_said_by_the_exit_code() -> None:
    assert ender("LAB_COMMAND=nobody", 9).returncode == 1


def test_without_a_word_the_only_interface_beside_lo_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_is_up", lambda name: name != "tunl0")
    for there, expected in [
        (["lo"], "lo"),
        (["lo", "tunl0"], "lo"),
        (["lo", "tunl0", "net7"], "net7"),
        (["lo", "eth0", "eth1"], "any"),
    ]:
        monkeypatch.setattr(interfaces, "there", lambda there=there: there)
        assert chosen("") == expected


def test_an_interface_is_found_by_its_address() -> None:
    assert chosen("127.0.0.1") == "lo"


def test_one_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([["lo"], ["lo"], ["lo", "late0"]])
    monkeypatch.setattr(interfaces, "there", lambda: next(looks))
    monkeypatch.setattr(interfaces, "_is_up", lambda name: True)
    assert chosen("late0") == "late0"


@pytest.mark.parametrize(
    ("word", "said"),
    [("moon0", "moon0: No such device, or it is not up, after 0 s; there are: "), ("192.0.2.1", "no interface has it")],
)
def test_one_that_does_not_come_is_told_with_those_there_are(word: str, said: str) -> None:
    with pytest.raises(NoInterface, match=said):
        chosen(word, seconds=0)


@pytest.mark.parametrize(
    ("words", "data", "said"),
    [
        (["frames", "moon0"], b"", "moon0: No such device"),
        (["packets"], (24).to_bytes(4, "big") + bytes(24), "packet 1 is no IPv4 packet: 00 00"),
    ],
)
def test_the_sender_refuses_what_it_cannot_send(words: list[str], data: bytes, said: str) -> None:
    if words[0] == "packets" and os.geteuid() != 0:
        pytest.skip("a raw socket takes root")
    done = subprocess.run(
        [sys.executable, PROJECT / "lab/toolbox/sender.py", *words],
        input=data,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 100
    assert said in done.stderr.decode()
