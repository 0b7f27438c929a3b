"""`lab status`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from lab.build import images
from lab.cli.arguments import json_option
from lab.cli.context import open_lab


@click.command("status", short_help="Show every host, its addresses and its state.")
@json_option
@click.option("--sizes", is_flag=True, help="Memory of each host, and what the images take on disk.")
def command(as_json: bool, sizes: bool) -> None:
    """Show every host, its addresses, its state, and one line to try.

    Exit code 0 when all are healthy, 1 when some are not, 3 when the engine cannot be asked.
    """
    with open_lab() as lab:
        hosts = lab.status()
        memory = disk = None
        if sizes:
            running = lab.hosts()
            with ThreadPoolExecutor(8) as pool:
                figures = pool.map(lambda host: lab.engine.memory(host.id), running)
                memory = {host.name: used for host, used in zip(running, figures, strict=True)}
            disk = lab.store.disk_usage(images.own(lab.topology))
    if as_json:
        record: dict[str, object] = {"hosts": [host.as_json() for host in hosts]}
        if memory is not None:
            record["memory_bytes"] = memory
            record["images_bytes"] = disk
        click.echo(json.dumps(record, indent=2))
    else:
        from lab.cli.table import print_hosts

        print_hosts(hosts, memory)
        if memory is not None and disk is not None:
            click.echo(f"all hosts together: {_together(list(memory.values()))}")
            click.echo(f"all images together: {disk / 1e6:.0f} MB on disk")
    if any(host.state not in ("healthy", "running", "done") for host in hosts):
        raise click.exceptions.Exit(1)


def _together(figures: Sequence[int | None]) -> str:
    known = [used for used in figures if used is not None]
    if not known:
        return "the engine counts no memory here"
    left_out = f" (of {len(known)} of {len(figures)} hosts)" if len(known) < len(figures) else ""
    return f"{sum(known) / 2**20:.0f} MiB of memory{left_out}"
