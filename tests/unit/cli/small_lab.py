"""A lab for the command line without an engine: two peers and a router, whose commands a script answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.engine.base import Transport
from lab.exec.hostexec import Frame
from lab.lab import Lab
from lab.lifecycle.preflight import Finding
from lab.project.settings import Settings
from tests.unit.fake_engine import FakeEngine
from tests.unit.fake_hostexec import FakeHost
from tests.unit.small_project import SMALL, TRANSCRIPTS
from tests.unit.test_lab import FakeCompose

Script = Callable[[FakeHost, Frame], None]


def exits(status: int, out: bytes = b"", err: bytes = b"") -> Script:
    """Each command writes this much at once, and ends."""

    def script(host: FakeHost, heard: Frame) -> None:
        kind, number, _ = heard
        if kind == b"R":
            host.say(b"P", number, 7)
            if out:
                host.say(b"1", number, out)
            if err:
                host.say(b"2", number, err)
            host.say(b"X", number, status)

    return script


def upper_case(host: FakeHost, heard: Frame) -> None:
    """Each command answers its standard input in upper case, and ends with it."""
    kind, number, payload = heard
    match kind:
        case b"R":
            host.say(b"P", number, 7)
        case b"I":
            host.say(b"C", number, len(payload))
            host.say(b"1", number, payload.upper())
        case b"E":
            host.say(b"X", number, 0)


def never_ends(host: FakeHost, heard: Frame) -> None:
    """Each command is silent until it is killed."""
    kind, number, payload = heard
    if kind == b"R":
        host.say(b"P", number, 7)
    if kind == b"K":
        host.say(b"X", number, -payload[0])


@dataclass
class ScriptedEngine(FakeEngine):
    """Its hosts do what `script` says; `opened` notes who was asked for, `hosts` what each heard."""

    script: Script = field(default_factory=lambda: exits(0))
    opened: list[tuple[str, str | None]] = field(default_factory=list)
    hosts: list[FakeHost] = field(default_factory=list)

    def open_exec(self, container: str, argv: Sequence[str], user: str | None) -> Transport:
        self.opened.append((container, user))
        self.hosts.append(FakeHost(self.script))
        return self.hosts[-1]

    def heard(self, kind: bytes) -> list[bytes]:
        """The payloads of all frames of that kind, of all hosts."""
        return [payload for host in self.hosts for seen, _, payload in host.heard if seen == kind]


class Store:
    """Images that are all there, and alike."""

    def id_of(self, image: str) -> str | None:
        return "sha256:1"

    def disk_usage(self, names: object) -> int:
        return 123_000_000


class SmallLab(Lab):
    """Its images are never built."""

    def _images_up(self, containers: object, progress: object, *, build: bool = False) -> bool:
        return build


def open_small(root: Path, engine: FakeEngine) -> SmallLab:
    """A lab in that folder, down."""
    (root / "compose.yaml").write_text(SMALL)
    (root / "transcripts.yaml").write_text(TRANSCRIPTS)
    (root / "services").mkdir(exist_ok=True)
    (root / ".lab").mkdir(exist_ok=True)
    settings = Settings(root, {"COMPOSE_PROJECT_NAME": "small", "LAB_PEERS": "2"})
    return SmallLab(settings, engine, FakeCompose(engine, settings), Store())  # type: ignore[arg-type]


def finding(level: str, text: str = "text", remedy: str = "") -> Finding:
    return Finding("engine", level, text, remedy)  # type: ignore[arg-type]
