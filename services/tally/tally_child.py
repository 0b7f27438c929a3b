#!/usr/bin/env python3
"""Counts lines and words for each client: a child process with a UDP port of its own for each, as in TFTP.

The parent owns the well-known port and only ever says where to go. A child's socket is connected to its client, so
the kernel hands it nothing that strangers send. At most --clients children live at once; one more client is refused,
because an honest session is worth more than a stranger's. A child ends after --idle seconds of silence, but after
--first seconds if its client has never spoken to it: whoever spoofs a source never sees the answer, so never learns
the port, and what a flood takes is free again soon.
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
from typing import NamedTuple, NoReturn

from tally_client import check
from tally_protocol import LARGEST, UNKNOWN, Answerer, Client, Log, Options, Session, listen, may_answer, plural

# What the parent handles itself, in turn with datagrams; in a child they mean what they mean to any process.
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


class Child(NamedTuple):
    pid: int
    port: int


class Nursery:
    """The children, at most so many."""

    def __init__(self, listener: socket.socket, options: Namespace, log: Log) -> None:
        self.children: dict[Client, Child] = {}
        self.listener = listener
        self.options = options
        self.log = log
        # Nobody ever writes to this pipe. Children see its end of file when the parent is gone, however it went.
        self.lifeline, self.held_by_parent = os.pipe()

    def port_for(self, client: Client) -> int | None:
        """The port of the client's child, made now if there is none yet; None when there are too many."""
        if child := self.children.get(client):
            return child.port  # a hello that was repeated, because the answer was lost
        if len(self.children) >= self.options.clients:
            self.log(client, f"refused, {len(self.children)} children live")
            return None
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(client)  # gives the socket a free port and its only peer in one step
                child = Child(self.fork(sock, client), sock.getsockname()[1])
        except OSError as error:  # a broadcast address, no route; or no process, no descriptor left
            self.log(client, f"refused, no child for it: {error.strerror}")
            return None
        self.children[client] = child
        self.log(client, f"new, child {child.pid} on port {child.port}, {len(self.children)} of {self.options.clients}")
        return child.port

    def fork(self, sock: socket.socket, client: Client) -> int:
        # Signals wait meanwhile: a child that still had its parent's handlers would report its own as the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if (pid := os.fork()) == 0:
                self.live(sock, client)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def live(self, sock: socket.socket, client: Client) -> NoReturn:
        """The child's whole life."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self.held_by_parent)
            self.listener.close()
            serve(sock, client, self.lifeline, self.options, self.log)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)  # never back into the parent's loop

    def reap(self) -> None:
        for client, child in list(self.children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self.children[client]
                if status:
                    how = os.waitstatus_to_exitcode(status)
                    self.log(client, f"child {pid} died ({how}) and its count with it")

    def end(self) -> None:
        for child in self.children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in self.children.values():
            os.waitpid(child.pid, 0)


def serve(sock: socket.socket, client: Client, lifeline: int, options: Namespace, log: Log) -> None:
    """One client's session, until it is over, silent for too long, or the parent gone."""
    session = Session(sock.getsockname()[1], options.lines)
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
            answer, over = session.hear(data.strip())
            answerer.answer(client, answer)
            patience = options.idle
    log(client, f"gone: {session}")


def main() -> int:
    parser = Options(__doc__, clients=8, idle=120)
    parser.add_argument("--first", type=float, default=30, help="seconds for a new one to use its port (%(default)s)")
    options = parser.parse()
    parser.demand_sane("first", options.first)
    if options.check:
        return check(options.port)

    # Signals become bytes on a socket, which select can wait for together with datagrams.
    signals, handler = socket.socketpair()
    handler.setblocking(False)
    signal.set_wakeup_fd(handler.fileno(), warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)

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
            data, client = listener.recvfrom(LARGEST)
            if not may_answer(data, client, options.port):
                continue
            if data.strip() != b"hello":
                answerer.refuse(client, UNKNOWN)
            elif port := nursery.port_for(client):
                answerer.answer(client, f"+port {port}")
            else:
                answerer.refuse(client, f"-busy, {plural(len(nursery.children), 'client')}, try later")
    finally:
        nursery.end()


if __name__ == "__main__":
    sys.exit(main())
