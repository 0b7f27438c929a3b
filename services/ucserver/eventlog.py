"""One line an event on standard output, at once, and never more lines a second than a reader can bear."""

from __future__ import annotations

import contextlib
import os
import threading

BOUND = 20
"""Lines a second that strangers may cause."""


class EventLog:
    def __init__(self, output: int = 1) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._left = BOUND
        self._unwritten = 0

    def event(self, line: str) -> None:
        """Log what the server itself did. A log that nobody takes (a closed pipe) is no reason to end."""
        with contextlib.suppress(OSError):
            os.write(self._output, line.encode() + b"\n")

    def stranger(self, line: str, *values: object) -> None:
        """Log what somebody outside caused, as long as this second's bound allows: `line.format(*values)`."""
        with self._lock:
            self._left -= 1
            if self._left < 0:
                self._unwritten += 1
                return
        self.event(line.format(*values))

    def report(self) -> None:
        """Begin a new second, and say how many lines the last one went without."""
        with self._lock:
            unwritten, self._unwritten, self._left = self._unwritten, 0, BOUND
        if unwritten:
            self.event(f"log: {unwritten} more lines in that second")
