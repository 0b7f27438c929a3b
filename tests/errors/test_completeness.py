"""Every text has its pair, and every pair its use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lab import errors
from lab.engine import docker_errors
from lab.project import compose
from tests.errors import test_errors
from tests.errors.test_errors import PAIRS, PROJECT

HELD = {
    "settings": ["lab.project.settings", "lab.project.discover"],
    "endpoint": ["lab.engine.endpoint"],
    "config": ["lab.project.config", "lab.project.declaration"],
    "compose": ["lab.project.compose"],
    "preflight": ["lab.lifecycle.preflight"],
    "docker_engine": ["lab.engine.docker_engine", "lab.engine.docker_errors"],
    "hosts": [
        "lab.errors",
        "lab.lab",
        "lab.hosts.host",
        "lab.engine.logs",
        "lab.lifecycle.readiness",
        "lab.exec.processes",
        "lab.exec.hostexec",
        "lab.exec.plain",
        "lab.exec.remote",
        "lab.exec.sessions",
        "lab.toolbox.image",
    ],
    "users": ["lab.lifecycle.users"],
    "replay": ["lab.replay.load", "lab.replay.nodes"],
    "cli": ["lab.cli", "lab.cli.arguments", "lab.cli.exec_", "lab.cli.scale", "lab.cli.shell"],
}
"""By file of pairs, the modules whose texts it holds."""


def test_each_file_of_pairs_has_its_test_and_its_modules() -> None:
    tests = {name.removeprefix("test_") for name in vars(test_errors) if name.startswith("test_")}
    assert set(PAIRS) == set(HELD) == tests


def pattern(node: ast.expr) -> str | None:
    """A regular expression for what an expression can say; None when it is made elsewhere."""
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr():
            return "".join(pattern(part) or ".*" for part in node.values)
    return None


def texts(module: str) -> Iterator[tuple[int, str]]:
    """Line and pattern of each cause that a module can raise, and of each finding that is not ok."""
    path = PROJECT / (module.replace(".", "/") + ("/__init__.py" if module == "lab.cli" else ".py"))
    classes = {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    classes |= {"UsageError", "BadParameter", "fail"}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        if called == "Finding" and len(node.args) > 2 and ast.unparse(node.args[1]) != "'ok'":
            found = pattern(node.args[2])
        elif called in classes or called == "__init__":
            found = pattern(node.args[0])
        else:
            continue
        if found and re.sub(r"\.\*|\W", "", found):
            yield node.lineno, found


def test_every_text_has_its_pair() -> None:
    without = [
        f"{module}:{line}: {wanted}"
        for name, modules in HELD.items()
        for module in modules
        for line, wanted in texts(module)
        if not any(re.search(wanted, pair["says"]) for pair in PAIRS[name])
    ]
    assert not without


@pytest.mark.parametrize(("module", "name"), [(compose, "compose"), (docker_errors, "docker_engine")])
def test_every_row_of_a_table_of_causes_has_its_pair(module: Any, name: str) -> None:
    shown = "\n".join(pair["says"] for pair in PAIRS[name])
    patterns = [re.sub(r"\\\{\w+\\\}", ".*", re.escape(cause)) for *_, cause, _ in module._CAUSES]
    without = [wanted for wanted in patterns if not re.search(wanted, shown)]
    assert not without


def test_no_two_pairs_are_the_same() -> None:
    titles = [(name, pair["what"]) for name, entries in PAIRS.items() for pair in entries]
    assert len(titles) == len(set(titles))
