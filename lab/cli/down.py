"""`lab down`."""

from __future__ import annotations

import click

from lab import progress
from lab.cli.context import open_lab


@click.command("down", short_help="Take every container and network of the lab away.")
@click.option("--images", is_flag=True, help="The images that it builds, too.")
@click.option("--volumes", is_flag=True, help="Its volumes, too; those of a disposable project always go.")
def command(images: bool, volumes: bool) -> None:
    """Take every container and network of the lab away. The images stay, for a quick next start."""
    telling = progress.for_standard_error()
    with open_lab() as lab:
        try:
            lab.down(telling, with_images=images, volumes=volumes)
        finally:
            telling.close()
