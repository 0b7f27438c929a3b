"""The command line: one command a file, loaded when it is called, so that none pays for another's imports."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import sys
from typing import Any

import click

from lab.cli.signals import Ended, end_by_signal
from lab.cli.streams import let_full_streams_go, open_closed_streams, write_in_any_character_set
from lab.errors import LabError

COMMANDS = ("up", "down", "status", "exec", "shell", "logs", "scale", "replay", "doctor", "completion")
"""In the order of `lab --help`; each is `command` in the module of its name, `exec` in `exec_`."""

EXIT_CODES = """\b
Exit codes: 0 done; 1 what was asked for failed; 2 wrong usage; 3 the machine or a host is not in order;
130 interrupted (143 by SIGTERM, 129 by SIGHUP); 141 nobody reads the output. `lab exec` and `lab shell`
give the command's own (124: it was ended at --timeout)."""

CHANGING = ("up", "down", "scale")
"""What Ctrl-C may leave half done."""

# At its end the interpreter looks for garbage in all that was imported: longer work than many a command.
atexit.register(gc.freeze)


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"lab.cli.{name}_" if name == "exec" else f"lab.cli.{name}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # prints help, if that is asked for
        except BrokenPipeError as gone:
            raise click.exceptions.Exit(141) from gone

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"no command {args[0]!r}.{hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:  # click would make a nameless Abort of it
            if ctx.invoked_subcommand in CHANGING:
                click.echo(
                    "\nlab: interrupted; lab up goes on where it stopped, lab down takes everything away", err=True
                )
            raise click.exceptions.Exit(interrupt.exit_code if isinstance(interrupt, Ended) else 130) from interrupt
        except BrokenPipeError as gone:  # and of this an exit code of its own
            raise click.exceptions.Exit(141) from gone


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="datagram-lab")
def cli() -> None:
    """A small internet of real hosts on this machine."""


def main() -> None:
    """Entry point of `lab`: no error of the lab's own, and none of the system's, ends in a traceback."""
    open_closed_streams()
    write_in_any_character_set()
    end_by_signal()
    try:
        status = run()
    except BrokenPipeError:  # of standard error
        status = 141
    except OSError as error:
        status = 3
        with contextlib.suppress(OSError):
            tell_of_system(error)
    let_full_streams_go()
    sys.exit(status)


def run() -> int:
    """The exit code of what was typed; OSError for what no part of the lab has explained."""
    try:
        status = cli.main(prog_name="lab", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort as abort:  # a signal before the command had begun
        return abort.__cause__.exit_code if isinstance(abort.__cause__, Ended) else 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LabError as error:
        tell(error.cause, error.remedy)
        return error.exit_code
    return status if isinstance(status, int) else 0


def tell(cause: str, remedy: str) -> None:
    click.echo(f"lab: {cause}", err=True)
    if remedy:
        click.echo(f"     {remedy}", err=True)


def tell_of_system(error: OSError) -> None:
    reason = error.strerror or str(error)
    if full := let_full_streams_go():
        tell(f"{full[0]} cannot be written: {reason}", "Make room there, or send it elsewhere; then repeat.")
    else:
        place = f"{error.filename}: " if error.filename else ""
        tell(f"{place}{reason}", "Look where the output goes, and at the machine (lab doctor); then repeat.")
