"""Signals what the engine has started in a container, from beside it: in its process namespace, as root.

    python3 ender.py NAME=VALUE SIGNAL

Whatever has NAME=VALUE in its environment is meant, and its process id, the first one's, goes to standard output.
Signal 0 does nothing else; 9 ends them all and what they started, even that which has cleared its environment, as far
as their sessions and parents tell; any other reaches the process group of the first one, as Ctrl-C at a terminal does.

Takes CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (to read another user's environment, proc(5)) and CAP_KILL. Exits 0; 1
when there is none; 2 when some have not ended, as in a container that is paused.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FIND_SECONDS = 1.0  # a process that is just becoming the command does not have its environment yet
END_SECONDS = 1.5
PAUSE_SECONDS = 0.01


class Process(NamedTuple):
    """As proc(5), stat, has it."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    marked: bool


def processes(mark: bytes) -> Iterator[Process]:
    """All that can be seen, but for this one and those that have ended."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are what is wanted
        if name.isdecimal() and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended since
                # The name, in parentheses, may hold anything.
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] not in b"ZX":
                    environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                    parent, group, session, started = (int(fields[at]) for at in (1, 2, 3, 19))
                    yield Process(int(name), parent, group, session, started, mark in environment)


class Family:
    """The marked processes and what they started, as far as it has been seen at any time."""

    def __init__(self, mark: str) -> None:
        self._mark = os.fsencode(mark)
        self._pids: set[int] = set()
        self._sessions: set[int] = set()
        self.first: Process | None = None

    def look(self) -> list[Process]:
        """Those of them that are there."""
        there = list(processes(self._mark))
        strangers = {0, 1, os.getsid(0)}  # sessions from outside, and the container's own
        members: dict[int, Process] = {}
        before = -1
        while before != len(members):
            before = len(members)
            for one in there:
                if one.marked or one.session in self._sessions or {one.pid, one.parent} & self._pids:
                    members[one.pid] = one
                    self._pids.add(one.pid)
                    if one.marked:
                        self._sessions |= {one.session} - strangers
        marked = [one for one in members.values() if one.marked]
        if marked and not self.first:
            self.first = min(marked, key=lambda one: (one.parent != 0, one.started, one.pid))
        return list(members.values())


def send(to: list[Process], number: int) -> None:
    for one in to:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, number)


def main(mark: str, number: int) -> int:
    family, pause, began = Family(mark), threading.Event(), time.monotonic()
    members = family.look()
    while not family.first:
        if time.monotonic() - began > FIND_SECONDS:
            return 1
        pause.wait(PAUSE_SECONDS)
        members = family.look()
    print(family.first.pid, flush=True)
    if number == signal.SIGKILL:
        while members:
            send(members, number)
            if time.monotonic() - began > FIND_SECONDS + END_SECONDS:
                return 2
            pause.wait(PAUSE_SECONDS)
            members = family.look()
    elif number:
        send([one for one in members if one.group == family.first.group], number)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
