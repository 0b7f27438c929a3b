"""What a transcript and a stage are: frozen records, as the file of transcripts says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAIN = "main"
"""The window whose text is compared."""

ARGUMENT = "{argument}"
"""In the texts of a stage: what follows its name in a transcript."""


@dataclass(frozen=True)
class Preparation:
    """A command run in a container before it is used; it must succeed."""

    command: tuple[str, ...]
    input: str | None = None
    """A file of the project, as its standard input."""


@dataclass(frozen=True)
class Container:
    """A temporary host of a stage, as `Lab.container` takes it."""

    image: str
    networks: tuple[str, ...] = ()
    address_of: str | None = None
    """A host of the lab whose address on each of these networks it takes."""
    network_of: str | None = None
    """A host of the stage whose network namespace it shares."""
    command: tuple[str, ...] | None = None
    user: str | None = None
    cap_add: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """A variable whose value is empty is not set."""
    ready: str | None = None
    """A regular expression for the line of its log that is awaited first."""
    run: tuple[Preparation, ...] = ()


@dataclass(frozen=True)
class Stopped:
    """Hosts of the lab that are stopped while a stage stands."""

    names: str
    """A regular expression for a whole name."""
    network: str | None = None
    """Only those on this network."""


@dataclass(frozen=True)
class Stage:
    """The hosts that transcripts are typed on, set up before and torn down after."""

    name: str
    title: str
    """What the reader of a replay is told."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Hosts of the lab: name on the stage to name in the lab."""
    containers: Mapping[str, Container] = field(default_factory=dict)
    stopped: Stopped | None = None
    takes_argument: bool = False

    @property
    def names(self) -> list[str]:
        """Of all its hosts."""
        return [*self.hosts, *self.containers]


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
    """One command of a text with what the text prints for it."""

    number: int
    id: str
    title: str
    section: str
    """The text's heading above it."""
    stage: str
    """Name of a stage, and its argument after a space."""
    stage_title: str
    main: Window
    printed: str
    """The command as the text prints it; `main.command` is what is typed today."""
    expected: str
    """The output that the text prints; where it prints none, what its claim comes to."""
    says: str = ""
    """What the text claims, where it prints no output."""
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
    source: str = "the text"
    """What the text is called beside today's."""
    line: int = 0
    """In the file it was read from."""

    @property
    def interrupted(self) -> bool:
        """It is ended by the last key pressed at its window."""
        return any(step.press for step in self.steps if step.window == MAIN)


@dataclass(frozen=True)
class Suite:
    """A file of transcripts."""

    transcripts: tuple[Transcript, ...]
    """In the order of the file."""
    stages: Mapping[str, Stage]
    subnets: Mapping[str, str] = field(default_factory=dict)
    """By network, how its addresses begin in the transcripts, such as `192.168.1`; a setting may have moved it."""
