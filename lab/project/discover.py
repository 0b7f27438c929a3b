"""Which project a command is about: the folder of the nearest Compose file, as Compose itself looks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lab.errors import UsageError

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""In Compose's order; the first that is there counts."""
OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)

_ELSEWHERE = "Change to the project's folder, or name it in LAB_DIR."


def find_root(environment: Mapping[str, str], start: Path | None = None) -> Path:
    """The project's folder: LAB_DIR, or that of the file that COMPOSE_FILE names, or the nearest with a Compose file.

    Looks at `start` (the working directory) and above it. UsageError where there is none.
    """
    if named := environment.get("LAB_DIR"):
        return _folder(Path(named), f"LAB_DIR ({_short(named)})")
    here = start or _working_directory()
    if files := named_files(environment, here):
        if not files[0].is_file():
            raise UsageError(f"COMPOSE_FILE names {files[0]}, which is no file", "Correct it, or unset COMPOSE_FILE.")
        return files[0].parent.resolve()
    for folder in (here, *here.parents):
        try:
            found = is_project(folder)
        except OSError as error:
            raise _hidden("the working directory", error) from error
        if found:
            return folder.resolve()
    raise UsageError(f"no Compose file in {here} nor above it (looked for {', '.join(NAMES)})", _ELSEWHERE)


def named_files(variables: Mapping[str, str], folder: Path) -> tuple[Path, ...]:
    """Those that COMPOSE_FILE names, seen from the folder."""
    separator = variables.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return tuple(folder / name for name in (variables.get("COMPOSE_FILE") or "").split(separator) if name)


def compose_files(variables: Mapping[str, str], root: Path) -> tuple[Path, ...]:
    """The files that Compose starts from: those of COMPOSE_FILE, or else the one it takes by its name and its override.

    What these include or extend is not among them.
    """
    if named := named_files(variables, root):
        return named
    usual = next((root / name for name in NAMES if (root / name).exists()), root / NAMES[0])
    override = next((root / name for name in OVERRIDES if (root / name).exists()), None)
    return (usual, override) if override else (usual,)


def is_project(folder: Path) -> bool:
    """Whether a Compose file is in it, or its .env names one; OSError where that cannot be seen."""
    for name in NAMES:
        try:
            (folder / name).stat()  # is_file() keeps some errors to itself, from Python 3.14 on all of them
        except (FileNotFoundError, NotADirectoryError):
            continue
        if (folder / name).is_file():
            return True
    return False


def _folder(folder: Path, place: str) -> Path:
    try:
        if is_project(folder) or (folder / ".env").is_file():  # which may name a Compose file of another name
            return folder.resolve()
    except OSError as error:
        raise _hidden(place, error) from error
    raise UsageError(f"no Compose file in {place} (looked for {', '.join(NAMES)})", _ELSEWHERE)


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise _hidden("the working directory", error) from error


def _hidden(place: str, error: OSError) -> UsageError:
    return UsageError(f"{place} cannot be looked into: {error.strerror}", _ELSEWHERE)


def _short(text: str) -> str:
    return text if len(text) <= 255 else f"{text[:60]}…"
