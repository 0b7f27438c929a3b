"""What strangers can cause, bounded: lines in the log, and connections that stay open."""

from __future__ import annotations

import asyncio
import time

MAX_CONNECTIONS = 100  # of each service
MAX_LINES = 20  # a second


class Log:
    """One line an event on standard output; beyond MAX_LINES a second they are only counted."""

    def __init__(self) -> None:
        self.second, self.lines, self.left_out = 0, 0, 0

    def __call__(self, line: str) -> None:
        if (now := int(time.monotonic())) != self.second:
            if self.left_out:
                print(f"({self.left_out} lines left out)", flush=True)
            self.second, self.lines, self.left_out = now, 0, 0
        if self.lines < MAX_LINES:
            self.lines += 1
            print(line, flush=True)
        else:
            self.left_out += 1


class Places:
    """Room for MAX_CONNECTIONS; who comes to a full house takes the place of the one who has sat there longest."""

    def __init__(self) -> None:
        self.taken: dict[asyncio.Transport, None] = {}  # in order of arrival

    def enter(self, transport: asyncio.Transport) -> None:
        if len(self.taken) >= MAX_CONNECTIONS:
            oldest = next(iter(self.taken))
            self.leave(oldest)
            oldest.abort()
        self.taken[transport] = None

    def leave(self, transport: asyncio.Transport) -> None:
        self.taken.pop(transport, None)


log = Log()
