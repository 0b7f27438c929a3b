"""The house keeps its order: imports go one way, and only named rooms touch what is outside."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]

ROOMS: tuple[tuple[str, ...], ...] = (
    ("bench",),
    ("lab.cli",),
    ("lab.pytest_plugin",),
    ("lab.replay",),
    ("lab",),  # the public face alone: `from lab import Lab`
    ("lab.checks",),
    ("lab.lab",),
    ("lab.hosts",),
    ("lab.lifecycle",),
    ("lab.capture",),
    ("lab.exec",),
    ("lab.toolbox",),
    ("lab.build",),
    ("lab.project",),
    ("lab.engine",),
    ("lab.forks", "lab.progress", "lab.waiting"),
    ("lab.errors",),
)
"""Top to bottom. A room imports from those below it; a package's own files also from each other."""

LONGEST = 400
"""Lines of a module."""

MAY_IMPORT = {
    "docker": {
        "lab.engine.docker_engine",
        "lab.engine.docker_errors",
        "lab.engine.docker_images",
        "lab.engine.docker_streams",
        "lab.engine.docker_tls",
    },
    "requests": {
        "lab.engine.docker_engine",
        "lab.engine.docker_errors",
        "lab.engine.docker_images",
        "lab.engine.docker_streams",
        "lab.engine.docker_tls",
    },
    "scapy": {"lab.capture.capture", "lab.hosts.host"},
    "subprocess": {"lab.project.compose", "lab.build.debian", "lab.checks.firewall"},
}
"""What reaches outside, and the only modules of `lab` that may."""

SLOW = {"docker", "lab.lab", "requests", "rich", "scapy", "yaml"}
"""Costly to import, and of no use to a process that is only completing a word."""


@dataclass(frozen=True)
class Import:
    """One name that a module imports; `lazy` inside a function or for the type checker alone."""

    name: str
    lazy: bool
    line: int


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sources("lab", "bench")}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file; `from lab import preflight` counts as one of `lab.lifecycle.preflight`."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import():
                    yield from (Import(alias.name, lazy, child.lineno) for alias in child.names)
                case ast.ImportFrom():
                    for alias in child.names:
                        inner = f"{child.module}.{alias.name}"
                        yield Import(inner if inner in modules() else child.module or "", lazy, child.lineno)
                case _:
                    guarded = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
                    function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                    yield from walk(child, lazy or guarded or function)

    yield from walk(tree(path), lazy=False)


def home(module: str) -> str | None:
    """The entry of ROOMS that a module belongs to: its own, or its package's. `lab` itself means only the face."""
    for names in ROOMS:
        for name in names:
            if module == name or (name != "lab" and module.startswith(f"{name}.")):
                return name
    return None


def room(module: str) -> int | None:
    """Index in ROOMS."""
    name = home(module)
    return next((index for index, names in enumerate(ROOMS) if name in names), None)


def calls(path: Path, name: str) -> list[int]:
    """Lines on which `name`, such as `time.sleep`, is called."""
    found = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and ast.unparse(node.func) == name)
    return [node.lineno for node in found]


def test_every_module_has_its_room() -> None:
    homeless = sorted(name for name in modules() if room(name) is None)
    assert not homeless, f"give each its place in ROOMS: {homeless}"


def test_every_room_is_there() -> None:
    missing = [name for names in ROOMS for name in names if name not in modules()]
    assert not missing, f"in ROOMS, but not in the project: {missing}"


def test_imports_go_down_one_way() -> None:
    wrong = []
    for name, path in modules().items():
        here = room(name)
        for wanted in imports(path):
            there = room(wanted.name) if wanted.name.partition(".")[0] in ("lab", "bench") else None
            if here is None or there is None or home(name) == home(wanted.name):
                continue
            if there <= here:
                wrong.append(f"{path.relative_to(PROJECT)}:{wanted.line} imports {wanted.name}")
    assert not wrong


