"""How work in progress is told: steps that matter, details that pass by."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Progress(Protocol):
    def step(self, text: str) -> None:
        """A new step begins, and the one before it is done."""

    def detail(self, text: str) -> None:
        """What the step is at just now."""

    def close(self) -> None: ...


class Silent:
    """For callers that only want the outcome."""

    def step(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def close(self) -> None: ...


class Lines:
    """One plain line a step, for logs and pipes."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def step(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def detail(self, text: str) -> None: ...

    def close(self) -> None: ...


class Spinner:
    """For a terminal: the current step turns, with its detail beside it; finished steps stay with their time."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.text import Text

        self._text = Text.assemble  # square brackets and colons in what is told are no markup
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._current = ""
        self._since = time.monotonic()

    def step(self, text: str) -> None:
        self._finish()
        self._current, self._since = text, time.monotonic()
        self._status.update(self._text(text))
        self._status.start()

    def detail(self, text: str) -> None:
        room = max(10, self._console.width - len(self._current) - 8)
        self._status.update(self._text(f"{self._current} ", (text[:room], "dim")))

    def close(self) -> None:
        self._finish()
        self._status.stop()

    def _finish(self) -> None:
        if self._current:
            took = f"{time.monotonic() - self._since:.1f} s"
            self._console.print(self._text(("✓", "green"), f" {self._current} ", (took, "dim")))
        self._current = ""


def for_standard_error() -> Progress:
    """A spinner on a terminal, plain lines elsewhere."""
    return Spinner() if sys.stderr.isatty() else Lines()
