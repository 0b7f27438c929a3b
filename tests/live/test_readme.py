"""What the README shows is what a reader gets: each of its commands is typed again, and its output compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.waiting import Deadline, poll

PROJECT = Path(__file__).parents[2]


def examples() -> list[tuple[str, str]]:
    """Each command of a console block that is shown with its output."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = entry.partition("\n")
            if output:
                found.append((command, output))
    return found


def pattern(output: str) -> str:
    """Numbers may be others, a blank may be several, and … stands for what was left out."""
    text = re.escape(output).replace("…", ".*").replace(r"\ ", " ")
    return re.sub(r"\d+(\\\.\d+)*", r"[\\d.]+", re.sub(" +", " +", text))


def test_there_are_examples() -> None:
    assert len(examples()) >= 5


@pytest.mark.parametrize(("command", "output"), examples(), ids=[command for command, _ in examples()])
def test_the_command_says_what_the_readme_shows(lab, command, output):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def said() -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    # A router tells one peer "net unreachable" once a second; who asked just before may have used that up.
    answers: list[str] = []
    assert poll(
        lambda: answers.append(said()) or re.fullmatch(pattern(output), answers[-1]), Deadline.after(10), every=0.5
    ), answers[-1]
