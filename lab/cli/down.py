"""`lab down`."""

from __future__ import annotations

import click

from lab import progress
from lab.lab import Lab


@click.command("down", short_help="Take every container, network and volume of the lab away.")
def command() -> None:
    """Take every container, network and volume of the lab away. The images stay (make clean removes them)."""
    telling = progress.for_standard_error()
    with Lab() as lab:
        try:
            lab.down(telling)
        finally:
            telling.close()
