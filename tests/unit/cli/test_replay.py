"""`lab replay`: its list, words that choose no transcript, and a project without any."""

from __future__ import annotations

import json

import pytest
from click.shell_completion import ShellComplete

from lab.cli import cli
from lab.lab import Lab
from tests.unit.cli.conftest import Run


def test_the_list_needs_no_host(run: Run) -> None:
    ran = run("replay", "--list", "2")
    assert (ran.exit, ran.out) == (0, " 2  two                echo two\n")
    assert [entry["id"] for entry in json.loads(run("replay", "--list", "--json").out)] == ["one", "two"]


def test_the_shell_completes_names(run: Run) -> None:
    found = ShellComplete(cli, {}, "lab", "_LAB_COMPLETE").get_completions(["replay"], "t")
    assert [(item.value, item.help) for item in found] == [("two", "It speaks again")]


def test_it_plays_what_the_project_has(run: Run, lab: Lab) -> None:
    lab.up()
    ran = run("replay", "one")
    assert ran.exit == 1
    assert ran.out.startswith(" 1  one: It speaks  [DIFFERS")
    assert "\n    The router\n    router$ echo one\n      the text | today\n      one      | (no output)\n" in ran.out


@pytest.mark.parametrize("word", ["1-9999999999", "1-999999999", "9" * 5000, f"1-{'9' * 5000}", "٣", "0", "5-3", "0-3"])
def test_a_range_beyond_the_transcripts_is_refused_at_once(run: Run, word: str) -> None:
    ran = run("replay", "--list", word)
    assert (ran.exit, ran.out) == (2, "")
    assert "expected a number from 1 to" in ran.err
    assert len(ran.err) < 400


def test_a_project_without_transcripts_says_so(run: Run, lab: Lab) -> None:
    file = lab.settings.root / "compose.yaml"
    file.write_text(file.read_text().replace("  transcripts: transcripts.yaml\n", ""))
    ran = run("replay")
    assert (ran.exit, ran.out) == (2, "")
    assert ran.err == (
        f"lab: the project {lab.settings.root} has no transcripts to replay\n"
        "     Name their file in its Compose file, as x-lab: {transcripts: FILE}.\n"
    )
    assert ShellComplete(cli, {}, "lab", "_LAB_COMPLETE").get_completions(["replay"], "t") == []
