"""What proc(5) says of a host's processes."""

from __future__ import annotations

from lab import Host

_EACH = "for each in /proc/[0-9]*/status; do cat $each && echo; done 2>/dev/null"


def processes(host: Host) -> list[dict[str, str]]:
    """The `status` of each process by its fields, such as `Name` and `Pid`; one that ends meanwhile is left out."""
    blocks = host.run(["sh", "-c", _EACH]).text.split("\n\n")
    return [dict(line.split(":\t", 1) for line in block.splitlines() if ":\t" in line) for block in blocks if block]
