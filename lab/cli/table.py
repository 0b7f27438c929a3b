"""The table of hosts, for `lab up` and `lab status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.hosts.status import HostStatus

COLOURS = {"healthy": "green", "running": "green", "starting": "yellow", "paused": "yellow", "down": "dim"}


class Output(Console):
    def on_broken_pipe(self) -> None:
        raise  # `lab | head` is told apart in one place, for all commands


def print_hosts(hosts: Sequence[HostStatus], memory: Mapping[str, int | None] | None = None) -> None:
    """One row a host; with `memory` (bytes by host, None where unknown) a column for it.

    Without a terminal, rows are never cut.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("host", "role", "address", "state"):
        table.add_column(heading, no_wrap=True)
    if memory is not None:
        table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("try", overflow="fold")
    for host in hosts:
        row = [Text(word) for word in (host.name, host.role, _addresses(host.addresses))]
        row.append(Text(host.state, COLOURS.get(host.state, "red")))
        if memory is not None:
            used = memory.get(host.name)
            row.append(Text("" if used is None else f"{used / 2**20:.1f} MiB"))
        table.add_row(*row, Text(host.attempt))
    console = Output(highlight=False)
    if not console.is_terminal:
        console = Output(highlight=False, width=200)
    console.print(table)


def _addresses(addresses: Mapping[str, str]) -> str:
    if len(addresses) > 1:
        return f"{len(addresses)} networks"
    return next(iter(addresses.values()), "")
