#!/usr/bin/env python3
"""Counts lines and words for each client: a child process with a UDP port of its own for each, as in TFTP.

The parent owns the well-known port and only ever says where to go. A child's socket is connected to its client, so
the kernel hands it nothing that strangers send. At most --clients children live at once; one more client is refused,
because an honest session is worth more than a stranger's. A child ends after --idle seconds of silence, but after
--first seconds if its client has never spoken to it: whoever spoofs a source never sees the answer, so never learns
the port, and what a flood takes is free again soon.

A client that has heard its child's goodbye may say hello before the child is gone. So a child that leaves marks a byte
that it shares with the parent, and only then says goodbye: the parent sends nobody to it any more.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import traceback
from argparse import Namespace
from dataclasses import dataclass, field
from mmap import mmap
from typing import NoReturn

from tally_client import check
from tally_protocol import (
    CHECK_SOURCE,
    LARGEST,
    UNKNOWN,
    Answerer,
    Client,
    Log,
    Options,
    Session,
    listen,
    may_answer,
    plural,
    receive,
    signal_socket,
    text_of,
)

# What the parent handles itself, in turn with datagrams; in a child they mean what they mean to any process.
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python has no name for it before 3.12


@dataclass
class Child:
    """What the parent and the child itself know of it."""

    client: Client
    asked: str
    port: int
    hellos: int = 0
    leaving: mmap = field(default_factory=lambda: mmap(-1, 1))  # anonymous, so it stays shared after the fork


class Nursery:
    """The children, at most so many. One that is leaving counts until it is gone."""

    def __init__(self, listener: socket.socket, options: Namespace, log: Log) -> None:
        self.children: dict[int, Child] = {}  # by process id
        self.listener = listener
        self.options = options
        self.log = log
        # Nobody ever writes to this pipe. Children see its end of file when the parent is gone, however it went.
        self.lifeline, self.held_by_parent = os.pipe()

    def child_for(self, client: Client, asked: str) -> Child | None:
        """The client's child at this address, made now if it has none that stays; None when there are too many."""
        for child in self.children.values():
            if (child.client, child.asked) == (client, asked) and not child.leaving[0]:
                return child  # a hello that was repeated, because the answer was lost
        if self.living(client) >= (1 if client[0] == CHECK_SOURCE else self.options.clients):
            self.log(client, f"refused, {self.living(client)} children live")
            return None
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((asked, 0))  # the address only
                sock.connect(client)  # gives the socket a free port and its only peer in one step
                child = Child(client, asked, sock.getsockname()[1])
                pid = self.fork(sock, child)
        except OSError as error:  # a broadcast address, no route; or no process, no descriptor left
            self.log(client, f"refused, no child for it: {error.strerror}")
            return None
        self.children[pid] = child
        self.log(client, f"new, child {pid} on port {child.port}, {self.living(client)} of {self.options.clients}")
        return child

    def living(self, client: Client) -> int:
        """How many live for clients like this one: the health check has a place of its own, and takes nobody's."""
        is_check = client[0] == CHECK_SOURCE
        return sum((child.client[0] == CHECK_SOURCE) == is_check for child in self.children.values())

    def fork(self, sock: socket.socket, child: Child) -> int:
        # Signals wait meanwhile: a child that still had its parent's handlers would report its own as the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if (pid := os.fork()) == 0:
                self.live(sock, child)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def live(self, sock: socket.socket, child: Child) -> NoReturn:
        """The child's whole life."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self.held_by_parent)
            self.listener.close()
            serve(sock, child, self.lifeline, self.options, self.log)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            child.leaving[0] = True
            os._exit(code)  # never back into the parent's loop

    def reap(self) -> None:
        for pid, child in list(self.children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.children[pid]
                if status:
                    how = os.waitstatus_to_exitcode(status)
                    self.log(child.client, f"child {pid} died ({how}) and its count with it")

    def end(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        for pid in self.children:
            os.waitpid(pid, 0)


def serve(sock: socket.socket, child: Child, lifeline: int, options: Namespace, log: Log) -> None:
    """One client's session, until it is over, silent for too long, or the parent gone."""
    client = child.client
    session = Session(child.port, options.lines)
    answerer = Answerer(sock, log)
    patience, over = options.first, False
    while not over:
        left = session.last_heard + patience - time.monotonic()
        if left <= 0:
            log(client, f"expired after {patience:g} s of silence: {session}")
            return
        ready, _, _ = select.select([sock.fileno(), lifeline], [], [], left)
        if lifeline in ready:
            return
        if not ready:
            continue
        try:
            data = sock.recv(LARGEST)
        except OSError:  # the client's port was closed when an answer arrived; it may open again
            continue
        if may_answer(data, client, options.port):
            answer, over = session.hear(text_of(data))
            child.leaving[0] = over  # before the client can know
            if answer:
                answerer.answer(client, answer, child.asked)
            patience = options.idle
    log(client, f"gone: {session}")


def main() -> int:
    parser = Options(__doc__, clients=8, idle=120)
    parser.add_argument("--first", type=float, default=30, help="seconds for a new one to use its port (%(default)s)")
    options = parser.parse()
    parser.demand_sane("first", options.first)
    if options.check:
        return check(options.port)

    signals = signal_socket(SIGNALS)
    listener = listen(options.port)
    options.port = listener.getsockname()[1]
    log = Log()
    answerer = Answerer(listener, log)
    nursery = Nursery(listener, options, log)
    print(f"ready on UDP port {options.port}, for {options.clients} clients", flush=True)
    try:
        while True:
            ready, _, _ = select.select([listener, signals], [], [])
            if signals in ready and {signal.SIGTERM, signal.SIGINT} & set(signals.recv(LARGEST)):
                return 0
            nursery.reap()
            if listener not in ready:
                continue
            data, client, asked = receive(listener)
            if not may_answer(data, client, options.port):
                continue
            if text_of(data) != b"hello":
                answerer.refuse(client, UNKNOWN, asked)
            elif child := nursery.child_for(client, asked):
                child.hellos += 1
                if child.hellos <= options.lines:  # see Session.hear
                    answerer.answer(client, f"+port {child.port}", asked)
            else:
                answerer.refuse(client, f"-busy, {plural(nursery.living(client), 'client')}, try later", asked)
    finally:
        nursery.end()


if __name__ == "__main__":
    sys.exit(main())
