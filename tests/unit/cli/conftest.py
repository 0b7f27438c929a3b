"""`run(...)` calls the command line as the `lab` command does, over the fake engine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cli import main
from lab.lab import Lab
from tests.unit.cli.small_lab import ScriptedEngine, open_small


@dataclass(frozen=True)
class Ran:
    exit: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def lab(tmp_path: Path, engine: ScriptedEngine) -> Lab:
    """Down; the tests of what needs hosts bring it up."""
    return open_small(tmp_path, engine)


@pytest.fixture
def handlers() -> Iterator[None]:
    """`lab exec` takes signals over for good, since its process ends with the command; this one does not."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def run(lab: Lab, handlers: None, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    monkeypatch.setattr("lab.lab.Lab", lambda: lab)
    monkeypatch.setenv("LAB_DIR", str(lab.settings.root))

    def call(*words: str, stdin: bytes = b"") -> Ran:
        reading, writing = os.pipe()
        os.write(writing, stdin)  # less than a pipe holds
        os.close(writing)
        before = os.dup(0)
        os.dup2(reading, 0)
        monkeypatch.setattr(sys, "argv", ["lab", *words])
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            os.dup2(before, 0)
            os.close(before)
            os.close(reading)
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        code = stop.value.code
        assert isinstance(code, int)
        return Ran(code, out.decode("latin-1" if b"\xff" in out else "utf-8"), err.decode())

    return call
