"""Reading a YAML file by its nodes, so that each mistake is told with its line, and all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from lab.errors import UsageError


class NodeReader:
    """Turns nodes into texts, lists and mappings, and gathers what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[str] = []

    def document(self) -> yaml.Node | None:
        """The root of the file, None of an empty one; UsageError for what cannot be read at all."""
        try:
            return yaml.compose(self.path.read_text(), Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise UsageError(f"{self.path}:{line}: no YAML: {error.problem}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
            raise UsageError(f"the transcripts {self.path} cannot be read: {reason}", "Look at it: ls -l.") from error

    def wrong(self, node: yaml.Node, what: str) -> None:
        self.wrong_at(node.start_mark.line + 1, what)

    def wrong_at(self, line: int, what: str) -> None:
        self.mistakes.append(f"{self.path}:{line}: {what}")

    def items(self, node: yaml.Node | None) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if node is not None:
            self.wrong(node, "expected a list (lines that begin with -)")
        return []

    def fields(
        self, node: yaml.Node | None, what: str, known: Iterable[str] | None = None, needed: Iterable[str] = ()
    ) -> dict[str, yaml.Node]:
        """The values of a mapping by name; with `known` no others may be there, and `needed` must be."""
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, f"expected {what}, written as NAME: VALUE")
            return {}
        found = {str(key.value): value for key, value in node.value}
        for key, _ in node.value:
            if known is not None and str(key.value) not in known:
                self.wrong(key, f"{what} has no field {key.value!r}; it has {', '.join(sorted(known))}")
        if missing := sorted(set(needed) - found.keys()):
            self.wrong(node, f"{what} needs {', '.join(missing)}")
        return found

    def text(self, node: yaml.Node | None, default: str = "") -> str:
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, "expected a text")
            return default
        return str(node.value)

    def texts(self, node: yaml.Node | None) -> tuple[str, ...]:
        return tuple(self.text(item) for item in self.items(node))

    def text_fields(self, node: yaml.Node | None, what: str) -> dict[str, str]:
        return {name: self.text(value) for name, value in self.fields(node, what).items()}

    def one_of(self, node: yaml.Node | None, known: Mapping[str, object], what: str) -> str:
        text = self.text(node)
        if node is not None and text not in known:
            self.wrong(node, f"no {what} {text!r}; there are {', '.join(sorted(known)) or 'none'}")
        return text
