"""`lab.engine.images.ImageStore` over the real engine."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import docker.errors
import requests

from lab.engine.docker_engine import DockerEngine
from lab.engine.docker_errors import explained
from lab.engine.images import CacheEntry, Layer, NotPulled, packed_size, shared_size
from lab.errors import MachineError
from lab.progress import Progress

PULL_SILENCE = 60
"""Seconds without a word about a pull after which the registry counts as out of reach."""


class DockerImageStore:
    """Images of the engine; all ids with their `sha256:`.

    Never asks `/system/df` about images, which reads every file of every layer and takes minutes on some storage
    drivers, nor on a quick path for the list of images, which adds up the sizes of all.
    """

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

    @property
    def _client(self) -> Any:
        return self._engine.client

    def id_of(self, name: str) -> str | None:
        record = self._inspect(name)
        return record["Id"] if record else None

    def present(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self._inspect(name)]

    def names_of(self, repository: str) -> list[str]:
        with self._explained():
            found = self._client.images(filters={"reference": [repository]})
        return sorted(tag for image in found for tag in image["RepoTags"] or [])

    def build(self, name: str, files: Mapping[str, bytes], arguments: Mapping[str, str], progress: Progress) -> None:
        with self._explained(name):
            lines = self._client.build(
                fileobj=_archive(files),
                custom_context=True,
                tag=name,
                buildargs=dict(arguments),
                forcerm=True,
                decode=True,
            )
            for line in lines:
                if message := line.get("error"):
                    raise MachineError(f"the engine cannot build {name}: {_sentence(message)}", _NETWORK)
                if text := line.get("stream", "").strip():
                    progress.detail(text)

    def leftovers(self, names: Sequence[str]) -> list[str]:
        with self._explained():
            nameless = [self._inspect(image["Id"]) for image in self._client.images(filters={"dangling": True})]
        shared = [self._layers(self._inspect(name)) for name in names]
        return [
            image["Id"]
            for image in nameless
            if image
            and (
                "lab.stage" in (image["Config"].get("Labels") or {})
                or any(layers and self._layers(image)[: len(layers)] == layers for layers in shared)
            )
        ]

    def built_on(self, name: str) -> list[str]:
        base = self._inspect(name)
        layers = self._layers(base)
        if not base or not layers:
            return []
        with self._explained():
            others = [self._inspect(one["Id"]) for one in self._client.images() if one["Id"] != base["Id"]]
        above = [one for one in others if one and self._layers(one)[: len(layers)] == layers]
        return [tag for one in above for tag in one.get("RepoTags") or []]

    def history(self, image: str) -> list[Layer]:
        with self._explained(image):
            steps = self._client.history(image)
        return [Layer(step["Created"], step["CreatedBy"], step["Size"]) for step in reversed(steps)]

    def disk_usage(self, names: Sequence[str]) -> int:
        images = [*self.present(names), *self.leftovers(names)]
        return shared_size(map(self.history, images)) + self._packed(images)

    def _packed(self, images: Iterable[str]) -> int:
        """What containerd, where it keeps the images, has of each layer beside its files: a packed copy."""
        with self._explained():
            status = self._client.info().get("DriverStatus") or []
        if ["driver-type", "io.containerd.snapshotter.v1"] not in status:
            return 0
        records = [record for image in images if (record := self._inspect(image))]
        return packed_size({tuple(self._layers(record)): record["Size"] for record in records})

    def pull(self, name: str, progress: Progress) -> None:
        image, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
        client = self._client
        # The SDK's own pull waits forever.
        url = f"{client.base_url}/v{client.api_version}/images/create"
        with self._explained():
            try:
                answer = client.post(url, params={"fromImage": image, "tag": tag}, stream=True, timeout=PULL_SILENCE)
            except requests.Timeout as error:
                raise _silent(name) from error
        with contextlib.closing(answer):
            try:
                if not answer.ok:
                    raise NotPulled(f"{name}: {_sentence(answer.text)}", _OTHER_SOURCES)
                _follow(name, map(json.loads, answer.iter_lines()), progress)
            except (requests.Timeout, requests.ConnectionError) as error:  # so requests calls a silence in a body
                raise _silent(name) from error
            except (requests.RequestException, ValueError) as error:  # the engine has ended, between lines or in one
                raise NotPulled(f"{name}: the engine broke off in the middle of its answer", _REPEAT) from error

    def import_tar(self, chunks: Iterable[bytes], name: str, changes: Sequence[str]) -> None:
        image, _, tag = name.rpartition(":")
        failure: list[BaseException] = []

        def body() -> Iterator[bytes]:
            try:
                yield from chunks
            except BaseException as error:  # requests wraps some errors of a body; this one is told as it is
                failure.append(error)
                raise

        try:
            with self._explained(name):
                answer = self._client.import_image_from_stream(body(), repository=image, tag=tag, changes=list(changes))
        except BaseException as error:
            if failure:
                raise failure[0] from error
            raise
        for line in str(answer).splitlines():
            if message := json.loads(line).get("error"):
                raise MachineError(f"the engine cannot import {name}: {message}", _ROOM)

    def tag(self, image: str, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        with self._explained(image):
            self._client.tag(image, repository, tag, force=True)

    def remove(self, name: str) -> None:
        with self._explained(name), contextlib.suppress(docker.errors.NotFound):
            self._client.remove_image(name, force=True)

    def remove_unused(self, name: str) -> None:
        with self._explained(name), contextlib.suppress(docker.errors.NotFound):
            try:
                self._client.remove_image(name)
            except docker.errors.APIError as error:
                if error.status_code != 409:  # Conflict: a container is made of it
                    raise

    def prune(self, label: str) -> None:
        with self._explained():
            self._client.prune_images(filters={"dangling": True, "label": [label]})

    def cache(self) -> list[CacheEntry]:
        client = self._client
        if tuple(map(int, client.api_version.split("."))) < (1, 42):
            return []  # the question cannot be put there without that for the size of every layer
        with self._explained():
            answer = client.get(f"{client.base_url}/v{client.api_version}/system/df", params={"type": "build-cache"})
            answer.raise_for_status()
        return [_cache_entry(entry) for entry in answer.json().get("BuildCache") or []]

    def remove_from_cache(self, entry: str) -> None:
        with self._explained(entry):
            self._client.prune_builds(filters={"id": [entry]}, all=True)

    def _inspect(self, name: str) -> dict[str, Any] | None:
        with self._explained(name):
            try:
                found: dict[str, Any] = self._client.inspect_image(name)
            except docker.errors.NotFound:
                return None
        return found

    @staticmethod
    def _layers(image: Mapping[str, Any] | None) -> list[str]:
        return list((image or {}).get("RootFS", {}).get("Layers") or [])

    def _explained(self, what: str = "") -> contextlib.AbstractContextManager[None]:
        return explained(self._engine.address, what)


_OTHER_SOURCES = "Set LAB_BASE=build to build it from Debian's packages, or name an image of Debian 12 in LAB_BASE."
_REPEAT = "lab doctor tells whether the engine still runs; then repeat."
_NETWORK = "Its packages come from Debian: look at the engine's network (lab doctor), then repeat."
_ROOM = "Make room on the engine's disk (docker system df shows what fills it), then repeat."


def _archive(files: Mapping[str, bytes]) -> io.BytesIO:
    """What a builder gets: the files, the same however often they are packed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    return packed


