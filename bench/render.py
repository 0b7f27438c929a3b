"""The rows as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from statistics import median

from rich import box
from rich.table import Table

from bench.measure import Row


def table(rows: Sequence[Row]) -> Table:
    """One line a comparison; medians beside the ratio, so that it can be judged."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("benchmark", "what", "against"):
        found.add_column(heading)
    for heading in ("median", "reference", "rounds", "ratio", "goal"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("", no_wrap=True)
    for row in rows:
        found.add_row(
            row.benchmark,
            row.what,
            row.reference,
            quantity(median(row.ours), row.unit),
            quantity(median(row.theirs), row.unit),
            str(len(row.ours)),
            f"{row.ratio:.2f}",
            row.goal or "–",
            verdict(row.met),
        )
    return found


def verdict(met: bool | None) -> str:
    return {True: "[green]met[/green]", False: "[red]missed[/red]", None: "[dim]for information[/dim]"}[met]


def quantity(value: float, unit: str) -> str:
    """With three digits that mean something."""
    if unit == "s" and value < 0.1:
        return f"{value * 1000:.2f} ms" if value < 0.01 else f"{value * 1000:.1f} ms"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def document(rows: Sequence[Row]) -> str:
    machine = {"processors": os.cpu_count(), "system": platform.platform()}
    return json.dumps({"machine": machine, "rows": [row.as_json() for row in rows]}, indent=2) + "\n"
