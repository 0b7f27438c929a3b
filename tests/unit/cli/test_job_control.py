"""`lab exec` as a job of an interactive shell: in the background, and brought back from there."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.test_main import PROJECT

JOB = """
import sys
from pathlib import Path
import lab.lab
from lab.cli import main
from tests.unit.cli import small_lab

def says_so_and_never_ends(host, heard):
    small_lab.never_ends(host, heard)
    if heard[0] == b"R":
        host.say(b"1", heard[1], b"started\\n")

scripts = {"endless": says_so_and_never_ends, "upper": small_lab.upper_case}
small = small_lab.open_small(Path(sys.argv.pop(1)), small_lab.ScriptedEngine(script=scripts[sys.argv.pop(1)]))
small.up()
lab.lab.Lab = lambda **_: small
main()
"""


class Shell:
    """bash on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        far, near = pty.openpty()
        script = folder / "job.py"
        script.write_text(JOB)
        self.folder = folder
        self.terminal = far
        self.seen = ""
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=PROJECT,
            env={**os.environ, "PS1": "", "PYTHONPATH": str(PROJECT)},
            stdin=near,
            stdout=near,
            stderr=near,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # makes it the session's own
        )
        os.close(near)
        self.type("stty -echo")

    def lab(self, script: str, words: str) -> str:
        return f"{sys.executable} {self.folder}/job.py {self.folder} {script} {words}"

    def type(self, line: str) -> None:
        os.write(self.terminal, f"{line}\n".encode())

    def read_until(self, pattern: str) -> str:
        while not re.search(pattern, self.seen):
            self.seen += os.read(self.terminal, 4096).decode()
        return self.seen


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()
    os.close(made.terminal)


def test_in_the_background_it_goes_on(shell: Shell) -> None:
    shell.type(shell.lab("endless", "exec router sleep") + " &")
    shell.read_until("started")
    shell.type("kill -INT $!; wait $!; echo ended with $?")
    assert "ended with 130" in shell.read_until(r"ended with \d+\s")
    assert "Stopped" not in shell.seen


def test_brought_to_the_foreground_it_reads_what_is_typed(shell: Shell) -> None:
    shell.type(shell.lab("upper", "exec router cat") + " &")
    shell.read_until(r"\[1\] \d+\s")
    shell.type("jobs; fg; echo ended with $?")
    shell.read_until("exec router cat")
    shell.type("hello")
    shell.read_until("HELLO")
    shell.type("\x04")
    assert "ended with 0" in shell.read_until(r"ended with \d+\s|Stopped")
