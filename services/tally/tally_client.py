#!/usr/bin/env python3
"""Sends each line typed to a tally server and prints what it has counted: tally_client.py HOST [PORT].

Written once for both servers: it says hello, and goes on with the port that the answer names. Datagrams get lost,
answers too, so it repeats what stays unanswered; but before it repeats a line it asks, with an empty one, whether the
first copy arrived, for a line that came twice would be counted twice. An answer may also be late: one to a request
from before the line does not tell that the line was lost.

Exit codes: 0, all lines are counted; 100, wrong usage, or a line that cannot be counted; 111, no answer or a refusal;
130, Ctrl-C.
"""

from __future__ import annotations

import re
import socket
import sys
from contextlib import suppress

from tally_protocol import CHECK_SOURCE, LARGEST, PERMANENT, PORT, TEMPORARY, die, plural

TRIES = 3


class RefusedError(Exception):
    """The server said no: it does not know us (any longer), or is full, or has too many clients."""


class Tally:
    """One client's session. Silence raises TimeoutError, a port where nobody is ConnectionRefusedError."""

    def __init__(self, host: str, port: int = PORT, *, source: tuple[str, int] = ("", 0), patience: float = 1) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(source)
        self.sock.settimeout(patience)
        self.sock.connect((host, port))
        self.lines = 0
        self.late = 0  # questions whose answers may still come; these know nothing of the next line
        self.port = int(self.ask(b"hello", r"\+port (\d+)")[0])
        self.sock.connect((host, self.port))  # the hand-over: from here on only that port is heard

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, line: str) -> tuple[int, int]:
        """Has one line counted, once; returns how many lines and words that makes. An empty one leaves the count."""
        text = line.encode(errors="surrogateescape")
        word = text.strip()
        if word in (b"hello", b"bye"):
            raise ValueError(f"a lone {word.decode()!r} is a request, so never counted; add a word, or end with Ctrl-D")
        if text[:1] in (b"+", b"-"):
            text = b" " + text  # else the server would take it for an answer
        for _ in range(TRIES):
            if counts := self.count(text):
                return counts
        raise TimeoutError(f"no answer: the line was lost {TRIES} times")

    def count(self, text: bytes) -> tuple[int, int] | None:
        """Sends one copy of a line; returns the counts with it, or None when it was lost for certain.

        Answers come in order: one that does not count the line is late, from before it, or else the line is lost.
        """
        self.send(text)
        asked = 0
        while True:
            try:
                lines, words = map(int, self.hear(r"\+(\d+) lines?, (\d+) words?"))
            except TimeoutError:
                if asked == TRIES:
                    raise TimeoutError(f"no answer to the line after {1 + asked} tries") from None
                asked += 1
                self.send(b"")
                continue
            if lines > self.lines:
                self.lines, self.late = lines, asked
                return lines, words
            if not text.strip():
                self.late += asked
                return lines, words
            if self.late:
                self.late -= 1
            elif asked:
                self.late = asked - 1
                return None

    def bye(self) -> None:
        self.ask(b"bye", r"\+bye")

    def ask(self, request: bytes, expected: str) -> tuple[str, ...]:
        for _ in range(TRIES):
            self.send(request)
            with suppress(TimeoutError):
                return self.hear(expected)
        raise TimeoutError(f"no answer after {TRIES} tries")

    def send(self, request: bytes) -> None:
        self.sock.send(request + b"\n")

    def hear(self, expected: str) -> tuple[str, ...]:
        """What the next answer of the expected form tells; others are late ones and passed over, unless they refuse."""
        while True:
            answer = self.sock.recv(LARGEST).decode(errors="backslashreplace").strip()
            if found := re.match(expected, answer):
                return found.groups()
            if not answer.startswith("+"):
                raise RefusedError(answer)


def check(port: int) -> int:
    """A whole session with the server on this host. One that has no room left, and says so, is well."""
    try:
        with Tally("127.0.0.1", port, source=(CHECK_SOURCE, 0), patience=0.5) as tally:
            counted = tally.say("one two")
            tally.bye()
    except (RefusedError, OSError, OverflowError) as error:
        if str(error).startswith("-busy"):
            return 0
        die(TEMPORARY, f"check of 127.0.0.1:{port}: {error}; expected a session that counts one line, two words")
    if counted != (1, 2):
        die(TEMPORARY, f"check of 127.0.0.1:{port}: one line of two words was counted as {counted}")
    return 0


def main() -> int:
    match sys.argv[1:]:
        case [host]:
            port = PORT
        case [host, digits] if digits.isdecimal() and 0 < int(digits) < 65_536:
            port = int(digits)
        case _:
            die(PERMANENT, f"usage: HOST [PORT]; the port is {PORT} unless given")
    try:
        with Tally(host, port) as tally:
            print(f"{host} wants us on port {tally.port}", flush=True)
            for line in sys.stdin.buffer:  # bytes: a line need not be text in any encoding
                lines, words = tally.say(line.decode(errors="surrogateescape"))
                print(f"{plural(lines, 'line')}, {plural(words, 'word')}", flush=True)
            tally.bye()
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        die(PERMANENT, str(error))
    except (RefusedError, OSError, OverflowError) as error:
        die(TEMPORARY, f"{host}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
