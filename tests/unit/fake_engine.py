"""An engine in memory: `lab.engine.base.Engine` as data, with a log of what was done to it."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from lab.engine.base import (
    FOLDER_LABEL,
    HOSTEXEC_LABEL,
    NUMBER_LABEL,
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    TEMPORARY_LABEL,
    Container,
    EngineFacts,
    EngineVersion,
    Event,
    Exec,
    NetworkRecord,
    TemporaryContainer,
    Transport,
)
from lab.errors import HostError

T = TypeVar("T")


class FakeStream(Generic[T]):
    """Tells what it is given until it is closed."""

    def __init__(self, entries: Sequence[T] = (), *, endless: bool = False) -> None:
        self.closed = False
        self._entries: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        for entry in entries:
            self._entries.put(entry)
        if not endless:
            self._entries.put(None)

    def put(self, entry: T) -> None:
        self._entries.put(entry)

    def __iter__(self) -> Iterator[T]:
        while (entry := self._entries.get()) is not None:
            yield entry

    def close(self) -> None:
        self.closed = True
        self._entries.put(None)


@dataclass
class FakeEngine:
    records: list[Container] = field(default_factory=list)
    network_records: list[NetworkRecord] = field(default_factory=list)
    volume_names: list[str] = field(default_factory=list)
    log_text: bytes = b""
    set_up: EngineFacts = field(default_factory=lambda: EngineFacts(here=True))
    free: int | None = 50 * 10**9
    used: dict[str, int | None] = field(default_factory=dict)
    """Memory by container's id, where it is not 10 MiB."""
    answer: EngineVersion = field(default_factory=lambda: EngineVersion("20.10.24", (1, 41)))
    done: list[tuple[str, ...]] = field(default_factory=list)
    """Every change, in order."""
    event_streams: list[FakeStream[Event]] = field(default_factory=list)

    def close(self) -> None:
        self.done.append(("close",))

    def version(self) -> EngineVersion:
        return self.answer

    def facts(self) -> EngineFacts:
        return self.set_up

    def containers(self) -> list[Container]:
        return list(self.records)

    def container(self, container: str) -> Container | None:
        return next((record for record in self.records if record.id == container), None)

    def networks(self) -> list[NetworkRecord]:
        return list(self.network_records)

    def volumes(self, project: str) -> list[str]:
        return list(self.volume_names)

    def events(self) -> FakeStream[Event]:
        self.event_streams.append(FakeStream(endless=True))
        return self.event_streams[-1]

    def open_exec(self, container: str, argv: Sequence[str], user: str | None) -> Transport:
        raise HostError(f"{container} runs nothing: it is a fake")

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Exec:
        raise HostError(f"{container} runs nothing: it is a fake")

    def health_said(self, container: str) -> str | None:
        return "not yet"

    def wait(self, container: str, seconds: float) -> int | None:
        self.done.append(("wait", container))
        return 0

    def health_command(self, container: str) -> Sequence[str]:
        return ["check"]

    def started_at(self, container: str) -> str:
        return "2014-07-01T10:26:42Z"

    def logs(
        self, container: str, *, since: float | None = None, follow: bool = False, tail: int | None = None
    ) -> FakeStream[bytes]:
        return FakeStream([self.log_text], endless=follow)

    def act(self, container: str, action: str, **arguments: object) -> None:
        self.done.append((action, container))

    def create(self, wanted: TemporaryContainer) -> str:
        made = f"temporary-{len(self.records)}"
        self.records.append(
            container(made, project="", labels={TEMPORARY_LABEL: wanted.project}, image=wanted.image, id=made)
        )
        self.done.append(("create", made))
        return made

    def remove(self, container: str) -> None:
        self.records = [record for record in self.records if record.id != container]
        self.done.append(("remove", container))

    def remove_network(self, network: str) -> None:
        self.network_records = [record for record in self.network_records if record.id != network]
        self.done.append(("remove_network", network))

    def remove_volume(self, volume: str) -> None:
        self.volume_names.remove(volume)
        self.done.append(("remove_volume", volume))

    def memory(self, container: str) -> int | None:
        return self.used.get(container, 10 * 2**20)

    def free_disk(self) -> int | None:
        return self.free

    def change(self, name: str, **fields: str) -> None:
        """Alter the record of a container."""
        self.records = [replace(record, **fields) if record.name == name else record for record in self.records]


def container(
    service: str,
    number: int = 1,
    *,
    project: str = "small",
    state: str = "running",
    health: str = "healthy",
    folder: str = "",
    labels: dict[str, str] | None = None,
    image: str = "",
    id: str = "",
    addresses: dict[str, str] | None = None,
) -> Container:
    """A record as Compose's containers have it."""
    compose = {
        SERVICE_LABEL: service,
        NUMBER_LABEL: str(number),
        PROJECT_LABEL: project,
        FOLDER_LABEL: folder,
        ONE_OFF_LABEL: "False",
    }
    return Container(
        id=id or f"id-{service}-{number}",
        name=f"{project}_{service}_{number}" if project else service,
        image=image or f"small/{service}",
        image_id="sha256:1",
        state=state,
        health=health if state == "running" else "",
        labels={HOSTEXEC_LABEL: "/usr/libexec/lab/hostexec", **(compose if project else {}), **(labels or {})},
        addresses=addresses or {},
        status="Exited (1) 3 seconds ago" if state == "exited" else "Up 3 seconds",
    )
