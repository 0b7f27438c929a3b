#!/usr/bin/python3 -SE
"""Answer every datagram, and every TCP stream, with the same bytes in upper case (ASCII letters only).

The main thread serves UDP (datagrams.py), a second one TCP (connections.py), a third tells the log once a second
what the first has done. A thread that waits costs the others nothing, so datagrams are as quick as in a program
that does nothing else. Exit codes: 0 ended by a signal, 100 wrong usage, 111 the port is in use or the like.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from connections import Connections
from datagrams import IP_PKTINFO, Datagrams, keep_room_to_send, refuse_broadcasts
from eventlog import EventLog

PERMANENT, TEMPORARY = 100, 111


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(PERMANENT, f"ucserver: {message}; {self.format_usage()}")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(word: str) -> int:
        if not (word.isdecimal() and least <= int(word) <= most):
            raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from {least} to {most}")
        return int(word)

    return parse


def words() -> argparse.Namespace:
    parser = Words(prog="ucserver", description="Answer over UDP and TCP in upper case.")
    parser.add_argument("--address", default="0.0.0.0", help="IPv4 address to serve at (default: all of the host)")
    parser.add_argument("--port", type=whole_number(0, 65535), default=4444, help="0 lets the kernel choose")
    parser.add_argument("--max-clients", type=whole_number(1, 10_000), default=128, help="TCP clients at once")
    parser.add_argument("--idle-limit", type=whole_number(1, 86_400), default=300, help="seconds, for TCP clients")
    return parser.parse_args()


def open_sockets(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP socket and a TCP listener on the same port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
    # Fixed buffers, which accepted connections inherit: left to itself the kernel grows them to megabytes each.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    listener.bind((address, port))
    listener.listen(128)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    keep_room_to_send(datagrams)
    refuse_broadcasts(datagrams)  # before bind: none may slip in
    datagrams.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    datagrams.bind(listener.getsockname())
    return datagrams, listener


def without_end(serve: Callable[[], None]) -> None:
    """Run what the program cannot be without: should it end, in whichever thread, all of it does."""
    try:
        serve()
    except BaseException:
        traceback.print_exc()
    os._exit(TEMPORARY)


def main() -> int:
    chosen = words()
    try:
        datagram_socket, listener = open_sockets(chosen.address, chosen.port)
    except OSError as error:
        print(
            f"ucserver: cannot serve at {chosen.address}:{chosen.port}: {error.strerror}; end what holds it, "
            "or choose another with --address and --port",
            file=sys.stderr,
        )
        return PERMANENT if isinstance(error, (PermissionError, socket.gaierror)) else TEMPORARY
    log = EventLog()

    def leave(signum: int, _frame: object) -> None:
        log.event(f"ended by {signal.Signals(signum).name}")
        os._exit(0)  # at once, whatever the other threads are at

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    datagrams = Datagrams(datagram_socket, log)
    connections = Connections(listener, log, most=chosen.max_clients, idle_limit=chosen.idle_limit)

    def report() -> None:
        second = threading.Event()  # never set
        while not second.wait(1.0):
            log.report()
            datagrams.report()  # last: once its sum can be read, the second's lines are complete

    log.event("ready: UDP and TCP at {}:{}".format(*listener.getsockname()))
    for serve in (connections.serve, report):
        threading.Thread(target=without_end, args=(serve,), daemon=True).start()
    without_end(datagrams.serve)
    return TEMPORARY


if __name__ == "__main__":
    sys.exit(main())
