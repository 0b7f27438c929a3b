#!/usr/bin/env python3
"""Counts lines and words for each client: one process, one port, a table keyed by (address, port).

The table is kept in order of use, the longest silent first. So both bounds look at its front alone: clients that have
been silent for --idle seconds expire, and when a new one would be one too many, the first goes.
"""

from __future__ import annotations

import select
import signal
import sys
import time
from collections import OrderedDict

from tally_client import check
from tally_protocol import (
    UNKNOWN,
    Answerer,
    Client,
    Log,
    Options,
    Session,
    listen,
    may_answer,
    receive,
    signal_socket,
    text_of,
)


class Table(OrderedDict[Client, Session]):
    """The sessions, the one heard longest ago first."""

    def find(self, client: Client) -> Session | None:
        """The client's session, which is thereby the one used last."""
        if client in self:
            self.move_to_end(client)
        return self.get(client)

    def oldest(self) -> tuple[Client, Session]:
        return next(iter(self.items()))

    def next_expiry(self, idle: float) -> float | None:
        """Seconds until the oldest session expires; None when there is none."""
        return max(0.0, self.oldest()[1].last_heard + idle - time.monotonic()) if self else None

    def expire(self, idle: float, log: Log) -> None:
        while self.next_expiry(idle) == 0:
            client, session = self.popitem(last=False)
            log(client, f"expired after {idle:g} s of silence: {session}")

    def add(self, client: Client, session: Session, most: int, log: Log) -> Session:
        if len(self) == most:
            oldest, lost = self.popitem(last=False)
            log(oldest, f"evicted, the table is full: {lost}")
        self[client] = session
        log(client, f"new, {len(self)} of {most}")
        return session


def main() -> int:
    options = Options(__doc__, clients=1024, idle=120).parse()
    if options.check:
        return check(options.port)
    signals = signal_socket((signal.SIGTERM, signal.SIGINT))
    sock = listen(options.port)
    port = sock.getsockname()[1]
    log = Log()
    answerer = Answerer(sock, log)
    table = Table()
    print(f"ready on UDP port {port}, for {options.clients} clients", flush=True)

    while True:
        ready, _, _ = select.select([sock, signals], [], [], table.next_expiry(options.idle))
        if signals in ready:
            return 0
        table.expire(options.idle, log)
        if sock not in ready:
            continue
        data, client, asked = receive(sock)
        if not may_answer(data, client, port):
            continue

        text = text_of(data)
        session = table.find(client)
        if session is None and text == b"hello":
            session = table.add(client, Session(port, options.lines), options.clients, log)
        if session is None:
            answerer.refuse(client, UNKNOWN, asked)
            continue
        answer, over = session.hear(text)
        if answer:
            answerer.answer(client, answer, asked)
        if over:
            del table[client]
            log(client, f"gone: {session}")


if __name__ == "__main__":
    sys.exit(main())
