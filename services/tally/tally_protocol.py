"""The protocol that both tally servers speak, and what it takes to speak it safely over UDP.

One datagram is one line of text; one answer is one line.

    request          answer                      meaning
    hello            +port 4446                  you are known; send the rest to that port
    any other text   +3 lines, 17 words          counted: so many in all since your hello
    an empty line    +3 lines, 17 words          not counted: tells whether the last line arrived
    bye              +bye, 3 lines, 17 words     forgotten
                     -unknown, say hello first   never known, or forgotten meanwhile
                     -full, 1000 lines, say hello again
                     -busy, 8 clients, try later

Every answer begins with + or -, and what begins so is never answered: like the QR bit of DNS, this keeps two servers
from answering each other for ever when somebody spoofs one datagram.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from typing import NoReturn

PORT = 4446
LARGEST = 65_535  # more than a UDP datagram over IPv4 can hold
PERMANENT, TEMPORARY = 100, 111  # exit codes: no retry helps, a retry may help
CHECK_SOURCE = "127.0.0.99"  # the health check speaks from here: served as any client, but not logged
UNKNOWN = "-unknown, say hello first"

Client = tuple[str, int]


class Session:
    """What a server remembers of one client."""

    __slots__ = ("last_heard", "lines", "most_lines", "port", "words")

    def __init__(self, port: int, most_lines: int) -> None:
        self.port = port
        self.most_lines = most_lines
        self.lines = 0
        self.words = 0
        self.last_heard = time.monotonic()

    def __str__(self) -> str:
        return f"{plural(self.lines, 'line')}, {plural(self.words, 'word')}"

    def hear(self, text: bytes) -> tuple[str, bool]:
        """Takes one request in; returns the answer, and whether the session is over with it."""
        self.last_heard = time.monotonic()
        if text == b"hello":  # a repeated one as well: the answer to the first may be lost
            return f"+port {self.port}", False
        if text == b"bye":
            return f"+bye, {self}", True
        if text and self.lines == self.most_lines:
            return f"-full, {self.most_lines} lines, say hello again", True
        if text:
            self.lines += 1
            self.words += len(text.split())
        return f"+{self}", False


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def may_answer(data: bytes, client: Client, own_port: int) -> bool:
    """Not a service (its port is below 1024, or ours), and not an answer: to answer those could make a loop."""
    return client[1] >= 1024 and client[1] != own_port and data[:1] not in (b"+", b"-")


class Rate:
    """At most `limit` a second: a token bucket that holds one second's worth."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tokens = float(limit)
        self.filled = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.limit, self.tokens + (now - self.filled) * self.limit)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Log:
    """One line an event, at once, but at most 20 a second: a flood of strangers must not fill the disk."""

    def __init__(self) -> None:
        self.rate = Rate(20)
        self.left_out = 0

    def __call__(self, client: Client, event: str) -> None:
        if client[0] == CHECK_SOURCE:
            return
        if not self.rate.take():
            self.left_out += 1
            return
        if self.left_out:
            event += f" ({plural(self.left_out, 'line')} before this one left out)"
            self.left_out = 0
        print(f"{client[0]}:{client[1]} {event}", flush=True)


class Answerer:
    """Sends from one socket; what goes wrong on the way out is logged and survived, and nothing waits.

    Any source address may be spoofed: a broadcast address, one without a route, a neighbour that is not there. What
    is sent to the last waits in our send buffer until ARP gives up; a send that waited would stall everybody else.
    """

    def __init__(self, sock: socket.socket, log: Log) -> None:
        self.sock = sock
        self.log = log
        self.refusals = Rate(20)

    def answer(self, client: Client, text: str) -> None:
        try:
            self.sock.sendto(text.encode() + b"\n", socket.MSG_DONTWAIT, client)
        except OSError as error:
            self.log(client, f"cannot be answered: {error.strerror}")

    def refuse(self, client: Client, text: str) -> None:
        """An answer that needs no session, so that anybody can ask for it: at most 20 a second."""
        if self.refusals.take():
            self.answer(client, text)


class Options(argparse.ArgumentParser):
    """What both servers can be told; wrong usage exits with 100."""

    def __init__(self, about: str | None, *, clients: int, idle: float) -> None:
        super().__init__(description=(about or "").partition("\n")[0])
        self.add_argument("--port", type=int, default=PORT, help="UDP port; 0 takes any free one (%(default)s)")
        self.add_argument("--clients", type=int, default=clients, help="how many to remember (%(default)s)")
        self.add_argument("--idle", type=float, default=idle, help="seconds until a silent one goes (%(default)s)")
        self.add_argument("--lines", type=int, default=1000, help="lines until a session is full (%(default)s)")
        self.add_argument("--check", action="store_true", help="ask the server on this host; exit 0 if it is well")

    def parse(self) -> argparse.Namespace:
        options = self.parse_args()
        if not 0 <= options.port <= 65_535:
            self.error(f"--port {options.port} is not a port: expected 0 to 65535")
        for name in ("clients", "idle", "lines"):
            self.demand_sane(name, getattr(options, name))
        return options

    def demand_sane(self, name: str, value: float) -> None:
        if not 0 < value <= 1_000_000:
            self.error(f"--{name} {value:g}: expected more than 0, at most 1000000")

    def error(self, message: str) -> NoReturn:
        die(PERMANENT, f"{message}; --help lists the options")


def listen(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("", port))
    except OSError as error:
        die(TEMPORARY, f"cannot bind UDP port {port}: {error.strerror}; end what holds it, or take another --port")
    return sock


def die(code: int, message: str) -> NoReturn:
    print(f"{sys.argv[0].rpartition('/')[2]}: {message}", file=sys.stderr)
    raise SystemExit(code)
