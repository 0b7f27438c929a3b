"""`lab up`."""

from __future__ import annotations

import json

import click

from lab import progress
from lab.cli.arguments import json_option
from lab.cli.context import open_lab


@click.command("up", short_help="Build what is missing, start every host, wait until all are healthy.")
@click.option("--build", is_flag=True, help="Build the project's images first, whether or not they are there.")
@json_option
def command(as_json: bool, build: bool) -> None:
    """Build what is missing, start every host, and wait until each is ready.

    Run again, it changes nothing. Progress goes to standard error, the table of hosts to standard output.
    """
    with open_lab() as lab:
        from lab.cli.table import print_hosts

        telling = progress.for_standard_error()
        try:
            hosts = lab.up(telling, build=build)
        finally:
            telling.close()
    if as_json:
        click.echo(json.dumps({"hosts": [host.as_json() for host in hosts]}, indent=2))
    else:
        print_hosts(hosts)
