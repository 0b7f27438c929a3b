"""Where the project stands and what its `.env` and the environment say.

Plain Compose reads the same `.env`, by the same rule (an environment variable wins), so that both mean the same lab.
"""

from __future__ import annotations

import ipaddress
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import UsageError

LARGEST_PEERS = 120
"""The scalable peers draw their addresses from the upper half of `lan`, which offers 126."""

_ENV_LINE = re.compile(
    r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*"
    r"(?:(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\s*(?:#.*)?|(?P<bare>(?:[^'\"\s].*?)?)(?:\s+#.*)?\s*)"
)
"""A value ends at its closing quote or, without quotes, before a `#` that follows a space."""


@dataclass(frozen=True)
class Settings:
    """What can be set about a lab, resolved once."""

    root: Path
    """The folder of `compose.yaml`."""
    variables: Mapping[str, str]
    """What `.env` and the environment give to Compose's `${NAME}`."""

    @property
    def project(self) -> str:
        """The Compose project's name; where none is set, Compose makes it of the folder's."""
        name = self.variables.get("COMPOSE_PROJECT_NAME") or re.sub("[^-_a-z0-9]", "", self.root.name.lower())
        if not re.fullmatch("[a-z0-9][-_a-z0-9]*", name):
            raise UsageError(
                f"COMPOSE_PROJECT_NAME is {name!r}",
                f"Set it to small letters, digits, - and _, in {self.root / '.env'}.",
            )
        return name

    @property
    def peers(self) -> int:
        """How many scalable peers there are beside the article's two."""
        text = self.variables.get("LAB_PEERS") or "1"
        if not re.fullmatch("[0-9]{1,3}", text) or int(text) > LARGEST_PEERS:
            raise UsageError(
                f"LAB_PEERS is {reprlib.repr(text)}",
                f"Set it to a whole number from 0 to {LARGEST_PEERS}, in {self.root / '.env'}.",
            )
        return int(text)

    @property
    def base(self) -> str:
        """How the Debian base is had: `auto`, `pull`, `build`, or the name of an image to take instead."""
        return self.variables.get("LAB_BASE") or "auto"

    @property
    def compose_files(self) -> tuple[Path, ...]:
        """The files that Compose makes the hosts from: those of COMPOSE_FILE, or else those it takes by their names."""
        if named := self.variables.get("COMPOSE_FILE"):
            separator = self.variables.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
            return tuple(self.root / name for name in named.split(separator))
        patterns = ("compose*.y*ml", "docker-compose*.y*ml")
        return tuple(sorted(path for pattern in patterns for path in self.root.glob(pattern)))

    @property
    def state(self) -> Path:
        """The folder of what `lab` remembers between two calls; nothing breaks when it is removed."""
        return self.root / ".lab"


def load(environment: Mapping[str, str] = os.environ, start: Path | None = None) -> Settings:
    """The settings of the project around `start` (the working directory), or of the checkout that `lab` runs from."""
    root = find_root(environment, start)
    settings = Settings(root, {**read_env_file(root / ".env"), **environment})
    # What makes no sense is told here, before Compose or the topology stumble over it.
    _ = settings.project, settings.peers
    for name in ("LAB_LAN", "LAB_FAR"):
        if (text := settings.variables.get(name)) and not has_hosts(text):
            raise UsageError(
                f"{name} is {text!r}",
                f"Set it to the first three numbers of a private network, such as 192.168.7, in {root / '.env'}.",
            )
    return settings


def has_hosts(text: str) -> bool:
    """Whether these are the first three numbers of a /24 whose addresses a host can have."""
    try:
        first = ipaddress.IPv4Network(f"{text}.0/24").network_address.packed[0]
    except ValueError:
        return False
    return 0 < first < 224 and first != 127


def find_root(environment: Mapping[str, str], start: Path | None = None) -> Path:
    named = environment.get("LAB_DIR")
    try:
        if named:
            candidates = [Path(named)]
        else:
            start = start or Path.cwd()
            candidates = [start, *start.parents, Path(__file__).resolve().parents[2]]
        for folder in candidates:
            if is_lab(folder):
                return folder.resolve()
    except OSError as error:
        shown = named if not named or len(named) <= 255 else f"{named[:60]}…"
        place = f"LAB_DIR ({shown})" if named else "the working directory"
        raise UsageError(
            f"{place} cannot be looked into: {error.strerror}",
            "Change to the project's folder, or name it in LAB_DIR.",
        ) from error
    raise UsageError(
        f"no lab in {candidates[0]} nor above it (looked for compose.yaml beside services/)",
        "Change to the project's folder, or name it in LAB_DIR.",
    )


def is_lab(folder: Path) -> bool:
    """Whether it is a lab's folder; OSError where that cannot be seen."""
    try:
        (folder / "compose.yaml").stat()  # is_file() keeps some errors to itself, from Python 3.14 on all of them
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (folder / "compose.yaml").is_file() and (folder / "services").is_dir()


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of a Compose `.env` file: `NAME=value`, `#` comments, optional quotes.

    Backslashes and `${…}`, which Compose replaces in some values, are of no use in the lab's settings and stay.
    """
    try:
        if not path.is_file():
            return {}
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "Mend it: git diff .env, ls -l .env.") from error
    values = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if not match:
            raise UsageError(f"{path}:{number}: expected NAME=value, found {line!r}", "Mend the line, or remove it.")
        values[match["name"]] = match["single"] or match["double"] or match["bare"] or ""
    return values
