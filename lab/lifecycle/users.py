"""The test processes that use a lab at the same time: the first notes whether it was up before, the last is told.

They stand in `.lab/users-PROJECT.json`, since one folder may carry projects of several names. Who calls holds the
project's lock (`Compose.locked`), and so has that folder. A process that was killed without leaving no longer counts.
"""

from __future__ import annotations

import json
from pathlib import Path

from lab.engine import ownership
from lab.errors import MachineError
from lab.project.settings import Settings


def join(settings: Settings, project: str, *, was_up: bool) -> None:
    """Note this process; `was_up` counts of the first alone, since the others find what the first brought up."""
    path = _path(settings, project)
    users, brought_up = _read(path)
    _write(path, [*users, ownership.mine()], brought_up if users else not was_up)


def leave(settings: Settings, project: str) -> bool:
    """Strike this process out; whether it was the last to use a lab that was not up before the first."""
    path = _path(settings, project)
    users, brought_up = _read(path)
    if (me := ownership.mine()) in users:
        users.remove(me)  # once: of two fixtures in one process the other still counts
    if users:
        _write(path, users, brought_up)
        return False
    path.unlink(missing_ok=True)
    return brought_up


def _path(settings: Settings, project: str) -> Path:
    return settings.state / f"users-{project}.json"


def _read(path: Path) -> tuple[list[str], bool]:
    """Those that live, and whether the first of them found the lab down."""
    try:
        noted = json.loads(path.read_text())
        return [user for user in noted["users"] if ownership.is_alive(user)], bool(noted["brought_up"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], False


def _write(path: Path, users: list[str], brought_up: bool) -> None:
    partial = path.with_suffix(".new")
    try:
        partial.write_text(json.dumps({"users": users, "brought_up": brought_up}))
        partial.replace(path)
    except OSError as error:
        raise MachineError(f"{path} cannot be written: {error.strerror}", "Make room there, then repeat.") from error
