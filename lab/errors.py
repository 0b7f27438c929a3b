"""The errors of the lab, split by what their reader must do.

    LabError                      exit code
    ├── UsageError                2   type something else
    │   └── NoSuchHost
    ├── MachineError              3   mend the machine (`lab doctor`): engine, Compose, subnet, name, disk, image
    ├── HostError                 3   look at the host (`lab logs HOST`): it is not running, or never became healthy
    │   └── NotRunning
    ├── CommandError              1   look at the command that ran inside a host
    │   ├── CommandFailed
    │   └── CommandTimeout      124   as timeout(1)
    └── ExpectationFailed         1   look at what is under test: all of the above worked, and it did something else

Each carries one line of cause and one of remedy; nothing of the lab prints a traceback for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """What happened and where (`cause`), and what to do next (`remedy`), one line each."""

    exit_code = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause if not remedy else f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


class UsageError(LabError):
    """The words typed make no sense; nothing was done."""

    exit_code = 2


class NoSuchHost(UsageError):
    """No host of that name; the cause names the nearest ones there are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f'no host "{name}"{hint}', f"Hosts: {', '.join(known) or 'none'}")
        self.name = name


class MachineError(LabError):
    """The machine cannot carry the lab as it is."""

    exit_code = 3


class HostError(LabError):
    """A host is not in the state that the call needs."""

    exit_code = 3


class NotRunning(HostError):
    """The lab, or that host of it, is down."""


class CommandError(LabError):
    """A command inside a host did not do what was asked; `stdout` and `stderr` hold what it had written."""

    def __init__(self, cause: str, remedy: str = "", *, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(cause, remedy)
        self.stdout = stdout
        self.stderr = stderr


class CommandFailed(CommandError):
    """It ended with an exit code other than 0."""


class CommandTimeout(CommandError):
    """It had not ended, started, or read its input in time. Who waited for its end has killed its whole group."""

    exit_code = 124


class ExpectationFailed(LabError, AssertionError):
    """What was waited for (a packet, a line of a log, a text in a command's output) did not come.

    It speaks of what is under test, where the others say that the lab could not carry the test. An AssertionError, too,
    so that unittest counts it among failures, not errors, and `pytest.raises(AssertionError)` and tools that tell the
    two apart by that class see it as the failed assertion that it is.
    """
