"""`lab shell`."""

from __future__ import annotations

import os
import shutil
import sys

import click

from lab.cli.arguments import HostName
from lab.cli.context import open_lab
from lab.engine import endpoint
from lab.errors import HostError, MachineError

SHELLS = ("bash", "sh")


@click.command("shell", short_help="Open a shell on a host.")
@click.option("-u", "--user", help="As this user of the host instead of its own.")
@click.argument("host", type=HostName())
def command(host: str, user: str | None) -> None:
    """Open a shell on a host, on this terminal; exit or Ctrl-D ends it. The terminal is the docker command's."""
    with open_lab() as lab:
        found = lab.host(host)
        shell = next((name for name in SHELLS if found.run([name, "-c", ":"], user=user).exit == 0), None)
        engine = endpoint.find(lab.settings.variables)
    if shell is None:
        raise HostError(f"{host} has no shell", f"lab exec {host} -- PROGRAM runs a program that it has.")
    docker = shutil.which("docker")
    if docker is None:
        raise MachineError("no docker command, which lends lab shell its terminal", "lab exec HOST -- sh needs none.")
    terminal = ["-t"] if sys.stdin.isatty() else []
    words = [docker, "exec", "-i", *terminal, *(["-u", user] if user else []), found.id, shell]
    os.execve(docker, words, engine.environment(os.environ))
