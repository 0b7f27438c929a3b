"""`lab scale`."""

from __future__ import annotations

import re
import reprlib

import click

from lab import progress
from lab.cli.context import open_lab
from lab.errors import UsageError


@click.command("scale", short_help="Change how many hosts a scalable service has.")
@click.argument("wish", metavar="SERVICE=NUMBER")
def command(wish: str) -> None:
    """Change how many hosts a scalable service has: lab scale web=4.

    The next lab up goes back to what the Compose file says.
    """
    service, _, number = wish.partition("=")
    if not re.fullmatch("[0-9]{1,9}", number):
        raise UsageError(f"{reprlib.repr(wish)} is no SERVICE=NUMBER", "Such as: lab scale web=4")
    telling = progress.for_standard_error()
    with open_lab() as lab:
        try:
            hosts = lab.scale(service, int(number), telling)
        finally:
            telling.close()
        for host in hosts:
            click.echo("  ".join([host.name, *host.addresses.values()]))
