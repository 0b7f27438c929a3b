"""`lab exec`."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import click

from lab.cli import signals
from lab.cli.arguments import Duration, HostName
from lab.cli.context import open_lab
from lab.errors import CommandError, CommandTimeout, HostError, LabError
from lab.exec.processes import Process
from lab.exec.remote import STDOUT
from lab.waiting import SYSTEM_CLOCK

LOOK_SECONDS = 0.3
"""How often a command in the background looks whether it has been brought to the foreground; nothing tells it."""


@click.command("exec", short_help="Run a command on a host.", context_settings={"allow_interspersed_args": False})
@click.option("-u", "--user", help="As this user of the host instead of its own.")
@click.option("-e", "--env", "assignments", multiple=True, metavar="NAME=VALUE", help="Set a variable for it.")
@click.option("-w", "--workdir", help="Start it in this folder of the host.")
@click.option("--timeout", type=Duration(), help="End it after this long: 500ms, 5s, 2m. Exit code 124.")
@click.option("-n", "--no-input", is_flag=True, help="Leave standard input to others; the command's is empty.")
@click.argument("host", type=HostName())
@click.argument("words", metavar="[--] COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    host: str,
    words: tuple[str, ...],
    user: str | None,
    assignments: tuple[str, ...],
    workdir: str | None,
    timeout: float | None,
    no_input: bool,
) -> None:
    """Run a command on a host: lab exec client -- nc -u server 4444.

    Standard input, output, error and the exit code are the command's own, to the byte. Ctrl-C goes to the command;
    when lab itself ends, for whatever reason, so does all that it started there. In a loop that reads its own input
    (while read h; do lab exec -n "$h" -- hostname; done), -n keeps the command from taking the rest of it, as with ssh.

    The command writes into a pipe, where many programs hold their output back until it is some 4096 bytes: tcpdump -l,
    grep --line-buffered, python3 -u and stdbuf -oL COMMAND do not.
    """
    words = words[1:] if words[0] == "--" else words
    if not words:
        raise click.UsageError("no command after --; such as: lab exec client -- dig www.linuxvoice.com")
    env = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{assignment!r} is no NAME=VALUE", param_hint="--env")
        env[name] = value
    with open_lab() as lab, lab.host(host).start(words, user=user, env=env, cwd=workdir, collect=False) as process:
        _hand_on_signals(process)
        if no_input:
            process.close_stdin()
        else:
            threading.Thread(target=_copy_input, args=(process,), name="stdin", daemon=True).start()
        try:
            _copy_output(process, timeout)
        except CommandTimeout as error:
            raise CommandTimeout(f"`{words[0]}` on {host} had not ended after {timeout:g} s and was ended") from error
        done = process.wait()
    raise click.exceptions.Exit(done.exit)


def _hand_on_signals(process: Process) -> None:
    """Ctrl-C and a polite end go to the command; its exit code then tells. A second one ends it for certain.

    A thread does the sending: a signal may come while this very thread is in the middle of sending something else.
    """
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        arrived.put(number)

    def hand_on() -> None:
        first = signal.Signals(arrived.get()).name
        deliver: Callable[[], None] = partial(process.signal, first)
        while True:
            try:
                deliver()
            except LabError as error:  # the command could not be reached
                click.echo(f"lab: {error}", err=True)
            arrived.get()
            deliver = process.kill

    signals.handle(note)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # it would stop lab; reading is refused then, see _read_input
    threading.Thread(target=hand_on, name="signals", daemon=True).start()


def _copy_input(process: Process) -> None:
    try:
        while data := _read_input():
            process.write(data, timeout=None)
        process.close_stdin()
    except (CommandError, HostError):
        return  # it ended without reading all of it
    except OSError:
        process.close_stdin()  # standard input cannot be read: it is open for writing only, say


def _read_input() -> bytes:
    """What comes on standard input; of a terminal only while lab is in its foreground, where it may yet be brought."""
    while True:
        try:
            if not _in_background():
                return os.read(0, 1 << 16)
        except OSError:
            if not _in_background():
                raise
        SYSTEM_CLOCK.sleep(LOOK_SECONDS)


def _in_background() -> bool:
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:  # not a terminal, or not lab's own
        return False


def _copy_output(process: Process, timeout: float | None) -> None:
    for stream, data in process.chunks(timeout):
        target = sys.stdout.buffer if stream == STDOUT else sys.stderr.buffer
        target.write(data)
        target.flush()
