"""The lab's images: which of them must be built, and what they take on disk. Compose builds them; this decides when."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from lab.build import cache as build_cache
from lab.engine.images import ImageStore
from lab.errors import MachineError
from lab.progress import Progress
from lab.project.settings import Settings
from lab.project.topology import Service, Topology

DEBIAN = "datagram-lab/debian:bookworm"
"""Debian 12 under a name of the tool's own, for Dockerfiles to start from; `lab.build.base_image` has it made."""
COMPILE_LABEL = "lab.stage=compile"
"""On a stage that only compiles: the classic builder leaves an image of it, which is of no use afterwards."""


# ---- what must be built -------------------------------------------------------------------------------------
#
# After each build the lab writes down, for each image, what it was made from and which image came out. An image is
# fresh while all three are the same: the content of its folder, the images it starts from, and itself. So a rebuild
# by plain Compose, or an image that somebody else tagged, counts as stale; building it again from the cache is cheap.


@dataclass(frozen=True)
class Source:
    """What one image is made from."""

    service: Service
    content: str
    """Digest of the build folder."""
    bases: tuple[str, ...]
    """Names of the lab's images that its Dockerfile starts or copies from."""


def stale(
    store: ImageStore, topology: Topology, settings: Settings, known: Mapping[str, str] | None = None
) -> list[Service]:
    """The services whose images must be built, one an image, bases first.

    `known` spares questions: ids by name that the engine has told just now, as when it listed the containers.
    """
    sources = _sources(topology)
    ids = _ids(store, sources, settings, known or {})
    record = _Record.load(settings.state)
    found: dict[str, Source] = {}
    folders = set()
    for image, source in sources.items():
        if (
            record.entry(image) != _entry(source, ids, ids[image])
            or not ids[image]
            or any(base in found for base in source.bases)
        ):
            found[image] = source
            folders.add(source.service.build)
    # The stages of one Dockerfile are built together, so that they share their layers.
    return [source.service for image, source in sources.items() if image in found or source.service.build in folders]


def begin(topology: Topology, settings: Settings, stale: Sequence[Service]) -> None:
    """Write down what these are about to be built from: a folder that is edited meanwhile then counts as stale."""
    sources = _sources(topology)
    record = _Record.load(settings.state)
    record.change({service.image: {"content": sources[service.image].content} for service in stale})


def build_order(topology: Topology, stale: Sequence[Service]) -> TopologicalSorter[str]:
    """The names of the stale services, each after those whose images it starts from.

    The stages of one Dockerfile come one after the other: side by side they would do their common steps twice.
    """
    sources = _sources(topology)
    by_image = {service.image: service.name for service in stale}
    order: TopologicalSorter[str] = TopologicalSorter()
    last_of: dict[Path | None, str] = {}
    for service in stale:
        before = {by_image[base] for base in sources[service.image].bases if base in by_image}
        if service.build in last_of:
            before.add(last_of[service.build])
        order.add(service.name, *before)
        last_of[service.build] = service.name
    return order


def remember(store: ImageStore, topology: Topology, settings: Settings) -> None:
    """Write down that what was begun has been built, and remove what the builder left behind."""
    sources = _sources(topology)
    ids = _ids(store, sources, settings, {})
    record = _Record.load(settings.state)
    built = {}
    for image, source in sources.items():
        seen = record.entry(image)
        if "image" not in seen and seen.get("content"):
            built[image] = {**_entry(source, ids, ids[image]), "content": seen["content"]}
    record.change(built)
    store.prune(COMPILE_LABEL)


def _entry(source: Source, ids: Mapping[str, str | None], image: str | None) -> dict[str, Any]:
    return {"content": source.content, "bases": {base: ids[base] for base in source.bases}, "image": image}


def _ids(
    store: ImageStore, sources: Mapping[str, Source], settings: Settings, known: Mapping[str, str]
) -> dict[str, str | None]:
    ids = {name: known.get(name) or store.id_of(name) for name in [DEBIAN, *sources]}
    if settings.base not in ("auto", "pull", "build") and store.id_of(settings.base) != ids[DEBIAN]:
        ids[DEBIAN] = None  # lab.base_image will replace it
    return ids


def start_from_debian(topology: Topology) -> bool:
    """Whether a Dockerfile of the project names DEBIAN."""
    return any(DEBIAN in _images_named(dockerfile) for dockerfile in _dockerfiles(topology))


def own(topology: Topology) -> list[str]:
    """The names of the images that the project builds; of one that Compose names, the names that it may have."""
    built = [service for service in topology.services.values() if service.context]
    return list(dict.fromkeys(name for service in built for name in names_of(service, topology.project)))


def names_of(service: Service, project: str) -> list[str]:
    """The name of the image that is built for a service; where Compose makes it up, as its versions do."""
    return [service.image] if service.image else [f"{project}{separator}{service.name}" for separator in "-_"]


