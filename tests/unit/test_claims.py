"""docs/claims.md and the tests hold each other: no claim without a test, no test of claims without its claim."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from lab.replay import load

PROJECT = Path(__file__).parents[2]
TABLE = PROJECT / "docs" / "claims.md"
LIVE = PROJECT / "tests" / "live"
OWN = "test_article_claims.py"
REPLAY = "test_replay.py"
TRANSCRIPTS = {transcript.id for transcript in load(PROJECT / "tests/article/transcripts.yaml").transcripts}

NAME = re.compile(r"(?P<file>test_\w+\.py)::(?P<test>test_\w+)(?:\[(?P<case>[\w-]+)\])?")


def claims(text: str) -> dict[str, list[str]]:
    """The names of its tests by claim; a row says `| claim | `test`, `test` |`."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    found: dict[str, list[str]] = {}
    for number, cells in enumerate(cells for cells in rows if cells[0].strip() != "claim"):
        claim = cells[0].strip()
        assert claim not in found, f"twice: {claim}"
        assert len(cells) == 2, f"row {number + 1} ({claim}) has {len(cells)} cells"
        found[claim] = re.findall(r"`([^`]+)`", cells[1])
    return found


@cache
def found_in(name: str) -> frozenset[str]:
    path = LIVE / name
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text()).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def fault(name: str) -> str:
    """Why it is no test, or empty."""
    match = NAME.fullmatch(name)
    if not match:
        return f"{name!r} is not FILE::TEST"
    if match["test"] not in found_in(match["file"]):
        return f"tests/live/{match['file']} has no {match['test']}"
    if match["case"] and match["file"] == REPLAY and match["case"] not in TRANSCRIPTS:
        return f"no transcript {match['case']!r}"
    return ""


CLAIMS = claims(TABLE.read_text())


def test_every_claim_names_a_test():
    assert len(CLAIMS) > 50
    assert not [claim for claim, tests in CLAIMS.items() if not tests]


@pytest.mark.parametrize("name", sorted({name for tests in CLAIMS.values() for name in tests}))
def test_each_name_is_a_test(name):
    assert not fault(name), f"{TABLE}: {fault(name)}"


def test_no_test_of_claims_is_missing_from_the_table():
    named = {name.partition("::")[2] for tests in CLAIMS.values() for name in tests if name.startswith(OWN)}
    assert found_in(OWN) <= named, f"not in {TABLE}: {sorted(found_in(OWN) - named)}"


def test_every_transcript_is_a_claims_test():
    named = {match["case"] for tests in CLAIMS.values() for name in tests if (match := NAME.fullmatch(name))}
    assert not TRANSCRIPTS - named


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_dns.py", "'test_dns.py' is not FILE::TEST"),
        ("test_nothing.py::test_x", "tests/live/test_nothing.py has no test_x"),
        ("test_dns.py::test_no_such", "tests/live/test_dns.py has no test_no_such"),
        ("test_replay.py::test_today_is_as_in_the_article[nc-x]", "no transcript 'nc-x'"),
    ],
)
def test_a_name_that_is_no_test_is_found_out(name, reason):
    assert fault(name) == reason


def test_a_row_without_a_test_is_found_out():
    assert claims("| claim | tests |\n|---|---|\n| A | `test_a.py::test_a`, `b` |\n| B | |\n") == {
        "A": ["test_a.py::test_a", "b"],
        "B": [],
    }
