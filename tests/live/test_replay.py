"""The article's transcripts, each a test: what it prints is what happens today, but for what named rules excuse."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab
from lab.replay import Stages, Transcript, load, play, render


@pytest.fixture(scope="module")
def stages(lab: Lab) -> Iterator[Stages]:
    with Stages(lab) as stages:
        yield stages


@pytest.mark.parametrize("transcript", load(), ids=lambda transcript: transcript.id)
def test_today_is_as_in_the_article(stages: Stages, transcript: Transcript) -> None:
    (outcome,) = play([transcript], stages)
    assert outcome.same, "\n" + "\n".join(render.plain(outcome))
    assert not outcome.comparison.superfluous, f"not needed: {outcome.comparison.superfluous}"
