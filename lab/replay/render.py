"""Showing an outcome: the printed text and today's side by side, and why they differ where they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from lab.replay.model import Transcript
from lab.replay.rules import reason
from lab.replay.run import Outcome

if TYPE_CHECKING:
    from rich.console import RenderableType

TODAY = "today"
_WIDEST = 76
"""Characters of a column; a longer line goes on below."""


def heading(transcript: Transcript) -> str:
    return f"{transcript.number:2}  {transcript.id}: {transcript.title}"


def where(transcript: Transcript) -> str:
    """The command as it is typed, after the host it is typed on."""
    mark = "#" if transcript.main.user == "root" else "$"
    return f"{transcript.main.host}{mark} {transcript.main.command}"


def verdict(outcome: Outcome) -> str:
    if not outcome.same:
        return "DIFFERS"
    return "same, to the letter" if outcome.comparison.exact else "same, but for what is named below"


def reasons(outcome: Outcome) -> list[str]:
    """Why today's text may differ, and what went wrong, each as one line."""
    transcript = outcome.transcript
    lines = [f"{name}: {reason(name)}" for name in transcript.rules]
    if transcript.note:
        lines.append(transcript.note)
    if outcome.comparison.superfluous:
        lines.append(f"not needed here: {', '.join(outcome.comparison.superfluous)}")
    if outcome.trouble:
        lines.append(f"trouble: {outcome.trouble}")
    return lines


def printed_text(outcome: Outcome) -> str:
    return (outcome.comparison.expected or "(no output)").expandtabs()


def today_text(outcome: Outcome) -> str:
    return (outcome.comparison.shown or "(no output)").expandtabs()


def setting(transcript: Transcript) -> Iterator[str]:
    """Where it is typed, and what the text has instead, where that differs."""
    yield transcript.stage_title
    if transcript.says:
        yield f"{transcript.source}: {transcript.says}"
    if transcript.printed != transcript.main.command:
        yield f"{transcript.source}: $ {transcript.printed}"


def plain(outcome: Outcome) -> Iterator[str]:
    """Lines without colour, for a pipe or a file."""
    yield f"{heading(outcome.transcript)}  [{verdict(outcome)}, {outcome.elapsed:.1f} s]"
    for line in (*setting(outcome.transcript), where(outcome.transcript)):
        yield f"    {line}"
    texts = _rows(printed_text(outcome), today_text(outcome))
    rows = [(outcome.transcript.source, TODAY), *texts]
    width = max(len(left) for left, _ in rows)
    for left, right in rows:
        yield f"      {left:{width}} | {right}".rstrip()
    for line in reasons(outcome):
        yield f"    - {line}"
    yield ""


def _rows(left: str, right: str) -> Iterator[tuple[str, str]]:
    """Both texts line beside line; a line longer than the column goes on below."""
    for one, other in zip_longest(left.split("\n"), right.split("\n"), fillvalue=""):
        for start in range(0, max(1, len(one), len(other)), _WIDEST):
            yield one[start : start + _WIDEST], other[start : start + _WIDEST]


def coloured(outcome: Outcome) -> RenderableType:
    """For a terminal."""
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    transcript = outcome.transcript
    colour = "green" if outcome.same else "bold red"
    title = Text.assemble((heading(transcript), "bold"), "  ", (verdict(outcome), colour), f"  {outcome.elapsed:.1f} s")
    table = Table(box=box.ROUNDED, expand=True, border_style="dim")
    table.add_column(transcript.source, ratio=1, overflow="fold")
    table.add_column(TODAY, ratio=1, overflow="fold", style="" if outcome.same else "red")
    table.add_row(Text(printed_text(outcome)), Text(today_text(outcome)))
    notes = Text("\n".join(f"• {line}" for line in reasons(outcome)), style="dim")
    head = Text("\n".join(setting(transcript)), style="dim")
    typed = Text(where(transcript), style="bold")
    below = [Padding(notes, (0, 2))] if notes else []
    return Group(title, Padding(head, (0, 4)), Padding(typed, (0, 4)), table, *below, "")


def record(outcome: Outcome) -> dict[str, object]:
    """For `--json`; durations in seconds."""
    transcript, comparison = outcome.transcript, outcome.comparison
    return {
        "number": transcript.number,
        "id": transcript.id,
        "title": transcript.title,
        "section": transcript.section,
        "place": transcript.stage_title,
        "host": transcript.main.host,
        "command": transcript.printed,
        "typed": transcript.main.command,
        "article": comparison.expected,
        "says": transcript.says,
        "today": comparison.shown,
        "same": outcome.same,
        "exact": comparison.exact,
        "rules": {name: reason(name) for name in transcript.rules},
        "superfluous_rules": list(comparison.superfluous),
        "note": transcript.note,
        "trouble": outcome.trouble,
        "elapsed": round(outcome.elapsed, 3),
        "waits": transcript.waits,
    }


def closing(outcomes: Sequence[Outcome], wall: float) -> str:
    """One line: how many are the same, and where the time went."""
    same = [outcome for outcome in outcomes if outcome.same]
    exact = sum(outcome.comparison.exact for outcome in same)
    waits = sum(outcome.transcript.waits for outcome in outcomes)
    return (
        f"{len(same)} of {len(outcomes)} transcripts are the same, {exact} of them to the letter; "
        f"{wall:.1f} s, of which the programs themselves sleep {waits:g} s"
    )
