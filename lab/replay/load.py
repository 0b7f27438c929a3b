"""Reading a file of transcripts: all its mistakes at once, each with its line."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from lab.errors import UsageError
from lab.project.declaration import Declaration
from lab.project.settings import Settings
from lab.replay.load_stages import read_stages
from lab.replay.model import MAIN, Stage, Step, Suite, Transcript, Window
from lab.replay.nodes import NodeReader
from lab.replay.rules import RULES

REQUIRED = frozenset({"id", "title", "section", "stage", "host", "command", "output"})
OPTIONAL = frozenset({"today", "user", "says", "note", "rules", "waits", "files", "prepare"}) | frozenset(
    {"windows", "steps", "stays", "exit"}
)
VERBS = ("see", "type", "press")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_KEY = re.compile(r"\^[A-Z]")


def of_project(settings: Settings, declaration: Declaration) -> Suite:
    """The suite that the project's Compose file names; UsageError where it names none, or one with mistakes."""
    if not declaration.transcripts:
        raise UsageError(
            f"the project {settings.root} has no transcripts to replay",
            "Name their file in its Compose file, as x-lab: {transcripts: FILE}.",
        )
    return load(settings.root / declaration.transcripts)


def load(path: Path) -> Suite:
    """The stages and transcripts of a file; UsageError with every mistake, as `FILE:LINE: what is wrong`."""
    reader = _Reader(path)
    document = reader.document()
    fields = reader.fields(document, "the file", {"source", "subnets", "stages", "transcripts"})
    reader.source = reader.text(fields.get("source"), Transcript.source)
    reader.stages = read_stages(reader, fields.get("stages"))
    found = [reader.transcript(node, number) for number, node in enumerate(reader.items(fields.get("transcripts")), 1)]
    reader.require_own_names(found)
    suite = Suite(
        transcripts=tuple(transcript for transcript in found if transcript),
        stages=reader.stages,
        subnets=reader.text_fields(fields.get("subnets"), "subnets"),
    )
    if not found:
        reader.wrong_at(1, "no transcript")
    if reader.mistakes:
        raise UsageError("\n".join(reader.mistakes), "docs/replay.md says what a file of transcripts may have.")
    return suite


class _Reader(NodeReader):
    """Turns nodes into transcripts of a text called `source`; `stages` are those that they may name."""

    source: str
    stages: dict[str, Stage]

    def require_own_names(self, transcripts: list[Transcript | None]) -> None:
        seen: dict[str, int] = {}
        for transcript in transcripts:
            if transcript and transcript.id in seen:
                self.wrong_at(transcript.line, f"id {transcript.id!r} is that of line {seen[transcript.id]}, too")
            elif transcript:
                seen[transcript.id] = transcript.line

    def transcript(self, node: yaml.Node, number: int) -> Transcript | None:
        before = len(self.mistakes)
        fields = self.fields(node, "a transcript", REQUIRED | OPTIONAL, REQUIRED)
        printed = self.text(fields.get("command"))
        today = self.text(fields.get("today"), printed)
        if today != printed and "note" not in fields:
            self.wrong(fields["today"], "another command than the printed one needs a note that says why")
        stage = self._stage(fields.get("stage"))
        windows = {
            name: self._window(value, stage) for name, value in self.fields(fields.get("windows"), "windows").items()
        }
        made = Transcript(
            number=number,
            id=self.text(fields.get("id")),
            title=self.text(fields.get("title")),
            section=self.text(fields.get("section")),
            stage=self.text(fields.get("stage")),
            stage_title=stage.title if stage else "",
            main=Window(self._host(fields.get("host"), stage), today, self.text(fields.get("user")) or None),
            printed=printed,
            expected=self.text(fields.get("output")),
            says=self.text(fields.get("says")),
            windows=windows,
            steps=tuple(self._step(item, {MAIN, *windows}) for item in self.items(fields.get("steps"))),
            stays=self._yes(fields.get("stays")),
            exit=self._whole(fields.get("exit")),
            files=self.text_fields(fields.get("files"), "files"),
            prepare=self.texts(fields.get("prepare")),
            rules=tuple(self.one_of(item, RULES, "rule") for item in self.items(fields.get("rules"))),
            waits=self._seconds(fields.get("waits")),
            note=" ".join(self.text(fields.get("note")).split()),
            source=self.source,
            line=node.start_mark.line + 1,
        )
        return made if len(self.mistakes) == before else None

    def _stage(self, node: yaml.Node | None) -> Stage | None:
        """The stage that a text names, its argument aside."""
        text = self.text(node)
        name, _, argument = text.partition(" ")
        stage = self.stages.get(name)
        if node is None:
            return None
        if not stage:
            self.wrong(node, f"no stage {text!r}; there are {', '.join(sorted(self.stages)) or 'none'}")
        elif stage.takes_argument and not argument:
            self.wrong(node, f"stage {name} needs an argument: {name} WORD")
        elif argument and not stage.takes_argument:
            self.wrong(node, f"stage {name} takes no argument")
        return stage

    def _host(self, node: yaml.Node | None, stage: Stage | None) -> str:
        text = self.text(node)
        if node is not None and stage and text not in stage.names:
            self.wrong(node, f"stage {stage.name} has no host {text!r}; it has {', '.join(stage.names)}")
        return text

    def _window(self, node: yaml.Node, stage: Stage | None) -> Window:
        fields = self.fields(node, "a window", {"host", "command", "user"}, {"host", "command"})
        command, user = self.text(fields.get("command")), self.text(fields.get("user")) or None
        return Window(self._host(fields.get("host"), stage), command, user)

    def _step(self, node: yaml.Node, windows: set[str]) -> Step:
        fields = self.fields(node, "a step", {"at", *VERBS})
        window = self.text(fields.get("at"), MAIN)
        if window not in windows:
            self.wrong(node, f"no window {window!r}; there are {', '.join(sorted(windows))}")
        verbs = {verb: self.text(fields[verb]) for verb in VERBS if verb in fields}
        if len(verbs) > 1:
            self.wrong(node, f"a step does one thing, not {' and '.join(verbs)}")
        if "press" in verbs and not _KEY.fullmatch(verbs["press"]):
            self.wrong(fields["press"], f"{verbs['press']!r} is no control key; write ^C")
        return Step(window, verbs.get("see"), verbs.get("type"), verbs.get("press"))

    def _yes(self, node: yaml.Node | None) -> bool:
        if node is not None and self.text(node) != "true":
            self.wrong(node, "write true, or leave it out")
        return node is not None

    def _whole(self, node: yaml.Node | None) -> int:
        text = self.text(node, "0")
        if not text.isdecimal() and node is not None:
            self.wrong(node, f"{text!r} is no exit code")
        return int(text) if text.isdecimal() else 0

    def _seconds(self, node: yaml.Node | None) -> float:
        if node is None:
            return 0.0
        match = _DURATION.fullmatch(self.text(node))
        if not match:
            self.wrong(node, f"{self.text(node)!r} is no duration in seconds; write 3s")
        return float(match[1]) if match else 0.0
