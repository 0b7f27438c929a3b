"""What every benchmark is handed: the lab, plain Compose on the same file, a stopwatch, and how often to measure."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import Lab, LabError
from lab.waiting import Deadline, poll

LAB = str(Path(sys.executable).with_name("lab"))
LONG = 600.0
"""Seconds that one command may take."""


@dataclass(frozen=True)
class Bench:
    lab: Lab
    rounds: int
    """Of what takes seconds; what takes milliseconds is measured more often."""
    say: Callable[[str], None] = print

    @property
    def compose(self) -> Sequence[str]:
        """Plain Compose on the lab's file, as a user types it in the project's folder."""
        return self.lab.compose.command

    def seconds(self, *words: str, folder: Path | None = None, env: Mapping[str, str] | None = None) -> float:
        """How long a command takes; LabError if it fails."""
        start = time.perf_counter()
        done = subprocess.run(
            words, cwd=folder or self.lab.settings.root, env=env, capture_output=True, text=True, timeout=LONG
        )
        took = time.perf_counter() - start
        if done.returncode:
            said = " | ".join(done.stderr.strip().splitlines()[-3:])
            raise LabError(f"{' '.join(words)} ended with {done.returncode}: {said}", "Mend that, then measure again.")
        return took

    def wait_for_the_engines_verdict(self) -> None:
        """Until the engine's own list calls every host healthy, ten seconds or more after its start."""

        def all_healthy() -> bool:
            return all(one.state == "running" and one.health in ("healthy", "") for one in self.lab.machine.own)

        if not poll(all_healthy, Deadline.after(LONG), every=0.1):
            raise LabError(f"not all hosts were healthy after {LONG:g} s", "lab status shows which.")

    def down(self) -> None:
        self.say("  (down)")
        self.seconds(LAB, "down")


@contextmanager
def as_found(lab: Lab) -> Iterator[None]:
    """Whatever the block does, and however it ends, the lab is up again afterwards, or down, as it was before."""
    was_up = any(container.state == "running" for container in lab.machine.own)
    try:
        yield
    finally:
        if was_up:
            lab.up()
        else:
            lab.down()


def clock(action: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
