"""What state a host is in, as `lab status` tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class HostStatus:
    """One row of `lab status`."""

    name: str
    role: str
    state: str
    """`healthy`, `starting`, `unhealthy`, `running` (has no check), `done` (has ended well, as others wait for),
    `paused`, `exited`, `created` or `down`."""
    addresses: Mapping[str, str]
    """IPv4 address by network; of a host that is down, those it will have."""
    attempt: str
    """One line to type."""

    def as_json(self) -> dict[str, object]:
        record = asdict(self)
        record["try"] = record.pop("attempt")
        return record
