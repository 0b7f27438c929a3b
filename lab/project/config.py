"""What Compose itself says of the project (`compose config`), and the project's own `x-lab:` block.

Compose is the only one to read its format, in every version. To ask it takes between a twentieth of a second (2 and
later) and half a second (1.29), so what was made of its answer is kept in `.lab/config.json`, under a digest of all
that the answer can come of. A file that brings in others (`include`, `extends`, `env_file`) is asked about each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.engine.base import Pool
from lab.errors import UsageError
from lab.project.declaration import BLOCK, Declaration, Scale
from lab.project.declaration import read as read_declaration
from lab.project.settings import Settings
from lab.project.topology import Network, Service, Topology, of_document

NAME = "config.json"
FORM = 1
"""Of that file; another number is as good as no file."""

_BRINGS_OTHERS = re.compile(r"\b(include|extends|env_file)\b")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")

Ask = Callable[[], str]
"""What `compose config` says of all services, in YAML."""


@dataclass(frozen=True)
class Config:
    """The project, as it is to be."""

    topology: Topology
    declaration: Declaration
    digest: str
    """Of all that Compose says; another digest means that something is to be made otherwise."""

    @property
    def scalable(self) -> dict[str, int]:
        """The services that may be scaled, each with how far."""
        if self.declaration.scale:
            return {name: scale.most for name, scale in self.declaration.scale.items()}
        return {
            service.name: Scale().most
            for service in self.topology.hosts
            if not service.container_name and not any(service.addresses.values())
        }


def read(settings: Settings, command: Sequence[str], ask: Ask) -> Config:
    """The project's configuration; UsageError for one that makes no sense, in Compose's words where it is Compose's."""
    texts = [(path, _text(path)) for path in settings.compose_files]
    key = None
    if not any(_BRINGS_OTHERS.search(text) for _, text in texts):
        key = _key(settings, command, texts)
        if kept := _load(settings, key):
            return kept
    found = _read(settings, texts, ask)
    if key:
        _keep(settings, key, found)
    return found


def _read(settings: Settings, texts: Sequence[tuple[Path, str]], ask: Ask) -> Config:
    import yaml  # slow to import, and seldom needed

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as quick, where there

    def load(text: str) -> dict[str, Any]:
        """Nothing where it is no mapping: Compose tells what is wrong with a file of its own."""
        with contextlib.suppress(yaml.YAMLError):
            document = yaml.load(text, Loader=loader)
            if isinstance(document, dict):
                return document
        return {}

    documents = [(path, load(text)) for path, text in texts]
    declaration = read_declaration([(path, one[BLOCK]) for path, one in documents if BLOCK in one])
    declaration.check(settings.variables, settings.env_file)
    text = ask()
    order = [name for _, one in documents for name in one.get("services") or ()]
    topology = of_document(
        load(text),
        settings.named_project or _project_of(settings.root),
        order=list(dict.fromkeys(order)),
        profiles=(settings.variables.get("COMPOSE_PROFILES") or "").split(","),
        layers=declaration.layers,
    )
    if unknown := sorted({*declaration.layers, *declaration.scale} - set(topology.services)):
        raise UsageError(
            f"{texts[0][0]}: {BLOCK} speaks of services that there are not: {', '.join(unknown)}",
            f"There are: {', '.join(topology.services) or 'none'}.",
        )
    return Config(topology, declaration, hashlib.sha256(text.encode()).hexdigest())


def refused(path: Path, lines: Sequence[str], command: Sequence[str]) -> UsageError:
    """The error for a file about which Compose will say nothing but these lines."""
    said = [line.strip() for line in lines if line.strip()]
    return UsageError(
        f"Compose refuses {path}: {' | '.join(said[-5:]) or 'it does not say why'}",
        f"Mend the file; {' '.join(Path(word).name for word in command)} config looks at it again.",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # Compose tells of it


def _project_of(root: Path) -> str:
    """The name that Compose makes of the folder's, where nothing sets one."""
    return re.sub("[^-_a-z0-9]", "", root.name.lower()).lstrip("-_") or "default"


# ---- kept


def _key(settings: Settings, command: Sequence[str], texts: Sequence[tuple[Path, str]]) -> str:
    """Digest of what the answer comes of: Compose, the files, and the variables that these speak of."""
    program = Path(command[0])
    with contextlib.suppress(OSError):
        program = program.resolve()
    named = {name for _, text in texts for name in _VARIABLE.findall(text)}
    parts = [str(FORM), *command, str(program), str(program.stat().st_mtime_ns if program.exists() else 0)]
    parts += [part for path, text in texts for part in (str(path), text)]
    parts += [
        f"{name}={value}"
        for name, value in sorted(settings.variables.items())
        if name in named or name.startswith(("COMPOSE_", "LAB_"))
    ]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def _load(settings: Settings, key: str) -> Config | None:
    try:
        kept = json.loads((settings.state / NAME).read_text())
        if kept["key"] != key:
            return None
        topology, declaration = kept["topology"], kept["declaration"]
        return Config(
            Topology(
                topology["project"],
                {name: Service(**one) for name, one in topology["services"].items()},
                {
                    name: Network(**{**one, "pools": tuple(Pool(**pool) for pool in one["pools"])})
                    for name, one in topology["networks"].items()
                },
                topology["volumes"],
            ),
            Declaration(
                **{
                    **declaration,
                    "scale": {name: Scale(**one) for name, one in declaration["scale"].items()},
                    "layers": tuple(declaration["layers"]),
                }
            ),
            kept["digest"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(settings: Settings, key: str, config: Config) -> None:
    """For the next command; where that cannot be written, it asks again."""
    path = settings.state / NAME
    partial = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        make_state(settings)
        partial.write_text(json.dumps({"key": key, **asdict(config)}))
        partial.replace(path)


def make_state(settings: Settings) -> None:
    """Have the folder of what is remembered, out of the sight of git."""
    if not settings.state.is_dir():
        settings.state.mkdir(exist_ok=True)
        (settings.state / ".gitignore").write_text("*\n")
