"""What a terminal shows."""

from __future__ import annotations

import re
from typing import cast

import pytest

from lab.errors import CommandError
from lab.hosts.host import Host
from lab.replay.terminal import Terminal, shown


class FakeProcess:
    def __init__(self, output: bytes) -> None:
        self.stdout = output
        self.written = b""
        self._consumed = 0

    def expect(self, pattern: bytes, timeout: float) -> re.Match[bytes]:
        match = re.compile(pattern).search(self.stdout[self._consumed :])
        if not match:
            raise CommandError("it never came")
        self._consumed += match.end()
        return match

    def write(self, data: bytes) -> None:
        self.written += data


class FakeHost:
    def __init__(self, output: bytes) -> None:
        self.process = FakeProcess(output)

    def start(self, argv: list[str], **options: object) -> FakeProcess:
        self.argv, self.options = argv, options
        return self.process


def window(output: bytes) -> tuple[Terminal, FakeHost]:
    host = FakeHost(output)
    return Terminal(cast(Host, host), "nc -u localhost 4444", "root"), host


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        (b"time\r\r\n", "time\n"),
        (b"\r10%\r\r100%\r\r done\r\n", " done\n"),
        (b"100%\rok\r\n", "ok0%\n"),
        (b"\xff", "\\xff"),
    ],
)
def test_a_carriage_return_goes_back_and_what_follows_overwrites(output, seen):
    assert shown(output) == seen


def test_the_command_gets_a_terminal_of_its_own_as_it_is_typed():
    _, host = window(b"")
    assert host.argv[0] == "script"
    assert host.argv[host.argv.index("--command") + 1] == "nc -u localhost 4444"
    assert host.options["user"] == "root"


def test_what_is_typed_and_pressed():
    terminal, host = window(b"")
    terminal.type("it works!")
    terminal.press("^C")
    assert host.process.written == b"it works!\n\x03"


def test_a_text_is_awaited_after_the_one_before_and_a_line_end_is_any():
    terminal, _ = window(b"a.b\r\na.b\r\nrest\r\n")
    terminal.see("a.b\n")
    terminal.see("a.b\n")
    assert terminal.text(seen=True) == "a.b\na.b\n"
    assert terminal.text() == "a.b\na.b\nrest\n"
    with pytest.raises(CommandError):
        terminal.see("a.b")


def test_dots_are_dots():
    terminal, _ = window(b"axb")
    with pytest.raises(CommandError):
        terminal.see("a.b")


def test_without_any_awaited_text_all_is_shown():
    terminal, _ = window(b"all of it\r\n")
    assert terminal.text(seen=True) == "all of it\n"