@pytest.mark.parametrize("library", sorted(MAY_IMPORT))
def test_only_named_modules_reach_outside(library: str) -> None:
    using = {
        name
        for name, path in modules().items()
        if name.startswith("lab") and any(wanted.name.partition(".")[0] == library for wanted in imports(path))
    }
    assert using == MAY_IMPORT[library]


def test_scapy_is_imported_only_when_a_packet_is_looked_at() -> None:
    eager = [
        f"{name}:{wanted.line}"
        for name, path in modules().items()
        for wanted in imports(path)
        if wanted.name.startswith("scapy") and not wanted.lazy
    ]
    assert not eager


def loaded_by(module: str) -> set[str]:
    """What a fresh interpreter has loaded when it has imported the module."""
    listing = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    return set(listing.stdout.decode().split())


def test_the_command_line_starts_without_what_is_slow_to_import() -> None:
    assert "rich" in loaded_by("lab.cli.table"), "the search finds nothing where there is something"
    assert loaded_by("lab.cli").isdisjoint(SLOW)


def test_only_compose_knows_composes_command() -> None:
    """Another module may speak of it (in docstrings and remedies), never name it as a program."""
    naming = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        if name.startswith("lab") and name != "lab.project.compose"
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Constant) and node.value == "docker-compose")
        or (isinstance(node, ast.List | ast.Tuple) and any(ast.unparse(word) == "'compose'" for word in node.elts))
    ]
    assert not naming


def test_only_the_shell_becomes_another_program() -> None:
    becoming = {
        name
        for name, path in modules().items()
        if any(calls(path, f"os.{name}") for name in ("execv", "execve", "execvp"))
    }
    assert becoming <= {"lab.cli.shell"}


def test_nothing_sleeps_but_the_clock() -> None:
    sleeping = [
        f"{path.relative_to(PROJECT)}:{line}"
        for path in sources("lab", "bench", "tests")
        if path != PROJECT / "lab/waiting.py"
        for line in calls(path, "time.sleep") + calls(path, "sleep")
    ]
    assert not sleeping
    assert calls(PROJECT / "lab/waiting.py", "time.sleep"), "the search finds nothing where there is one"


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources("lab", "bench", "services")}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [name for name, path in modules().items() if not ast.get_docstring(tree(path))]
    assert not silent


def test_no_file_is_named_after_nothing() -> None:
    vague = [
        path.relative_to(PROJECT)
        for path in sources("lab", "bench", "services", "tests")
        if path.stem.strip("_") in {"util", "utils", "helper", "helpers", "manager", "misc", "common"}
    ]
    assert not vague


COMMON = {"base", "python", "root"}
"""Names of this repository's lab that mean something else in any program, too."""
OF_THE_TOOL = {"COMPOSE_PROJECT_NAME", "LAB_BASE", "datagram-lab/debian:bookworm"}


def test_the_tool_names_nothing_of_this_repositorys_lab() -> None:
    """No service, network, image or setting: what is special about the lab stands in its Compose file."""
    document = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    services, networks = document["services"], document["networks"]
    images = {service["image"] for service in services.values()}
    settings = set(re.findall(r"(?m)^(\w+)=", (PROJECT / ".env").read_text()))
    exact = {*services, *networks} - COMMON
    anywhere = re.compile("|".join(map(re.escape, sorted({*images, *settings} - OF_THE_TOOL))))
    found = []
    for name, path in modules().items():
        for node in ast.walk(tree(path)) if name.partition(".")[0] == "lab" else ():
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if text in exact or anywhere.search(text):
                found.append(f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)} {text[:60]!r}")
    for path in [path for path in (PROJECT / "lab").rglob("*") if path.suffix in (".sh", ".json", ".yaml")]:
        found += [f"{path.relative_to(PROJECT)}: {match[0]}" for match in anywhere.finditer(path.read_text())]
    assert len(exact) > 20
    assert not found
