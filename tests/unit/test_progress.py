"""What the spinner and the plain lines say."""

from __future__ import annotations

import io
import re

import pytest

from lab import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", ["[/y]", "[red]no[/red]", "a\\", "fd00:a:b::1"])
def test_steps_and_details_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    telling = progress.for_standard_error()
    assert isinstance(telling, progress.Spinner)
    telling.step(f"step {text} of it")
    telling.detail(f"detail {text} of it")
    telling.step("next")
    telling.close()
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert f"✓ step {text} of it" in said
    assert f"step {text} of it detail {text} of it" in said


def test_elsewhere_a_step_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    telling = progress.for_standard_error()
    telling.step("step [/y]")
    telling.detail("passes by")
    telling.close()
    assert capsys.readouterr().err.endswith("s] step [/y]\n")
