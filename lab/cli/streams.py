"""The three standard streams, whatever the caller has done to them."""

from __future__ import annotations

import codecs
import io
import os
import sys

PLAIN = {
    "…": "...",
    "→": "->",
    "✓": "ok",
    "–": "-",
    "•": "*",
    "─": "-",
    "│": "|",
    "├": "+",
    "└": "+",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
"""What the lab's own texts hold beyond ASCII, for a reader whose character set has no such thing."""


def open_closed_streams() -> None:
    """Have each standard stream, which is None where the caller has closed it; other files must not get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, so its own
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def write_in_any_character_set() -> None:
    """Have the outputs take every text: what their character set lacks, they write as ASCII has it."""
    codecs.register(_plain_ascii)
    codecs.register_error("plain", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="plain_ascii" if ascii_only else None, errors="plain")


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name; click takes that one for a mistake of the caller's, and writes UTF-8."""
    if name != "plain_ascii":
        return None
    found = codecs.lookup("ascii")
    return codecs.CodecInfo(
        found.encode,
        found.decode,
        incrementalencoder=found.incrementalencoder,
        incrementaldecoder=found.incrementaldecoder,
        name=name,
    )


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\N{BRAILLE PATTERN BLANK}" <= character <= "\N{BRAILLE PATTERN DOTS-12345678}":  # a spinner
        return r"-\|/"[ord(character) % 4], error.start + 1
    if character in PLAIN:
        return PLAIN[character], error.start + 1
    return codecs.backslashreplace_errors(UnicodeEncodeError("", error.object, error.start, error.start + 1, ""))


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
