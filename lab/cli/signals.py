"""What ends a command from outside: Ctrl-C, a polite end (SIGTERM), a terminal that is gone (SIGHUP)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A signal has come; raised in the middle of whatever is done, which then cleans up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def handle(handler: Handler) -> None:
    """Have `handler` called for each ENDING signal, but for those that the caller has it ignore, as nohup(1) does."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def end_by_signal() -> None:
    """Have the first signal raise Ended, and a second one end the process for certain."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            if signal.getsignal(each) == end:
                signal.signal(each, signal.SIG_DFL)
        raise Ended(number)

    handle(end)
