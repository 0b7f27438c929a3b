"""`lab down`."""

from __future__ import annotations

import click

from lab import progress
from lab.cli.context import open_lab


@click.command("down", short_help="Take every container, network and volume of the lab away.")
@click.option("--images", is_flag=True, help="The images, too.")
def command(images: bool) -> None:
    """Take every container, network and volume of the lab away. The images stay, for a quick next start."""
    telling = progress.for_standard_error()
    with open_lab() as lab:
        try:
            lab.down(telling, with_images=images)
        finally:
            telling.close()
