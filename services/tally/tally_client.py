#!/usr/bin/env python3
"""Sends each line typed to a tally server and prints what it has counted: tally_client.py HOST [PORT].

Written once for both servers: it says hello, and goes on with the port that the answer names. Datagrams get lost,
answers too, so it repeats what stays unanswered; but before it repeats a line it asks, with an empty one, whether the
first copy arrived, for a line that came twice would be counted twice.
"""

from __future__ import annotations

import re
import socket
import sys

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
        self.port = int(self.ask("hello", r"\+port (\d+)")[0])
        self.sock.connect((host, self.port))  # the hand-over: from here on only that port is heard

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, line: str) -> tuple[int, int]:
        """Has one line counted, once; returns how many lines and words that makes."""
        for _ in range(TRIES):
            try:
                lines, words = self.counts(line, tries=1)
            except TimeoutError:
                lines, words = self.counts()
            if lines > self.lines or not line.strip():
                self.lines = lines
                return lines, words
        raise TimeoutError

    def counts(self, line: str = "", *, tries: int = TRIES) -> tuple[int, int]:
        lines, words = self.ask(line, r"\+(\d+) lines?, (\d+) words?", tries)
        return int(lines), int(words)

    def bye(self) -> None:
        self.ask("bye", r"\+bye")

    def ask(self, request: str, expected: str, tries: int = TRIES) -> tuple[str, ...]:
        for _ in range(tries):
            self.sock.send(request.encode() + b"\n")
            try:
                answer = self.sock.recv(LARGEST).decode(errors="backslashreplace").strip()
            except TimeoutError:
                continue
            if found := re.match(expected, answer):
                return found.groups()
            raise RefusedError(answer)
        raise TimeoutError(f"no answer after {tries} tries")


def check(port: int) -> int:
    """A whole session with the server on this host. One that has no room left, and says so, is well."""
    try:
        with Tally("127.0.0.1", port, source=(CHECK_SOURCE, 0), patience=0.5) as tally:
            counted = tally.say("one two")
            tally.bye()
    except (RefusedError, OSError) as error:
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
        case [host, digits] if digits.isdecimal():
            port = int(digits)
        case _:
            die(PERMANENT, f"usage: HOST [PORT]; the port is {PORT} unless given")
    try:
        with Tally(host, port) as tally:
            print(f"{host} wants us on port {tally.port}", flush=True)
            for line in sys.stdin:
                lines, words = tally.say(line)
                print(f"{plural(lines, 'line')}, {plural(words, 'word')}", flush=True)
            tally.bye()
    except (RefusedError, OSError, OverflowError) as error:
        die(TEMPORARY, f"{host}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
