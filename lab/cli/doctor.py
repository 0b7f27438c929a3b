"""`lab doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lab.checks import doctor
from lab.cli.arguments import json_option
from lab.cli.context import open_lab

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor", short_help="Check whether this machine can carry the lab.")
@json_option
def command(as_json: bool) -> None:
    """Check whether this machine can carry the lab: each check with ok, warn or fail, and what mends it.

    The rules of the machine's firewall are read when it is called by root. Where the lab is up, packets are sent
    across its router.

    Exit code 3 when a check fails.
    """
    with open_lab() as lab:
        findings = doctor.examine(lab)
    if as_json:
        click.echo(json.dumps({"checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
            click.echo(f"{level}  {finding.check:<9} {finding.text}")
            if finding.remedy and finding.level != "ok":
                click.echo(f"                → {finding.remedy}")
    if any(finding.level == "fail" for finding in findings):
        raise click.exceptions.Exit(3)
