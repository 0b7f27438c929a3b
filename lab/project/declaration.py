"""What is special about a project, as its Compose file says in the `x-lab:` block, which Compose passes over.

All of it is optional. `x-lab.schema.json`, beside this file, is its form, for editors and for the check here.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import UsageError

SCHEMA = Path(__file__).with_name("x-lab.schema.json")
BLOCK = "x-lab"


@dataclass(frozen=True)
class Scale:
    """How far a service may be scaled, and the setting that says how far it is by default."""

    setting: str = ""
    most: int = 1000


@dataclass(frozen=True)
class Declaration:
    """The `x-lab:` block."""

    subnets: Mapping[str, str] = field(default_factory=dict)
    """By network, the setting that chooses its subnet: the first three numbers of a /24."""
    scale: Mapping[str, Scale] = field(default_factory=dict)
    """By service; where there is any, no other service may be scaled."""
    layers: tuple[str, ...] = ()
    """Services that are only images for others to build upon, and are never started."""
    rebuild: bool = False
    """Whether `lab up` builds each image whose folder has changed; else Compose builds those that are missing."""
    disposable: bool = False
    """Whether nothing in the project is worth keeping: `down` takes the volumes, too."""
    transcripts: str = ""
    """The file that `lab replay` plays, seen from the project's folder."""

    def check(self, variables: Mapping[str, str], place: Path) -> None:
        """Raise UsageError for a setting that makes no sense, before Compose stumbles over it; `place` is the .env."""
        for network, name in self.subnets.items():
            if (text := variables.get(name)) and not _has_hosts(text):
                raise UsageError(
                    f"{name}, which chooses the subnet of {network}, is {text!r}",
                    f"Set it to the first three numbers of a private network, such as 192.168.7, in {place}.",
                )
        for scale in self.scale.values():
            text = variables.get(scale.setting) or "0"
            if not re.fullmatch("[0-9]{1,6}", text) or int(text) > scale.most:
                raise UsageError(
                    f"{scale.setting} is {reprlib.repr(text)}",
                    f"Set it to a whole number from 0 to {scale.most}, in {place}.",
                )

    def remedy(self, *networks: str) -> str:
        """How to give these networks other subnets, as the end of a sentence."""
        settings = [self.subnets[name] for name in networks if name in self.subnets]
        if settings:
            return f"set {' and '.join(settings)} in .env"
        return "give the network another subnet (ipam, in the Compose file)"


def read(blocks: Sequence[tuple[Path, Any]]) -> Declaration:
    """The declaration of the blocks of several files, each with the file's path; of a key in two, the later counts."""
    merged: dict[str, Any] = {}
    for path, block in blocks:
        _require_form(block, path)
        merged.update(block)
    scale = {name: Scale(**entry) for name, entry in merged.pop("scale", {}).items()}
    layers = tuple(merged.pop("layers", ()))
    return Declaration(scale=scale, layers=layers, **merged)


def _require_form(block: Any, path: Path) -> None:
    import jsonschema.validators  # slow to import, and only a changed file is read

    validator = jsonschema.validators.validator_for(_schema())(_schema())
    for error in sorted(validator.iter_errors(block), key=lambda error: list(map(str, error.absolute_path))):
        place = ".".join([BLOCK, *map(str, error.absolute_path)])
        known = ", ".join(sorted(_schema()["properties"]))
        raise UsageError(f"{path}: {place}: {error.message}", f"An x-lab block may say: {known}.")


@functools.cache
def _schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SCHEMA.read_text())
    return loaded


def _has_hosts(text: str) -> bool:
    """Whether these are the first three numbers of a /24 whose addresses a host can have."""
    try:
        first = ipaddress.IPv4Network(f"{text}.0/24").network_address.packed[0]
    except ValueError:
        return False
    return 0 < first < 224 and first != 127
