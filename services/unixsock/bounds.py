"""What clients can cause, bounded: lines in the log, and connections that stay open."""

from __future__ import annotations

import socket
import threading
import time

CLIENTS = 10  # at once for each listening socket
GRACE = 0.1  # seconds that each may take to say what he came for, so that a crowd is served in turn
LINES = 50  # a second in the log


class Log:
    """One line an event, at most LINES a second; what was left out is counted."""

    def __init__(self) -> None:
        self.second, self.lines, self.lock = 0, 0, threading.Lock()

    def __call__(self, line: str) -> None:
        with self.lock:
            if (now := int(time.monotonic())) != self.second:
                if self.lines > LINES:
                    print(f"({self.lines - LINES} lines left out)", flush=True)
                self.second, self.lines = now, 0
            self.lines += 1
            if self.lines <= LINES:
                print(line, flush=True)


class Places:
    """Room for CLIENTS; who comes to a full house takes the place of the one that has been silent longest."""

    def __init__(self) -> None:
        self.heard: dict[socket.socket, float] = {}  # when last
        self.left = threading.Condition()

    def enter(self, newcomer: socket.socket) -> None:
        """Waits for somebody to leave; at most until the one silent longest has had GRACE."""
        with self.left:
            if len(self.heard) >= CLIENTS:
                patience = min(self.heard.values()) + GRACE - time.monotonic()
                if not self.left.wait_for(lambda: len(self.heard) < CLIENTS, patience):
                    silent = min(self.heard, key=self.heard.__getitem__)
                    del self.heard[silent]
                    silent.shutdown(socket.SHUT_RDWR)  # wakes its thread, which then ends
            self.heard[newcomer] = time.monotonic()

    def hear(self, client: socket.socket) -> None:
        with self.left:
            if client in self.heard:
                self.heard[client] = time.monotonic()

    def leave(self, client: socket.socket) -> bool:
        """To be called before it is closed. False, if its place was taken."""
        with self.left:
            self.left.notify()
            return self.heard.pop(client, None) is not None


log = Log()