def _cache_entry(entry: Mapping[str, Any]) -> CacheEntry:
    # Engines 23 to 28 put a space before the name of the field.
    parents = entry.get("Parents") or entry.get(" Parents") or []
    return CacheEntry(entry["ID"], tuple(parents), entry.get("Description", ""))


def _silent(name: str) -> NotPulled:
    return NotPulled(f"{name}: the registry was silent for {PULL_SILENCE} s", _OTHER_SOURCES)


def _follow(name: str, messages: Iterator[Mapping[str, Any]], progress: Progress) -> None:
    """Add up what the registry says of each layer."""
    arrived: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for message in messages:
        if error := message.get("error"):
            raise NotPulled(f"{name}: {_sentence(error)}", _OTHER_SOURCES)
        numbers = message.get("progressDetail") or {}
        if message.get("status") == "Downloading" and numbers.get("total"):
            layer = message.get("id", "")
            arrived[layer], sizes[layer] = numbers["current"], numbers["total"]
            progress.detail(f"{sum(arrived.values()) / 1e6:.0f} of {sum(sizes.values()) / 1e6:.0f} MB")
        elif not numbers:
            progress.detail(message.get("status", ""))


def _sentence(text: str) -> str:
    """The engine's message, out of its JSON where it is in any, on one line."""
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message", text)
    return " ".join(text.split())
