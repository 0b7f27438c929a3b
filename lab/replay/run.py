"""Playing a transcript: set its stage up, type what is to be typed, look at the window, compare."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lab.errors import CommandError, ExpectationFailed, HostError
from lab.hosts.host import Host
from lab.replay import rules
from lab.replay.compare import Comparison, compare
from lab.replay.model import MAIN, Step, Transcript
from lab.replay.pool import StagePool
from lab.replay.stages import Hosts
from lab.replay.terminal import Terminal


@dataclass(frozen=True)
class Outcome:
    """What came of one transcript."""

    transcript: Transcript
    comparison: Comparison
    trouble: str
    """What went wrong before there was anything to compare, such as an awaited text that never came; or empty."""
    elapsed: float

    @property
    def same(self) -> bool:
        return self.comparison.same and not self.trouble


Subnets = Sequence[tuple[str, str]]
"""Of each network how its addresses begin in the transcripts, and today."""


def play(transcripts: Iterable[Transcript], pool: StagePool) -> Iterator[Outcome]:
    """Play one after the other; each outcome as soon as it is there."""
    subnets = _subnets(pool)
    back = [(today, printed) for printed, today in subnets]
    for transcript in transcripts:
        start = time.monotonic()
        hosts = pool.hosts(transcript.stage)
        text, trouble = "", ""
        try:
            _prepare(transcript, hosts[transcript.main.host], pool.lab.settings.root)
        except CommandError as error:
            trouble = f"before it could be typed: {error.cause}"
        else:
            text, trouble = _type(transcript, hosts, subnets)
        comparison = compare(transcript.expected, rules.moved(text, back), transcript.rules)
        yield Outcome(transcript, comparison, trouble, time.monotonic() - start)


def _subnets(pool: StagePool) -> Subnets:
    declared, variables = pool.lab.declaration.subnets, pool.lab.settings.variables
    return [
        (printed, variables.get(declared.get(network, "")) or printed)
        for network, printed in pool.suite.subnets.items()
    ]


def _prepare(transcript: Transcript, host: Host, root: Path) -> None:
    user = transcript.main.user
    for name, source in transcript.files.items():
        data = (root / source).read_bytes()
        host.run(["sh", "-c", 'rm -f "$0" && cat >"$0"', name], input=data, user=user).check()
    for command in transcript.prepare:
        host.run(["sh", "-c", command], user=user).check()


def _type(transcript: Transcript, hosts: Hosts, subnets: Subnets) -> tuple[str, str]:
    """What the main window shows in the end, and what went wrong, if anything."""
    plans = {**transcript.windows, MAIN: transcript.main}
    with ExitStack() as stack:
        windows: dict[str, Terminal] = {}

        def window(name: str) -> Terminal:
            if name not in windows:
                plan = plans[name]
                windows[name] = Terminal(hosts[plan.host], plan.command, plan.user)
                stack.callback(windows[name].close)
            return windows[name]

        try:
            for step in transcript.steps:
                _do(step, window(step.window), subnets)
            main = window(MAIN)
            if transcript.stays:
                return main.text(seen=True), ""
            done = main.wait()
            failed = done.exit != transcript.exit and not transcript.interrupted
            trouble = f"it ended with exit code {done.exit} instead of {transcript.exit}" if failed else ""
            return main.text(), trouble
        except (CommandError, ExpectationFailed, HostError) as error:
            return windows[MAIN].text() if MAIN in windows else "", error.cause


def _do(step: Step, terminal: Terminal, subnets: Subnets) -> None:
    if step.see is not None:
        terminal.see(rules.moved(step.see, subnets))
    elif step.type is not None:
        terminal.type(step.type)
    elif step.press is not None:
        terminal.press(step.press)
