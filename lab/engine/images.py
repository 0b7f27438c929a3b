"""What the lab asks of an engine about images, and what it is told.

`lab.engine.docker_images` is the real store; `tests/unit/fake_store.py` the one that tests use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lab.errors import MachineError
from lab.progress import Progress


@dataclass(frozen=True)
class CacheEntry:
    id: str
    parents: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class Layer:
    """One step of an image's history; two images that begin with the same steps share these layers on disk."""

    created: int
    made_by: str
    size: int
    """Bytes that this step added; 0 for a step that changed no file."""


class NotPulled(MachineError):
    """The registry did not hand the image out."""


class ImageStore(Protocol):
    """What the lab asks of an engine about images."""

    def id_of(self, name: str) -> str | None: ...

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of the names that an image has."""

    def names_of(self, repository: str) -> list[str]:
        """Of the images in a repository, with their tags."""

    def build(self, name: str, files: Mapping[str, bytes], arguments: Mapping[str, str], progress: Progress) -> None:
        """Build an image of the Dockerfile among these files; MachineError with the builder's words if it fails."""

    def leftovers(self, names: Sequence[str]) -> list[str]:
        """Ids of nameless images that were left by building these: what they begin with is a whole one of them."""

    def built_on(self, name: str) -> list[str]:
        """The names of the other images that begin with all layers of this one."""

    def history(self, image: str) -> list[Layer]:
        """From the first step on."""

    def pull(self, name: str, progress: Progress) -> None:
        """Raises NotPulled with the registry's answer, or when nothing arrives for a minute."""

    def import_tar(self, chunks: Iterable[bytes], name: str, changes: Sequence[str]) -> None:
        """Make an image of one layer of a tar archive. If `chunks` raises, there is none."""

    def tag(self, image: str, name: str) -> None: ...

    def remove(self, name: str) -> None:
        """Take the name away, and the image with its last name. No error when it is gone."""

    def remove_unused(self, name: str) -> None:
        """The same, unless a container is made of it: then all stays, the name too."""

    def prune(self, label: str) -> None:
        """Remove nameless images with the label."""

    def disk_usage(self, names: Sequence[str]) -> int:
        """Bytes that these images and their leftovers take, what they share counted once."""

    def cache(self) -> list[CacheEntry]:
        """What BuildKit keeps of all builds of this engine; nothing where that cannot be told in short time."""

    def remove_from_cache(self, entry: str) -> None:
        """No error when it is gone, or when another entry stands upon it."""


def shared_size(histories: Iterable[Sequence[Layer]]) -> int:
    """Bytes of all layers, each counted once: steps are one layer when all that came before them is the same, too."""
    seen = set()
    total = 0
    for history in histories:
        chain = b""
        for layer in history:
            chain = hashlib.sha256(chain + repr(layer).encode()).digest()
            if chain not in seen:
                seen.add(chain)
                total += layer.size
    return total


def packed_size(images: Mapping[tuple[str, ...], int]) -> int:
    """Bytes of the packed copies of all layers, from those of each image, by its layers.

    What an image shares with a smaller one of these counts once. Layers that two share without such an image count
    twice: the engine does not tell what a single one takes.
    """
    return sum(
        size - max((images[layers[:end]] for end in range(len(layers)) if layers[:end] in images), default=0)
        for layers, size in images.items()
    )
