"""docs/your-project.md, typed word by word: its files, its commands with what they print, its test."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.live.foreign.conftest import PROJECT, Make

PAGE = (PROJECT / "docs/your-project.md").read_text()
PUBLIC, AT_HAND = "python:3.13-slim", "datagram-lab/python"
"""The image that the page names, and one that is here without a registry."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.timeout(400)
def test_the_ten_minutes_are_as_the_page_says(make: Make) -> None:
    server, test = blocks("python")
    compose = blocks("yaml")[0]
    assert PUBLIC in compose
    yours = make("yours", compose=compose.replace(PUBLIC, AT_HAND), test=test)
    (yours.folder / "server.py").write_text(server)
    environment = {**os.environ, "PATH": f"{yours.bin}:{os.environ['PATH']}"}
    typed = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", blocks("console")[0], re.MULTILINE)
    assert [line.split()[0] for line, _ in typed] == ["pip", "lab", "lab", "lab"]
    for line, expected in typed[1:]:
        if line == "lab down":
            done = yours.type("pytest", "-q", "-p", "no:cacheprovider")
            assert b"1 passed" in done.stdout
        ran = subprocess.run(line, shell=True, cwd=yours.folder, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
        if expected:
            assert ran.stdout == expected
