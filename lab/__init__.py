"""datagram-lab: a small internet of real hosts on one machine. The names here are its public face."""

from lab.errors import (
    CommandError,
    CommandFailed,
    CommandTimeout,
    HostError,
    LabError,
    MachineError,
    NoSuchHost,
    NotRunning,
    UsageError,
)
from lab.hosts import Host
from lab.lab import HostStatus, Lab
from lab.processes import Completed, Process

__all__ = [
    "CommandError",
    "CommandFailed",
    "CommandTimeout",
    "Completed",
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
