#!/usr/bin/python3 -ES
"""Compares socketpairs and the pipe, by trying: socketpairs [--json]

read() and write() treat all four alike, so what differs below is theirs, not the program's.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

Ends = tuple[int, int]  # what is written to the second can be read from the first


@dataclass(frozen=True)
class Findings:
    """What one kind of pair did."""

    kind: str
    both_ways: bool
    keeps_boundaries: bool
    short_read_loses: bool
    tells_end_of_file: bool
    seen: dict[str, str]


def pair_of(kind: socket.SocketKind) -> Callable[[], Ends]:
    def make() -> Ends:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        return ours.detach(), theirs.detach()

    return make


KINDS: dict[str, Callable[[], Ends]] = {
    "stream": pair_of(socket.SOCK_STREAM),
    "datagram": pair_of(socket.SOCK_DGRAM),
    "seqpacket": pair_of(socket.SOCK_SEQPACKET),
    "pipe": os.pipe,
}


def name_of(error: OSError) -> str:
    number = error.errno or 0
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode[number]  # Linux has two names for that one


def read(end: int, size: int = 100) -> str:
    """What is there to read now: the bytes, or the name of the error."""
    os.set_blocking(end, False)
    try:
        return os.read(end, size).decode() or "end of file"
    except OSError as error:
        return name_of(error)


def write(end: int, data: bytes) -> str:
    """`sent`, or the name of the error."""
    try:
        return "sent" if os.write(end, data) == len(data) else "sent in part"
    except OSError as error:
        return name_of(error)


def examine(kind: str) -> Findings:
    """Tries each property on a new pair of that kind."""
    here, there = KINDS[kind]()
    forth = write(there, b"forth"), read(here)
    back = write(here, b"back"), read(there)
    os.close(here)
    os.close(there)

    here, there = KINDS[kind]()
    write(there, b"one")
    write(there, b"two")
    first = read(here)
    second = read(here)
    write(there, b"0123456789")
    head, rest = read(here, 4), read(here)
    os.close(there)
    after_close = read(here)
    os.close(here)
    return Findings(
        kind,
        both_ways=(forth, back) == (("sent", "forth"), ("sent", "back")),
        keeps_boundaries=(first, second) == ("one", "two"),
        short_read_loses=head == "0123" and rest != "456789",
        tells_end_of_file=after_close == "end of file",
        seen={
            "the other way": back[0],
            "after one, two": f"{first}, {second}",
            "a read of 4 of 10, then the next": f"{head}, {rest}",
            "other end closed": after_close,
        },
    )


def inet_pair() -> str:
    """What the kernel says to a socketpair of the internet domain."""
    try:
        for end in socket.socketpair(socket.AF_INET, socket.SOCK_STREAM):
            end.close()
    except OSError as error:
        return name_of(error)
    return "made"


def table(findings: list[Findings]) -> str:
    heads = list(findings[0].seen)
    rows = [["", *heads], *([one.kind, *(one.seen[head] for head in heads)] for one in findings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main() -> int:
    if sys.argv[1:] not in ([], ["--json"]):
        print("usage: socketpairs [--json]", file=sys.stderr)
        return 100
    findings = [examine(kind) for kind in KINDS]
    if sys.argv[1:]:
        print(json.dumps({"pairs": [asdict(one) for one in findings], "internet domain": inet_pair()}))
    else:
        print(table(findings))
        print(f"\nEAGAIN: nothing there, a blocking read would wait. AF_INET socketpair: {inet_pair()}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
