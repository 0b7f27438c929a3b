"""What a transcript is: frozen records, as `transcripts.yaml` says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAIN = "main"
"""The window whose text is compared."""


@dataclass(frozen=True)
class Window:
    """A terminal: a command on a host of the stage."""

    host: str
    command: str
    user: str | None = None


@dataclass(frozen=True)
class Step:
    """One thing done at a window, which the first step that names it opens. At most one of the three is set."""

    window: str = MAIN
    see: str | None = None
    """Wait until this text, to the letter, has appeared after what was seen before."""
    type: str | None = None
    """A line, without its end."""
    press: str | None = None
    """A control key, such as `^C`."""


@dataclass(frozen=True)
class Transcript:
    """One command of the article with what the article prints for it."""

    number: int
    id: str
    title: str
    section: str
    """The article's heading above it."""
    stage: str
    """Name of a stage (`lab.replay.stages`), and its argument after a space."""
    main: Window
    printed: str
    """The command as the article prints it; `main.command` is what is typed today."""
    expected: str
    """The output that the article prints; where it prints none, what its words come to."""
    says: str = ""
    """The article's words, where it prints no output."""
    windows: Mapping[str, Window] = field(default_factory=dict)
    """The others, by name."""
    steps: tuple[Step, ...] = ()
    stays: bool = False
    """It would run for ever: its window is closed when the last text awaited there is seen."""
    exit: int = 0
    """The exit code of a command that ends by itself."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Put into the working directory first: name there to path in the project."""
    prepare: tuple[str, ...] = ()
    """Commands run first, on the same host, by the same user; each must succeed."""
    rules: tuple[str, ...] = ()
    """Names of `lab.replay.rules` without which the two texts differ."""
    waits: float = 0.0
    """Seconds that pass whatever the machine: sleeps of the programs themselves."""
    note: str = ""
    line: int = 0
    """In the file it was read from."""

    @property
    def interrupted(self) -> bool:
        """It is ended by the last key pressed at its window."""
        return any(step.press for step in self.steps if step.window == MAIN)
