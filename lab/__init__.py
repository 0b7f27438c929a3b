"""datagram-lab: a small internet of real hosts on one machine. The names here are its public face."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lab.errors import (
    CommandError,
    CommandFailed,
    CommandTimeout,
    ExpectationFailed,
    HostError,
    LabError,
    MachineError,
    NoSuchHost,
    NotRunning,
    UsageError,
)

if TYPE_CHECKING:
    from lab.exec.processes import Completed, Process
    from lab.hosts.host import Host
    from lab.hosts.status import HostStatus
    from lab.lab import Lab

__all__ = [
    "CommandError",
    "CommandFailed",
    "CommandTimeout",
    "Completed",
    "ExpectationFailed",
    "Host",
    "HostError",
    "HostStatus",
    "Lab",
    "LabError",
    "MachineError",
    "NoSuchHost",
    "NotRunning",
    "Process",
    "UsageError",
]

_HOMES = {
    "Completed": "lab.exec.processes",
    "Host": "lab.hosts.host",
    "HostStatus": "lab.hosts.status",
    "Lab": "lab.lab",
    "Process": "lab.exec.processes",
}
"""Modules that are imported when the name is first used (PEP 562): every `lab` command passes through here, and one
that completes a word or prints its help needs none of them."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
