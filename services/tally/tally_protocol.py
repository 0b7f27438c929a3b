"""The protocol that both tally servers speak, and what it takes to speak it safely over UDP.

One datagram is one line of text; one answer is one line.

    request          answer                      meaning
    hello            +port 4446                  you are known; send the rest to that port
    any other text   +3 lines, 17 words          counted: so many in all since your hello
    an empty line    +3 lines, 17 words          not counted: tells whether the last line arrived
    bye              +bye, 3 lines, 17 words     forgotten
    + or - first     none                        not counted: it looks like an answer; a space before it makes it text
                     -unknown, say hello first   never known, or forgotten meanwhile
                     -full, 1000 lines, say hello again
                     -busy, 8 clients, try later

Every answer begins with + or -, and what begins so is never answered: like the QR bit of DNS, this keeps two servers
from answering each other for ever when somebody spoofs one datagram. A partner whose answers begin otherwise is
answered for some time. But a session holds 1000 lines and answers 1000 questions (empty lines, repeated hellos), and
one client is refused 20 times in a row at most, so that ends, too, be the partner quick or slow.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import NoReturn

PORT = 4446
LARGEST = 65_535  # more than a UDP datagram over IPv4 can hold
PERMANENT, TEMPORARY = 100, 111  # exit codes: no retry helps, a retry may help
CHECK_SOURCE = "127.0.0.99"  # the health check speaks from here: served as any client, but not logged
UNKNOWN = "-unknown, say hello first"
QUESTIONS = (b"", b"hello")  # what changes no count
REFUSALS_IN_A_ROW = 20
REFUSED_KEPT = 1024  # clients
IP_PKTINFO = 8  # linux/in.h; Python has no name for it before 3.14

Client = tuple[str, int]


class Session:
    """What a server remembers of one client."""

    __slots__ = ("last_heard", "lines", "most_lines", "port", "questions", "words")

    def __init__(self, port: int, most_lines: int) -> None:
        self.port = port
        self.most_lines = most_lines
        self.lines = 0
        self.words = 0
        self.questions = 0
        self.last_heard = time.monotonic()

    def __str__(self) -> str:
        return f"{plural(self.lines, 'line')}, {plural(self.words, 'word')}"

    def hear(self, text: bytes) -> tuple[str | None, bool]:
        """Takes one request in; returns the answer, if there is one, and whether the session is over with it."""
        self.last_heard = time.monotonic()
        if text in QUESTIONS:
            self.questions += 1
            if self.questions > self.most_lines:  # no client asks so much; what answers us like this may go on for ever
                return None, False
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

    `asked` is the address that the request was sent to: the answer leaves from it, be it the kernel's choice or not.
    A host has several, and a client may hear only the one that it asked (RFC 1123, 2.3).

    Any source address may be spoofed: a broadcast address, one without a route, a neighbour that is not there. What
    is sent to the last waits in our send buffer until ARP gives up; a send that waited would stall everybody else.
    """

    def __init__(self, sock: socket.socket, log: Log) -> None:
        self.sock = sock
        self.log = log
        self.refusals = Rate(20)
        self.refused: OrderedDict[Client, int] = OrderedDict()  # how often in a row, the one refused last at the end

    def answer(self, client: Client, text: str, asked: str) -> None:
        self.refused.pop(client, None)
        self.send(client, text, asked)

    def refuse(self, client: Client, text: str, asked: str) -> None:
        """An answer that needs no session, so that anybody can ask for it: at most 20 a second, 20 in a row to one.

        The rate alone would let a partner go on for ever that takes its time to answer the refusal.
        """
        in_a_row = self.refused.get(client, 0)
        if in_a_row == REFUSALS_IN_A_ROW or not self.refusals.take():
            return
        self.refused[client] = in_a_row + 1
        self.refused.move_to_end(client)
        if len(self.refused) > REFUSED_KEPT:
            self.refused.popitem(last=False)
        self.send(client, text, asked)

    def send(self, client: Client, text: str, asked: str) -> None:
        source = bytes(4) + socket.inet_aton(asked) + bytes(4)  # struct in_pktinfo, by whichever interface
        try:
            self.sock.sendmsg(
                [text.encode() + b"\n"], [(socket.IPPROTO_IP, IP_PKTINFO, source)], socket.MSG_DONTWAIT, client
            )
        except OSError as error:
            self.log(client, f"cannot be answered: {error.strerror}")


class Options(argparse.ArgumentParser):
    """What both servers can be told; wrong usage exits with 100."""

    def __init__(self, about: str | None, *, clients: int, idle: float) -> None:
        super().__init__(description=(about or "").partition("\n")[0])
        self.add_argument("--port", type=int, default=PORT, help="UDP port; 0 takes any free one (%(default)s)")
        self.add_argument("--clients", type=int, default=clients, help="how many to remember (%(default)s)")
        self.add_argument("--idle", type=float, default=idle, help="seconds until a silent one goes (%(default)s)")
        self.add_argument("--lines", type=int, default=1000, help="lines that a session holds (%(default)s)")
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
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    try:
        sock.bind(("", port))
    except OSError as error:
        die(TEMPORARY, f"cannot bind UDP port {port}: {error.strerror}; end what holds it, or take another --port")
    return sock


def receive(sock: socket.socket) -> tuple[bytes, Client, str]:
    """A datagram, its sender, and the address of this host that it was sent to (of a broadcast: where it came in)."""
    data, [(_, _, info)], _, client = sock.recvmsg(LARGEST, socket.CMSG_SPACE(12))
    return data, client, socket.inet_ntoa(info[4:8])


def text_of(data: bytes) -> bytes:
    """The line in a datagram, without the end that a program gives it: a newline, or the NUL of a C string."""
    return data.removesuffix(b"\0").strip()


def signal_socket(numbers: Iterable[int]) -> socket.socket:
    """These signals become bytes on a socket, which select can wait for together with datagrams.

    A handler of Python's is not enough: for a signal just before the wait begins it would run only after the wait.
    """
    signals, handler = socket.socketpair()
    handler.setblocking(False)
    signal.set_wakeup_fd(handler.detach(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return signals


def die(code: int, message: str) -> NoReturn:
    print(f"{sys.argv[0].rpartition('/')[2]}: {message}", file=sys.stderr)
    raise SystemExit(code)
