"""`lab replay`: words that choose no transcript."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Run


@pytest.mark.parametrize("word", ["1-9999999999", "1-999999999", "9" * 5000, f"1-{'9' * 5000}", "٣", "0", "5-3", "0-3"])
def test_a_range_beyond_the_transcripts_is_refused_at_once(run: Run, word: str) -> None:
    ran = run("replay", "--list", word)
    assert (ran.exit, ran.out) == (2, "")
    assert "expected a number from 1 to" in ran.err
    assert len(ran.err) < 400
