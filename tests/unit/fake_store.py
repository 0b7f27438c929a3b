"""An engine's images in memory, and a listener to what is said of work on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lab.engine.images import CacheEntry, Layer, NotPulled
from lab.progress import Progress


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.details: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def close(self) -> None: ...


class FakeStore:
    """An engine's images in memory: id by name."""

    def __init__(self, *names: str, registry: Iterable[str] = ()) -> None:
        self.ids = {name: f"id of {name}" for name in names}
        self.registry = set(registry)
        self.pulled: list[str] = []
        self.pruned: list[str] = []
        self.built: list[str] = []
        self.imported = b""
        self.nameless: list[str] = []
        self.used: set[str] = set()
        self.above: dict[str, list[str]] = {}
        self.cached: list[CacheEntry] = []

    def id_of(self, name: str) -> str | None:
        return self.ids.get(name)

    def present(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.ids]

    def names_of(self, repository: str) -> list[str]:
        return [name for name in self.ids if name.partition(":")[0] == repository]

    def build(self, name: str, files: Mapping[str, bytes], arguments: Mapping[str, str], progress: Progress) -> None:
        assert set(arguments.values()) <= set(self.ids)
        self.built.append(name)
        self.ids[name] = f"built of {', '.join(files)}"

    def leftovers(self, names: Sequence[str]) -> list[str]:
        return self.nameless

    def built_on(self, name: str) -> list[str]:
        return self.above.get(name, [])

    def history(self, image: str) -> list[Layer]:
        return []

    def pull(self, name: str, progress: Progress) -> None:
        self.pulled.append(name)
        if name not in self.registry:
            raise NotPulled(f"{name}: no such host")
        self.ids[name] = f"pulled {name}"

    def import_tar(self, chunks: Iterable[bytes], name: str, changes: Sequence[str]) -> None:
        self.imported = b"".join(chunks)
        self.ids[name] = f"imported with {', '.join(changes)}"

    def tag(self, image: str, name: str) -> None:
        self.ids[name] = self.ids[image]

    def remove(self, name: str) -> None:
        self.ids.pop(name, None)
        self.nameless = [image for image in self.nameless if image != name]

    def remove_unused(self, name: str) -> None:
        if name not in self.used:
            self.remove(name)

    def prune(self, label: str) -> None:
        self.pruned.append(label)

    def disk_usage(self, names: Sequence[str]) -> int:
        return 0

    def cache(self) -> list[CacheEntry]:
        return self.cached

    def remove_from_cache(self, entry: str) -> None:
        assert not any(entry in other.parents for other in self.cached), "another stands upon it"
        self.cached = [other for other in self.cached if other.id != entry]
