"""Which process a temporary container belongs to, and whether that still lives: what a killed one leaves is swept."""

from __future__ import annotations

import os
from pathlib import Path


def mine() -> str:
    """This process, told from any later one of the same id by when it started, and by where that id counts."""
    return f"{os.getpid()}@{_started(os.getpid())}@{_namespace()}"


def is_alive(owner: str, proc: Path = Path("/proc")) -> bool:
    """Whether the process that wrote `owner` still runs; what cannot be known from here counts as alive, and stays."""
    pid, _, rest = owner.partition("@")
    started, _, namespace = rest.partition("@")
    if not pid.isdecimal() or not started or namespace not in ("", _namespace()):
        return True
    return _started(int(pid), proc) == started


def _namespace() -> str:
    """The process ids' namespace (pid_namespaces(7)): a lab in a container sees none of its machine's processes."""
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int, proc: Path = Path("/proc")) -> str:
    """Clock ticks between the machine's boot and the process's start (proc(5), stat, field 22); empty for none."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
