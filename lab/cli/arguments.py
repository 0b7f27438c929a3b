"""What several commands take: host names with completion, `--json`, durations."""

from __future__ import annotations

import re
import reprlib
from typing import Any

import click

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
YEAR = 365 * 86400.0
"""In seconds; what waits can count some centuries, and no more."""


class HostName(click.ParamType[str]):
    """A host's name; the shell completes it from the Compose file, without asking the engine."""

    name = "host"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from lab.errors import LabError
        from lab.project import settings
        from lab.project.compose import Compose

        try:
            names = Compose(settings.load()).config.topology.host_names()
        except LabError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Duration(click.ParamType[float]):
    """`500ms`, `5s` or `2m`, as seconds; a bare number is refused, since nobody remembers its unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m)", value)
        if not match:
            self.fail(f"{reprlib.repr(value)} is no duration; write 500ms, 5s or 2m", param, ctx)
        seconds = float(match[1]) * UNITS[match[2]]
        if seconds > YEAR:
            self.fail(f"{reprlib.repr(value)} is longer than a year; leave the option out for no limit", param, ctx)
        return seconds


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