def _dockerfiles(topology: Topology) -> set[Path]:
    return {service.build / service.dockerfile for service in topology.services.values() if service.build}


def _sources(topology: Topology) -> dict[str, Source]:
    """By image, bases first."""
    services: dict[str, Service] = {}
    for service in topology.services.values():
        if service.build and service.image:
            services.setdefault(service.image, service)
    contents = {folder: _digest(folder) for folder in {service.build for service in services.values()} if folder}
    dockerfiles = {service.build: service.build / service.dockerfile for service in services.values() if service.build}
    named = {folder: _images_named(file) & {DEBIAN, *services} for folder, file in dockerfiles.items()}
    ordered: dict[str, Source] = {}

    def add(image: str, waiting: frozenset[str]) -> None:
        service = services[image]
        assert service.build
        bases = tuple(sorted(named[service.build] - {image}))
        for base in bases:
            if base in services and base not in ordered and base not in waiting:
                add(base, waiting | {image})
        ordered[image] = Source(service, contents[service.build], bases)

    for image in services:
        if image not in ordered:
            add(image, frozenset())
    return ordered


def _images_named(dockerfile: Path) -> set[str]:
    """Every word of the instructions that can name an image to start or to copy from."""
    lines = re.findall(r"^\s*(?:FROM|ARG|COPY\s+--from)\b.*", _text(dockerfile), re.MULTILINE | re.IGNORECASE)
    return set(re.findall(r"[\w./:-]+", "\n".join(lines)))


def _text(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text(errors="replace")
    except OSError:
        return ""  # Compose will say that there is none


def _digest(folder: Path) -> str:
    """Of every file's path, content and right to be executed, as the engine would get them."""
    digest = hashlib.sha256()
    try:
        for path, entry in _files(str(folder), ""):
            if entry.is_symlink():
                content = os.fsencode(os.readlink(entry.path))  # noqa: PTH115 - a hundred files on the quick path
            else:
                with open(entry.path, "rb") as file:  # noqa: PTH123
                    content = file.read()
            executable = entry.stat(follow_symlinks=False).st_mode & 0o111
            digest.update(os.fsencode(f"{path}\0{executable}\0{len(content)}\0"))
            digest.update(content)
    except OSError as error:
        lost = Path(error.filename or folder)
        raise MachineError(
            f"{lost}, of which an image is to be built, cannot be read: {error.strerror}",
            f"Look at it (ls -l {lost.parent}); if it was only being edited, repeat.",
        ) from error
    return digest.hexdigest()


def _files(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files and links below the folder, in order, by the path from it; without what Python compiled by the way."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # Compose will say that there is no such folder
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from _files(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_symlink() or entry.is_file():
            yield prefix + entry.name, entry


class _Record:
    """`.lab/images.json`: by image, what it was made from and its id; without `image` while it is being built."""

    def __init__(self, path: Path, entries: dict[str, dict[str, Any]]) -> None:
        self._path = path
        self._entries = entries

    @classmethod
    def load(cls, state: Path) -> _Record:
        path = state / "images.json"
        try:
            entries = json.loads(path.read_text())
        except (OSError, ValueError):
            entries = {}
        return cls(path, entries if isinstance(entries, dict) else {})

    def entry(self, image: str) -> dict[str, Any]:
        entry = self._entries.get(image)
        return entry if isinstance(entry, dict) else {}

    def change(self, entries: Mapping[str, dict[str, Any]]) -> None:
        self._entries.update(entries)
        partial = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(exist_ok=True)
            partial.write_text(json.dumps(self._entries, indent=1))
            partial.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            folder = self._path.parent
            raise MachineError(
                f"the lab cannot write {self._path}: {error.strerror}",
                f"Make room there (df -h {folder}), or take it over (sudo chown -R $USER {folder}); then repeat.",
            ) from error


# ---- their end ----------------------------------------------------------------------------------------


def remove_all(store: ImageStore, topology: Topology, progress: Progress) -> None:
    """Remove every image that the project builds, and what the builder keeps of them. Its hosts must be down.

    The Debian base that they start from goes, too, when no image of anybody else stands upon it.
    """
    names = own(topology)
    nameless = store.leftovers(names)  # recognised by what they share with those that have names
    for image in [*store.present(names), *nameless]:
        progress.detail(image)
        store.remove(image)
    if start_from_debian(topology) and not store.built_on(DEBIAN):
        progress.detail(DEBIAN)
        store.remove(DEBIAN)
    steps = set().union(*(build_cache.instructions(_text(path)) for path in _dockerfiles(topology)))
    for entry in build_cache.own(store.cache(), steps):
        progress.detail(f"{entry} of the build cache")
        store.remove_from_cache(entry)
