"""What the lab asks of a container engine: one narrow protocol, with records instead of the engine's own dictionaries.

`lab.engine.docker_engine` is the real one; `tests/unit/fake_engine.py` the one that tests use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
TEMPORARY_LABEL = "lab.temporary"
"""On containers that Compose does not know (captures, a test's own hosts); its value is the project's name."""
OWNER_LABEL = "lab.owner"
"""On the same: the process that made it (`lab.engine.ownership`)."""
HOSTEXEC_LABEL = "lab.hostexec"
"""On images, and so on containers, that hold the program which runs commands for us: the path it has there."""


@dataclass(frozen=True)
class Container:
    """One container as the engine lists it."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    """`created`, `running`, `paused`, `restarting`, `exited` or `dead`."""
    health: str
    """`starting`, `healthy` or `unhealthy`; empty without a health check, or when it does not run."""
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    """IPv4 address by the engine's name of the network."""
    status: str = ""
    """The engine's own words, such as `Exited (1) 3 seconds ago`; of one that was asked for by its id less of them."""
    network_mode: str = ""
    """`host`: the machine's own network; `container:ID`: that container's; `none`; else of no matter."""

    @property
    def project(self) -> str:
        return self.labels.get(PROJECT_LABEL, "")

    def is_host_of(self, project: str) -> bool:
        """Whether it is one of the project's hosts: what `compose run` makes has their labels, too, and is none."""
        return self.is_of_compose(project) and self.labels[ONE_OFF_LABEL] == "False"

    def is_of_compose(self, project: str) -> bool:
        """Whether Compose made it for the project.

        Its project and service alone do not say so: Compose 2 writes both on the images that it builds, and whatever
        is made of such an image has them from there.
        """
        return self.project == project and ONE_OFF_LABEL in self.labels

    def is_temporary(self, project: str) -> bool:
        """Whether a lab made it beside Compose, for that project."""
        return self.labels.get(TEMPORARY_LABEL) == project

    @property
    def service(self) -> str:
        return self.labels.get(SERVICE_LABEL, "")

    @property
    def number(self) -> int:
        return int(self.labels.get(NUMBER_LABEL, "1"))


@dataclass(frozen=True)
class Pool:
    """A block of addresses that a network hands out: subnets in CIDR notation; empty where the engine chooses."""

    subnet: str
    gateway: str = ""
    ip_range: str = ""


@dataclass(frozen=True)
class NetworkRecord:
    """One network as the engine lists it."""

    id: str
    name: str
    pools: tuple[Pool, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    """Those that whoever made it gave to its driver, and those that the engine added."""

    @property
    def subnets(self) -> tuple[str, ...]:
        """In CIDR notation."""
        return tuple(pool.subnet for pool in self.pools)


@dataclass(frozen=True)
class Event:
    """Something that happened to a container: `start`, `die`, `health_status: healthy`, …"""

    container: str
    action: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> Container:
        """The container, as far as an event describes it: by its names and labels."""
        name, image = self.attributes.get("name", ""), self.attributes.get("image", "")
        return Container(self.container, name, image, image_id="", state="", health="", labels=self.attributes)


@dataclass(frozen=True)
class EngineVersion:
    version: str
    """Of the engine, not of any client in front of it."""
    api: tuple[int, int]
    product: str = "Docker Engine"
    """Or `Podman`, whose socket speaks the same language."""
    place: str = "unix:///var/run/docker.sock"
    """Its address, and what names that where it is not this machine's own."""
    rootless: bool = False
    """Whether it runs as an ordinary user."""


@dataclass(frozen=True)
class EngineFacts:
    """How an engine is set up, as far as it tells."""

    here: bool
    """Whether it runs on this machine: behind a socket may be a virtual one, or what a tunnel leads to."""
    live_restore: bool = False
    """Whether containers go on while the engine is restarted."""
    firewall: str = ""
    """What it writes its rules with: `iptables`, `nftables`, `iptables+firewalld`; empty where it does not tell."""


@dataclass(frozen=True)
class TemporaryContainer:
    """What a container beside Compose's is made of."""

    image: str
    project: str
    command: Sequence[str] | None = None
    networks: Mapping[str, str | None] = field(default_factory=dict)
    """Fixed address, or None, by the engine's name of the network."""
    network_of: str | None = None
    """The id of a container whose network it shares instead."""
    processes_of: str | None = None
    """The id of a container whose processes it sees, and may signal if it is given the capability."""
    user: str | None = None
    cap_add: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Names for its /etc/hosts."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Volume name or absolute path to the place it is mounted at."""


class Transport(Protocol):
    """A stream of bytes to and from a program in a container; one thread sends while another receives."""

    def send(self, data: bytes) -> None:
        """Send all of it, or raise OSError."""

    def recv(self, size: int) -> bytes:
        """At least one byte and at most `size`; empty at the end; or raise OSError."""

    def close(self) -> None:
        """End both directions; a `recv` that waits in another thread comes back."""

    @property
    def complaint(self) -> bytes:
        """What the program has written to its standard error, if that can be known."""


@dataclass(frozen=True)
class ExecState:
    """What the engine knows of a program that it was asked to run in a container."""

    running: bool
    """Whether it has not ended; true, too, before it has started."""
    started: bool
    """False for ever if it could not be started."""
    exit: int | None
    """Its exit code; 128 + n when signal n killed it. None while it runs, and where the container took it along."""


class Exec(Protocol):
    """A program in a container, its three streams apart. One thread sends, one receives, any may do the rest."""

    def send(self, data: bytes, seconds: float) -> int:
        """How many bytes of `data` could be sent within so many seconds, perhaps 0; or raise OSError."""

    def end_input(self) -> None:
        """End its standard input; output goes on. No error when the connection has ended."""

    def receive(self) -> Sequence[tuple[int, bytes]]:
        """The next pieces of its output, each with its stream, 1 or 2; none at the end; or raise OSError."""

    def state(self) -> ExecState:
        """HostError when the container is gone."""

    def close(self) -> None:
        """End the connection, not the program; a `receive` that waits in another thread comes back."""


class Stream(Protocol[T_co]):
    """Something the engine goes on telling; an iteration raises MachineError when the engine breaks off."""

    def __iter__(self) -> Iterator[T_co]: ...

    def close(self) -> None:
        """End it; an iteration in another thread ends, too."""


class Engine(Protocol):
    """Errors are `lab.errors.MachineError` (engine, rights, disk) and `HostError` (that container)."""

    def close(self) -> None:
        """Give the connections back; the next call opens new ones."""

    def version(self) -> EngineVersion: ...

    def facts(self) -> EngineFacts: ...

    def containers(self) -> list[Container]:
        """All containers of the engine, running or not."""

    def container(self, container: str) -> Container | None:
        """The one with this id; None when it is gone. Unlike the list, it never lacks one that is just changing."""

    def networks(self) -> list[NetworkRecord]: ...

    def volumes(self, project: str) -> list[str]:
        """Names of the volumes that Compose made for the project."""

    def events(self) -> Stream[Event]:
        """The containers' events from now on."""

    def open_exec(self, container: str, argv: Sequence[str], user: str | None) -> Transport:
        """Run a program in the container; what it reads and writes is the transport. Not bound to a terminal."""

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Exec:
        """Run a program in the container, not bound to a terminal.

        For one that cannot be started, the engine writes its reason to standard output and makes up an exit code.
        """

    def health_command(self, container: str) -> Sequence[str]:
        """The container's own health check as an argument list; empty when it has none."""

    def health_said(self, container: str) -> str | None:
        """What the last run of the container's own health check by the engine wrote; None where none has ended."""

    def started_at(self, container: str) -> str:
        """The moment of its last start, as the engine writes it; another text means another network namespace."""

    def logs(
        self, container: str, *, since: float | None = None, follow: bool = False, tail: int | None = None
    ) -> Stream[bytes]:
        """Chunks of what the container wrote to standard output and error; `since` in seconds since 1970."""

    def act(self, container: str, action: str, **arguments: object) -> None:
        """`start`, `stop`, `restart`, `pause`, `unpause` or `kill` (with `signal`) the container."""

    def create(self, wanted: TemporaryContainer) -> str:
        """Make and start a container; its id."""

    def wait(self, container: str, seconds: float) -> int | None:
        """The exit code of a container's main program; None if it has not ended after so many seconds."""

    def remove(self, container: str) -> None:
        """Remove a container with its anonymous volumes, running or not; no error when it is gone."""

    def remove_network(self, network: str) -> None: ...

    def remove_volume(self, volume: str) -> None: ...

    def memory(self, container: str) -> int | None:
        """Bytes in use without the page cache, as the engine's own command counts them; None when it counts none."""

    def free_disk(self) -> int | None:
        """Bytes free where the engine keeps its data, or None when that cannot be seen from here."""
