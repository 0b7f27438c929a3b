"""Reading transcripts: all mistakes of the file at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.errors import UsageError
from lab.replay.model import MAIN, Step, Transcript, Window
from lab.replay.rules import RULES
from lab.replay.stages import STAGES

TRANSCRIPTS = Path(__file__).parent / "transcripts.yaml"

REQUIRED = frozenset({"id", "title", "section", "stage", "host", "command", "output"})
OPTIONAL = frozenset({"today", "user", "says", "note", "rules", "waits", "files", "prepare"}) | frozenset(
    {"windows", "steps", "stays", "exit"}
)
VERBS = ("see", "type", "press")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_KEY = re.compile(r"\^[A-Z]")


def load(path: Path = TRANSCRIPTS) -> list[Transcript]:
    """The transcripts of a file in their order; UsageError with every mistake, as `FILE:LINE: what is wrong`."""
    reader = _Reader(path)
    try:
        document = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}:{line}: no YAML: {error.problem}") from error
    found = [reader.transcript(node, number) for number, node in enumerate(reader.items(document), 1)]
    seen: dict[str, int] = {}
    for transcript in found:
        if transcript and transcript.id in seen:
            reader.wrong_at(transcript.line, f"id {transcript.id!r} is that of line {seen[transcript.id]}, too")
        elif transcript:
            seen[transcript.id] = transcript.line
    if not found:
        reader.wrong_at(1, "no transcript")
    if reader.mistakes:
        raise UsageError("\n".join(reader.mistakes), "Each transcript is described at the head of transcripts.yaml.")
    return [transcript for transcript in found if transcript]


class _Reader:
    """Turns nodes into records and gathers what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[str] = []

    def wrong(self, node: yaml.Node, what: str) -> None:
        self.wrong_at(node.start_mark.line + 1, what)

    def wrong_at(self, line: int, what: str) -> None:
        self.mistakes.append(f"{self.path}:{line}: {what}")

    # Shapes

    def items(self, node: yaml.Node | None) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if node is not None:
            self.wrong(node, "expected a list (lines that begin with -)")
        return []

    def fields(self, node: yaml.Node, what: str, known: frozenset[str] | None = None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, f"expected {what}, written as NAME: VALUE")
            return {}
        found = {str(key.value): value for key, value in node.value}
        for key, _ in node.value:
            if known is not None and str(key.value) not in known:
                self.wrong(key, f"{what} has no field {key.value!r}; it has {', '.join(sorted(known))}")
        return found

    def text(self, node: yaml.Node | None, default: str = "") -> str:
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, "expected a text")
            return default
        return str(node.value)

    # Records

    def transcript(self, node: yaml.Node, number: int) -> Transcript | None:
        before = len(self.mistakes)
        fields = self.fields(node, "a transcript", REQUIRED | OPTIONAL)
        if missing := sorted(REQUIRED - fields.keys()):
            self.wrong(node, f"a transcript needs {', '.join(missing)}")
        printed = self.text(fields.get("command"))
        today = self.text(fields.get("today"), printed)
        if today != printed and "note" not in fields:
            self.wrong(fields["today"], "another command than the article's needs a note that says why")
        windows = (
            {name: self._window(value) for name, value in self.fields(fields["windows"], "windows").items()}
            if "windows" in fields
            else {}
        )
        made = Transcript(
            number=number,
            id=self.text(fields.get("id")),
            title=self.text(fields.get("title")),
            section=self.text(fields.get("section")),
            stage=self._one_of(fields.get("stage"), STAGES, "stage", first_word=True),
            main=Window(self.text(fields.get("host")), today, self.text(fields.get("user")) or None),
            printed=printed,
            expected=self.text(fields.get("output")),
            says=self.text(fields.get("says")),
            windows=windows,
            steps=tuple(self._step(item, {MAIN, *windows}) for item in self.items(fields.get("steps"))),
            stays=self._yes(fields.get("stays")),
            exit=self._whole(fields.get("exit")),
            files={name: self.text(value) for name, value in self.fields(fields["files"], "files").items()}
            if "files" in fields
            else {},
            prepare=tuple(self.text(item) for item in self.items(fields.get("prepare"))),
            rules=tuple(self._one_of(item, RULES, "rule") for item in self.items(fields.get("rules"))),
            waits=self._seconds(fields.get("waits")),
            note=" ".join(self.text(fields.get("note")).split()),
            line=node.start_mark.line + 1,
        )
        return made if len(self.mistakes) == before else None

    def _window(self, node: yaml.Node) -> Window:
        fields = self.fields(node, "a window", frozenset({"host", "command", "user"}))
        for name in ("host", "command"):
            if name not in fields:
                self.wrong(node, f"a window needs {name}")
        return Window(
            self.text(fields.get("host")), self.text(fields.get("command")), self.text(fields.get("user")) or None
        )

    def _step(self, node: yaml.Node, windows: set[str]) -> Step:
        fields = self.fields(node, "a step", frozenset({"at", *VERBS}))
        window = self.text(fields.get("at"), MAIN)
        if window not in windows:
            self.wrong(node, f"no window {window!r}; there are {', '.join(sorted(windows))}")
        verbs = {verb: self.text(fields[verb]) for verb in VERBS if verb in fields}
        if len(verbs) > 1:
            self.wrong(node, f"a step does one thing, not {' and '.join(verbs)}")
        if "press" in verbs and not _KEY.fullmatch(verbs["press"]):
            self.wrong(fields["press"], f"{verbs['press']!r} is no control key; write ^C")
        return Step(window, verbs.get("see"), verbs.get("type"), verbs.get("press"))

    def _one_of(
        self, node: yaml.Node | None, known: Mapping[str, Callable[..., Any]], what: str, *, first_word: bool = False
    ) -> str:
        text = self.text(node)
        if node is not None and (text.partition(" ")[0] if first_word else text) not in known:
            self.wrong(node, f"no {what} {text!r}; there are {', '.join(sorted(known))}")
        return text

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
