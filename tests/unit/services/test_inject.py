"""services/client/inject: what it refuses before it opens a socket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INJECT = Path(__file__).parents[3] / "services/client/inject"


def inject(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, INJECT, *words], input="", capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("words", [["--foo"], ["--link"], ["packet"]])
def test_wrong_usage_is_100_with_the_reason_and_the_usage(words: list[str]) -> None:
    done = inject(*words)
    assert (done.returncode, done.stdout) == (100, "")
    assert done.stderr.startswith("inject: ")
    assert "usage: inject [-h] [--link IFACE]" in done.stderr


def test_help_is_no_wrong_usage() -> None:
    done = inject("--help")
    assert (done.returncode, done.stderr) == (0, "")
