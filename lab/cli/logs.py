"""`lab logs`."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Iterator

import click

from lab.cli.arguments import HostName
from lab.cli.context import open_lab
from lab.engine.base import Stream
from lab.errors import LabError

Arrival = tuple[str, bytes | LabError | None]
"""A host's name, and a line of its log, why no more of it can be had, or None at its end."""


@click.command("logs", short_help="Show what hosts' programs wrote.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what they write from now on, until Ctrl-C.")
@click.option("-n", "--tail", type=click.IntRange(min=0), help="Only so many last lines of each.")
@click.argument("hosts", metavar="HOST…", nargs=-1, required=True, type=HostName())
def command(follow: bool, tail: int | None, hosts: tuple[str, ...]) -> None:
    """Show what the main programs of hosts wrote. With several hosts, each line starts with the host's name."""
    with open_lab() as lab, contextlib.ExitStack() as opened:
        found = [(name, lab.container_of(name)) for name in hosts]
        width = max(map(len, hosts)) if len(hosts) > 1 else 0
        streams = []
        for name, container in found:
            stream = lab.engine.logs(container.id, follow=follow, tail=tail)
            opened.callback(stream.close)
            streams.append((name, stream))
        if not follow:
            for name, stream in streams:
                for line in _lines(stream):
                    _print(name, line, width)
            return
        arrived: queue.Queue[Arrival] = queue.Queue()
        for name, stream in streams:
            threading.Thread(target=_forward, args=(name, stream, arrived), daemon=True).start()
        going = len(streams)
        while going:
            name, arrival = arrived.get()
            if isinstance(arrival, LabError):
                raise arrival
            if arrival is None:
                going -= 1
            else:
                _print(name, arrival, width)


def _forward(name: str, stream: Stream[bytes], arrived: queue.Queue[Arrival]) -> None:
    try:
        for line in _lines(stream):
            arrived.put((name, line))
        arrived.put((name, None))
    except LabError as error:
        arrived.put((name, error))


def _lines(stream: Stream[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _print(name: str, line: bytes, width: int) -> None:
    prefix = f"{name:<{width}} | ".encode() if width else b""
    sys.stdout.buffer.write(prefix + line + b"\n")
    sys.stdout.buffer.flush()
