"""A terminal window on a host, where a command buffers its output, echoes and is interrupted as it is for a person."""

from __future__ import annotations

import re

from lab.exec.processes import Completed
from lab.hosts.host import Host

PATIENCE = 15.0
"""Seconds for a text to appear or a command to end: a crowded machine, not a property of the programs."""


class Terminal:
    """One command under script(1), which gives it a terminal of its own; what is typed is echoed by the kernel."""

    def __init__(self, host: Host, command: str, user: str | None = None) -> None:
        argv = ["script", "--quiet", "--flush", "--return", "--echo", "always", "--command", command, "/dev/null"]
        self._process = host.start(argv, user=user, env={"TERM": "dumb"})
        self._seen = 0

    def see(self, text: str) -> None:
        """Wait until the text has appeared after what was seen before; raises ExpectationFailed when it has not."""
        wanted = re.escape(text).replace("\\\n", "\r*\n").encode()
        self._seen += self._process.expect(wanted, PATIENCE).end()

    def type(self, line: str) -> None:
        self._process.write(line.encode() + b"\n")

    def press(self, key: str) -> None:
        """`^C` and its like: the character that the terminal's driver turns into a signal or an end of file."""
        self._process.write(bytes([ord(key[1]) & 0x1F]))

    def wait(self) -> Completed:
        """Wait for the command's own end."""
        return self._process.wait(PATIENCE)

    def text(self, *, seen: bool = False) -> str:
        """What the window shows; with `seen`, no further than the last text that was awaited."""
        output = self._process.stdout
        return shown(output[: self._seen] if seen and self._seen else output)

    def close(self) -> None:
        """Close the window, which ends the command."""
        self._process.kill()


def shown(output: bytes) -> str:
    """What a terminal shows of these bytes: a carriage return goes back, and what follows it overwrites the line."""
    lines = []
    for line in output.decode(errors="backslashreplace").split("\n"):
        visible = ""
        for part in line.split("\r"):
            visible = part + visible[len(part) :]
        lines.append(visible)
    return "\n".join(lines)
