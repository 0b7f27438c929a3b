"""The three standard streams, whatever the caller has done to them."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Have each standard stream, which is None where the caller has closed it; other files must not get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, so its own
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def let_full_streams_go() -> list[str]:
    """Names of the outputs that take no more; what they hold is lost, and the interpreter's end shall not stumble."""
    full = []
    for name, stream in (("standard output", sys.stdout), ("standard error", sys.stderr)):
        try:
            stream.flush()
        except OSError:
            full.append(name)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return full
