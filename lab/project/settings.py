"""Where the project stands and what its `.env` and the environment say.

Plain Compose reads the same `.env`, by the same rule (an environment variable wins), so that both mean the same lab.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import UsageError
from lab.project import discover


@dataclass(frozen=True)
class Settings:
    """What can be set about a project, resolved once."""

    root: Path
    """The folder of the Compose file."""
    variables: Mapping[str, str]
    """What `.env` and the environment give to Compose's `${NAME}`."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Of these, what the caller has chosen, so that neither the environment nor `.env` says it to Compose."""

    @property
    def named_project(self) -> str:
        """COMPOSE_PROJECT_NAME, or empty."""
        return self.variables.get("COMPOSE_PROJECT_NAME") or ""

    @property
    def base(self) -> str:
        """How the Debian base is had: `auto`, `pull`, `build`, or the name of an image to take instead."""
        return self.variables.get("LAB_BASE") or "auto"

    @property
    def compose_files(self) -> tuple[Path, ...]:
        """The files that Compose starts from; what they include or extend is not among them."""
        return discover.compose_files(self.variables, self.root)

    @property
    def state(self) -> Path:
        """The folder of what `lab` remembers between two calls; nothing breaks when it is removed."""
        return self.root / ".lab"

    @property
    def env_file(self) -> Path:
        return self.root / ".env"


def load(
    environment: Mapping[str, str] = os.environ,
    start: Path | None = None,
    *,
    file: Path | None = None,
    project: str | None = None,
) -> Settings:
    """The settings of the project around `start` (the working directory).

    `file` is a Compose file, or the folder of one, to take instead; `project` the name to give the project.
    """
    chosen = {}
    if file is not None and file.is_dir():
        start, environment = file, {name: text for name, text in environment.items() if name not in _WHERE}
    elif file is not None:
        environment = {name: text for name, text in environment.items() if name not in _WHERE}
        chosen["COMPOSE_FILE"] = str(file.resolve())
    elif files := discover.named_files(environment, start or Path()):
        # Compose runs in the project's folder, from where relative names would mean other files.
        chosen["COMPOSE_FILE"] = os.pathsep.join(str(path.resolve()) for path in files)
    if project:
        chosen["COMPOSE_PROJECT_NAME"] = project
    root = discover.find_root({**environment, **chosen}, start)
    settings = Settings(root, {**read_env_file(root / ".env"), **environment, **chosen}, chosen)
    require_project_name(settings.named_project or "unnamed", settings.env_file)
    return settings


_WHERE = ("LAB_DIR", "COMPOSE_FILE")


def require_project_name(name: str, place: Path) -> None:
    """Raise UsageError for a name that Compose would refuse, or change."""
    if not re.fullmatch("[a-z0-9][-_a-z0-9]*", name):
        raise UsageError(f"COMPOSE_PROJECT_NAME is {name!r}", f"Set it to small letters, digits, - and _, in {place}.")


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of a Compose `.env` file, as python-dotenv reads them, with which docker-compose 1.29 does.

    A line that is none is an error: what was meant by it would silently be missing.
    """
    from dotenv.main import DotEnv  # only where there is a file to read, as in most folders
    from dotenv.parser import parse_stream

    try:
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8-sig") as stream:
            for binding in parse_stream(stream):
                if binding.error:
                    line, text = binding.original.line, binding.original.string.strip()
                    raise UsageError(
                        f"{path}:{line}: expected NAME=value, found {text!r}", "Mend the line, or remove it."
                    )
        values = DotEnv(path, encoding="utf-8-sig").dict()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "Look at it: ls -l, file.") from error
    return {name: value for name, value in values.items() if value is not None}
