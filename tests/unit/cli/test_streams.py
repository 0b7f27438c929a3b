"""Every command's words, in whatever character set they are asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.cli import COMMANDS, streams
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_main import lab_process

WORDS = [
    ["--help"],
    *([name, "--help"] for name in COMMANDS),
    ["up"],
    ["status"],
    ["status", "--sizes"],
    ["status", "--json"],
    ["doctor"],
    ["exec", "router", "true"],
    ["exec", "router", "--", "…"],
    ["exec", "router…", "true"],
    ["logs", "router"],
    ["scale", "peer=3"],
    ["scale", "peer=…"],
    ["shell", "…"],
    ["replay", "--list"],
    ["replay", "…"],
    ["completion", "bash"],
    ["…"],
    ["down"],
]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_speaks_every_character_set(
    run: Run, words: list[str], encoding: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    here = run(*words)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding, errors="strict")  # type: ignore[union-attr]
    there = run(*words)
    assert there.exit == here.exit
    for one, other in ((here.out, there.out), (here.err, there.err)):
        assert other.isascii()
        assert bool(other) == bool(one)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_so_does_a_process_of_its_own(tmp_path: Path, encoding: str) -> None:
    done = lab_process(tmp_path, "", "exec", "--help", encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"[--] COMMAND..." in done.stdout


def test_what_has_no_place_in_ascii_is_spelt(capfd: pytest.CaptureFixture[str]) -> None:
    streams.write_in_any_character_set()
    text = "HOST… → “it’s” – ✓ é 日 \udcff ⠋".encode("ascii", "plain")
    assert text == rb"""HOST... -> "it's" - ok \xe9 \u65e5 \udcff /"""
    assert "é".encode("latin-1", "plain") == b"\xe9"
    assert "é".encode("plain_ascii", "plain") == rb"\xe9"


def test_all_that_the_lab_itself_says_can_be_spelt() -> None:
    """But for the strokes of its tables, which rich draws by the character set, and its spinner."""
    project = Path(streams.__file__).parents[1]
    files = [*project.rglob("*.py"), *project.rglob("*.yaml")]
    said = {character for file in files for character in file.read_text() if ord(character) > 127}
    assert said - set(streams.PLAIN) == set()
