"""`lab replay`."""

from __future__ import annotations

import json
import re
import reprlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lab.cli.arguments import json_option
from lab.cli.context import open_lab
from lab.errors import LabError
from lab.replay import Outcome, StagePool, Suite, Transcript, of_project, play, render

if TYPE_CHECKING:
    from lab.lab import Lab


class Which(click.ParamType[str]):
    """A transcript's number, a range of numbers, or its id."""

    name = "which"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        try:
            with open_lab() as lab:
                known = suite_of(lab).transcripts
        except LabError:
            return []
        return [CompletionItem(entry.id, help=entry.title) for entry in known if entry.id.startswith(incomplete)]


def suite_of(lab: Lab) -> Suite:
    return of_project(lab.settings, lab.declaration)


@click.command("replay", short_help="Type a text's commands again, and compare.")
@click.argument("which", nargs=-1, type=Which(), metavar="[WHICH]…")
@click.option("--list", "listed", is_flag=True, help="Only list the transcripts.")
@json_option
def command(which: tuple[str, ...], listed: bool, as_json: bool) -> None:
    """Type the commands of the project's transcripts, and show what their text prints beside what happens today.

    WHICH is a number (5), a range (14-17) or a name (nc-verbose); none means all. Exit code 0 when all are the same,
    but for differences that are named with their reason; 1 when some are not.
    """
    with open_lab() as lab:
        suite = suite_of(lab)
        chosen = choose(suite.transcripts, which)
        if not listed:
            _play(lab, suite, chosen, as_json)
        elif as_json:
            click.echo(json.dumps([_entry(one) for one in chosen], indent=2))
        else:
            click.echo("\n".join(map(_line, chosen)))


def _play(lab: Lab, suite: Suite, chosen: list[Transcript], as_json: bool) -> None:
    start = time.monotonic()
    outcomes: list[Outcome] = []
    with StagePool(lab, suite, [transcript.stage for transcript in chosen]) as pool:
        for outcome in play(chosen, pool):
            outcomes.append(outcome)
            if not as_json:
                _show(outcome)
    wall = time.monotonic() - start
    if as_json:
        record = {
            "transcripts": [render.record(outcome) for outcome in outcomes],
            "elapsed": round(wall, 3),
            "waits": sum(transcript.waits for transcript in chosen),
        }
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(render.closing(outcomes, wall))
    if not all(outcome.same for outcome in outcomes):
        raise click.exceptions.Exit(1)


def choose(transcripts: Sequence[Transcript], which: tuple[str, ...]) -> list[Transcript]:
    """Those that the words name, in the file's order; all for no words."""
    wanted: set[int] = set()
    numbers = {transcript.id: transcript.number for transcript in transcripts}
    for word in which:
        span = re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?", word)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (numbers.get(word, 0),) * 2
        if not 1 <= first <= last <= len(transcripts):
            raise click.BadParameter(
                f"{reprlib.repr(word)}: expected a number from 1 to {len(transcripts)}, a range such as 14-17, "
                "or a name; lab replay --list shows them",
                param_hint="WHICH",
            )
        wanted |= set(range(first, last + 1))
    return [transcript for transcript in transcripts if not wanted or transcript.number in wanted]


def _show(outcome: Outcome) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(render.coloured(outcome))
    else:
        click.echo("\n".join(render.plain(outcome)))


def _line(transcript: Transcript) -> str:
    return f"{transcript.number:2}  {transcript.id:18} {transcript.printed}"


def _entry(transcript: Transcript) -> dict[str, object]:
    return {
        "number": transcript.number,
        "id": transcript.id,
        "title": transcript.title,
        "section": transcript.section,
        "command": transcript.printed,
        "waits": transcript.waits,
    }
