"""The article's transcripts, each a test: what it prints is what happens today, but for what named rules excuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.replay import StagePool, Transcript, load, play, render

SUITE = load(Path(__file__).parents[1] / "article/transcripts.yaml")


@pytest.fixture(scope="module")
def stages(lab: Lab, request: pytest.FixtureRequest) -> Iterator[StagePool]:
    """They know the order of the tests, and set up what comes next."""
    here = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    with StagePool(lab, SUITE, [item.callspec.params["transcript"].stage for item in here]) as stages:
        yield stages


@pytest.mark.parametrize("transcript", SUITE.transcripts, ids=lambda transcript: transcript.id)
def test_today_is_as_in_the_article(stages: StagePool, transcript: Transcript) -> None:
    (outcome,) = play([transcript], stages)
    assert outcome.same, "\n" + "\n".join(render.plain(outcome))
    assert not outcome.comparison.superfluous, f"not needed: {outcome.comparison.superfluous}"
