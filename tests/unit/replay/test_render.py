"""Showing outcomes, in each of the three forms; and what the command's words choose."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import click
import pytest
from rich.console import Console

from lab.cli.replay import choose
from lab.replay import Outcome, Transcript, Window, compare, render


def outcome(expected: str = "A", shown: str = "A", trouble: str = "", **fields: Any) -> Outcome:
    made = Transcript(
        number=7,
        id="one",
        title="it speaks",
        section="Somewhere",
        source="the article",
        stage="workstation",
        stage_title="The workstation of the lab",
        main=Window("client", fields.pop("typed", "echo A"), fields.pop("user", None)),
        printed="echo A",
        expected=expected,
        **fields,
    )
    return Outcome(made, compare(expected, shown, made.rules), trouble, 1.25)


def test_plain_lines():
    assert list(render.plain(outcome("A\nlonger", "A"))) == [
        " 7  one: it speaks  [DIFFERS, 1.2 s]",
        "    The workstation of the lab",
        "    client$ echo A",
        "      the article | today",
        "      A           | A",
        "      longer      |",
        "",
    ]


def test_rules_note_and_trouble_are_told():
    lines = list(
        render.plain(
            outcome(
                "A", "ready\nA", rules=("ready-line",), note="Because.", typed="echo  A", user="root", says="Say A."
            )
        )
    )
    assert lines[0] == " 7  one: it speaks  [same, but for what is named below, 1.2 s]"
    assert lines[2:5] == ["    the article: Say A.", "    the article: $ echo A", "    client# echo  A"]
    assert lines[-3:-1] == [
        "    - ready-line: Each server of the lab says `ready` when it can serve; the article's says nothing.",
        "    - Because.",
    ]
    assert "    - trouble: it broke" in list(render.plain(outcome(trouble="it broke")))
    assert "    - not needed here: ready-line" in list(render.plain(outcome(rules=("ready-line",))))


def test_no_output_and_long_lines_and_tabs():
    lines = list(render.plain(outcome("", "x" * 77 + "\na\tb")))
    assert lines[4:7] == ["      (no output) | " + "x" * 76, "                  | x", "                  | a       b"]


@pytest.mark.parametrize("width", [40, 120])
def test_in_colour_both_texts_and_the_reasons_are_there(width):
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    console.print(render.coloured(outcome("[bold]A", "B", note="[Because]")))
    text = console.export_text()
    for part in ("[bold]A", "B", "DIFFERS", "[Because]", "the article", "today", "client$ echo A"):
        assert part in text


def test_a_record_is_json_and_holds_both_texts():
    record = json.loads(json.dumps(render.record(outcome("A", "ready\nA", rules=("ready-line",), waits=2.0))))
    assert (record["article"], record["today"], record["same"], record["exact"]) == ("A", "ready\nA", True, False)
    assert (record["elapsed"], record["waits"]) == (1.25, 2.0)
    assert record["rules"] == {"ready-line": render.reason("ready-line")}


def test_the_closing_line_counts_and_sums_up():
    outcomes = [outcome(waits=3.0), outcome("A", "ready\nA", rules=("ready-line",), waits=0.5), outcome("A", "B")]
    assert render.closing(outcomes, 7.04) == (
        "2 of 3 transcripts are the same, 1 of them to the letter; 7.0 s, of which the programs themselves sleep 3.5 s"
    )


# The command's words


def transcripts(*ids: str) -> list[Transcript]:
    return [replace(outcome().transcript, number=number, id=name) for number, name in enumerate(ids, 1)]


def test_transcripts_are_chosen_by_number_range_and_name():
    every = transcripts("a", "nc-verbose", "c", "d", "e", "f")
    assert choose(every, ()) == every
    assert [one.number for one in choose(every, ("3-5", "nc-verbose", "4"))] == [2, 3, 4, 5]


@pytest.mark.parametrize("word", ["0", "99", "5-3", "3-99", "nc-verbos", "-3", ""])
def test_a_word_that_names_none_is_refused(word):
    with pytest.raises(click.BadParameter, match="expected a number from 1 to"):
        choose(transcripts("a", "nc-verbose", "c", "d", "e"), (word,))
