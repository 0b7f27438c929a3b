"""Projects of other people, made from nothing, and the tool as they install it: a wheel, in a fresh environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]


@dataclass(frozen=True)
class Project:
    """A folder with a Compose file, in which commands are typed."""

    folder: Path
    bin: Path
    """Of the environment that holds the tool."""

    def type(
        self, *words: str, input: bytes = b"", exit: int | None = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `lab WORDS`, or what else the environment holds, and see that it ends with that exit code."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=self.folder,
            input=input,
            env={**os.environ, **(env or {})},
            capture_output=True,
            timeout=240,
        )
        assert exit is None or done.returncode == exit, (done.returncode, done.stdout, done.stderr)
        return done

    def lab(self, *words: str, **options: Any) -> bytes:
        return self.type("lab", *words, **options).stdout

    def status(self) -> dict[str, dict[str, Any]]:
        """By host, what `lab status` says."""
        return {host["name"]: host for host in json.loads(self.lab("status", "--json", exit=None))["hosts"]}


Make = Callable[..., Project]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel and what it asks for, and with nothing of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    shutil.copytree(PROJECT / "lab", source / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", folder / "venv/bin/python", "install", wheel], check=True)
    return folder / "venv" / "bin"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("program") / "host"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-o", made, HERE / "host.c"], check=True)
    return made


@pytest.fixture
def make(environment: Path, program: Path, tmp_path: Path) -> Iterator[Make]:
    """Makes a project of files by name, `host` among them; at the end all of it is taken away, whatever it is."""
    made: list[Project] = []

    def make(name: str, **files: str) -> Project:
        folder = tmp_path / f"{name}{uuid.uuid4().hex[:6]}"  # the project's name: two runs may be under way
        folder.mkdir()
        shutil.copy(program, folder / "host")
        for file, text in files.items():
            path = folder / FILES.get(file, file)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        made.append(Project(folder, environment))
        return made[-1]

    yield make
    # The toolbox, which `--images` would remove, too, stays for the next.
    ended = [project.type("lab", "down", "--volumes", exit=None) for project in made]
    remove_images([project.folder.name for project in made])
    assert all(b"Traceback" not in done.stderr for done in ended), ended


def remove_images(projects: Sequence[str]) -> None:
    """Those that Compose has named after a service of the projects."""
    words = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(words, capture_output=True, check=True, text=True).stdout.split()
    for name in names:
        if any(name.startswith((f"{project}-", f"{project}_")) for project in projects):
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=True)


FILES = {
    "compose": "compose.yaml",
    "docker_compose": "docker-compose.yml",
    "override": "docker-compose.override.yml",
    "env": ".env",
    "dockerfile": "Dockerfile",
    "more": "more.yaml",
    "test": "test_it.py",
}
"""Names of files by what they are called as arguments."""
