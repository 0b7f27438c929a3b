"""The lab as a whole: up, down, its hosts and what state they are in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType

from lab.build import base_image, building, images
from lab.engine.base import HOSTEXEC_LABEL, Container, Engine, NetworkRecord, TemporaryContainer
from lab.engine.images import ImageStore
from lab.errors import HostError, LabError, NoSuchHost, NotRunning, UsageError
from lab.exec.sessions import Sessions
from lab.hosts.host import Host
from lab.hosts.names import names_of
from lab.hosts.status import HostStatus
from lab.lifecycle import last_up, networks, preflight, teardown
from lab.lifecycle.readiness import Readiness, last_words, remedy
from lab.progress import Progress, Silent
from lab.project.compose import Compose
from lab.project.declaration import Declaration
from lab.project.settings import Settings
from lab.project.settings import load as load_settings
from lab.project.topology import Network, Service, Topology, replica_names
from lab.toolbox import image as toolbox

READY_SECONDS = 90.0
"""By then every host has passed its check; a busy machine with two cores takes five."""


class Lab:
    """One lab: a project folder and the engine that carries it. A context manager; `close` leaves the hosts running.

    with Lab() as lab:
        lab.up()
        assert lab.host("client").run(["nc", "-u", "-w1", "server", "4444"], input=b"hi").stdout == b"HI"
    """

    def __init__(
        self,
        settings: Settings | None = None,
        engine: Engine | None = None,
        compose: Compose | None = None,
        store: ImageStore | None = None,
    ) -> None:
        self.settings = settings or load_settings()
        self.compose = compose or Compose(self.settings)
        self._engine = engine
        self._store = store
        self.aside: Progress = Silent()
        """Told of what a call on a host turns out to need first, such as the toolbox; to be set before the first."""
        self._swept = False
        self._passed: set[str] = set()  # containers seen to pass their check; the engine itself looks only later

    @cached_property
    def engine(self) -> Engine:
        if self._engine is None:
            from lab.engine.docker_engine import DockerEngine

            self._engine = DockerEngine(self.settings.variables)
        return self._engine

    @cached_property
    def store(self) -> ImageStore:
        """The engine's images."""
        if self._store is None:
            from lab.engine.docker_engine import DockerEngine
            from lab.engine.docker_images import DockerImageStore

            engine = self.engine
            assert isinstance(engine, DockerEngine), "another engine comes with a store of its own"
            self._store = DockerImageStore(engine)
        return self._store

    @property
    def topology(self) -> Topology:
        """The project's hosts and networks, as Compose says that they are to be."""
        return self.compose.config.topology

    @property
    def declaration(self) -> Declaration:
        """The `x-lab:` block of the project's Compose file."""
        return self.compose.config.declaration

    @property
    def project(self) -> str:
        """The Compose project's name."""
        return self.topology.project

    @cached_property
    def sessions(self) -> Sessions:
        def base() -> str:
            """The project's own Debian, if it has one."""
            return images.DEBIAN if images.start_from_debian(self.topology) else toolbox.OWN_BASE

        box = toolbox.Toolbox(
            self.engine, lambda: self.store, base=base, source=self.settings.base, progress=self.aside
        )
        return Sessions(self.engine, box)

    @property
    def machine(self) -> preflight.Machine:
        """The facts for `lab.lifecycle.preflight`, fresh."""
        return preflight.Machine(self.engine, self.compose, self.settings)

    # Up and down

    def up(self, progress: Progress | None = None, *, build: bool = False) -> list[HostStatus]:
        """Bring every host up and wait until each is ready. Changes nothing that is in order.

        `build` has Compose build every image of the project first, which costs little where nothing has changed.
        """
        progress = progress or Silent()
        with self.compose.locked(progress.step):
            machine = self.machine
            preflight.require(machine)
            teardown.sweep(self.engine, self.project)  # lest Compose stumbles over it
            built = self._images_up(machine.own, progress, build=build)
            self._leave_old_networks(machine.networks, progress)
            with self._readiness(progress) as readiness:
                if built or not last_up.still_holds(self.settings, self.compose.config, machine.own):
                    progress.step(f"starting {len(self.topology.host_names())} hosts")
                    for container in machine.own:
                        if container.state == "paused":  # Compose leaves it as it is
                            self.engine.act(container.id, "unpause")
                    self._start_hosts(progress)
                containers = self._containers()
                self._wait_ready(containers, readiness, progress)
            last_up.remember(self.settings, self.compose.config, containers)
        return self.status()

    def down(self, progress: Progress | None = None, *, with_images: bool = False, volumes: bool = False) -> None:
        """Take away every container and network of the lab; what is gone already is no error.

        Its volumes go with `volumes`, and always where the project says that it is disposable.
        """
        progress = progress or Silent()
        progress.step("stopping the lab")
        with self.compose.locked(progress.step):
            self._take_away(progress, volumes=volumes or self.declaration.disposable)
            if with_images:
                progress.step("removing the lab's images")
                toolbox.remove(self.store, progress)
                images.remove_all(self.store, self.topology, progress)

    def scale(self, service: str, count: int, progress: Progress | None = None) -> list[Host]:
        """Have `count` hosts of a scalable service, and return them when each is ready."""
        progress = progress or Silent()
        known = self.compose.config.scalable
        if service not in known:
            raise UsageError(f"{service!r} cannot be scaled", f"Scalable: {', '.join(sorted(known)) or 'none'}.")
        if not 0 <= count <= known[service]:
            raise UsageError(f"{count} {service}s asked for", f"Ask for 0 to {known[service]}.")
        with self.compose.locked(progress.step):
            machine = self.machine
            preflight.require(machine)
            self._images_up(machine.own, progress)
            self._leave_old_networks(machine.networks, progress)
            progress.step(f"scaling {service} to {count}")
            with self._readiness(progress) as readiness:
                self._start_hosts(progress, {service: count})
                own = {name: one for name, one in self._by_name().items() if one.service == service}
                self._wait_ready(list(own.values()), readiness, progress)
        return [self._host(name, container) for name, container in own.items()]

    # Hosts

    def hosts(self) -> list[Host]:
        """Every host that runs, in the order of the Compose file."""
        return [self._host(name, one) for name, one in self._by_name().items() if one.state == "running"]

    def host(self, name: str) -> Host:
        """The running host of that name. A scalable service's only host also answers to the service's name."""
        name, container = self._find(name)
        if container.state not in ("running", "paused"):
            raise NotRunning(
                f"host {name} is not running ({container.status or container.state})",
                f"lab up starts it; lab logs {name} shows its last words.",
            )
        return self._host(name, container)

    def container_of(self, name: str) -> Container:
        """The engine's record of a host, running or not; NotRunning if there is none, NoSuchHost for no host's name."""
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[str, Container]:
        by_name = self._by_name()
        if name in by_name:
            return name, by_name[name]
        replicas = {other: one for other, one in by_name.items() if one.service == name}
        if len(replicas) == 1:
            return next(iter(replicas.items()))
        if replicas:
            raise UsageError(f"{name} is {len(replicas)} hosts", f"Name one of: {', '.join(replicas)}.")
        known = {*self.topology.host_names(), *by_name}
        if name in known or name in {service.name for service in self.topology.hosts}:
            raise NotRunning(f"host {name} is down", "lab up starts it.")
        raise NoSuchHost(name, known)

    def status(self) -> list[HostStatus]:
        """Every host, running or not, in the order of the Compose file."""
        self._look_afresh()
        rows = []
        by_name = self._by_name()
        for service in self.topology.hosts:
            present = {container.number for container in by_name.values() if container.service == service.name}
            for name in replica_names(service, service.replicas, present):
                rows.append(self._status(name, service, by_name.get(name)))
        return rows

    @contextmanager
    def container(
        self,
        image: str,
        *,
        networks: Sequence[str] | Mapping[str, str | None] = (),
        command: Sequence[str] | None = None,
        network_of: Host | None = None,
        user: str | None = None,
        cap_add: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        sysctls: Mapping[str, str] | None = None,
        volumes: Mapping[str, str] | None = None,
    ) -> Iterator[Host]:
        """A host of one's own for the length of the block, on networks of the lab, or sharing those of another host.

        `networks` names them, or maps each to a fixed address; `volumes` maps a volume of the lab to a place.
        """
        project = self.project
        addresses = dict(networks) if isinstance(networks, Mapping) else dict.fromkeys(networks)
        made = self.engine.create(
            TemporaryContainer(
                image=image,
                project=project,
                command=command,
                networks={self._network(name).full_name: address for name, address in addresses.items()},
                network_of=network_of.id if network_of else None,
                user=user,
                cap_add=cap_add,
                env=env or {},
                sysctls={**NO_IPV6, **(sysctls or {})} if not network_of else {},
                hosts=self._host_names(),
                volumes={self.topology.volumes.get(name, name): place for name, place in (volumes or {}).items()},
            )
        )
        maker = os.getpid()
        try:
            record = self.engine.container(made)
            assert record, "who made it is the one to remove it"
            yield Host(record.name, record, self.engine, self.sessions, self.topology)
        finally:
            if os.getpid() == maker:  # a forked child that leaves the block, too, leaves the container to its parent
                self.sessions.forget(made)
                self.engine.remove(made)

    def close(self) -> None:
        """End the sessions, the captures and the connection to the engine; the hosts go on."""
        if "sessions" in self.__dict__:
            self.sessions.close()
        if "engine" in self.__dict__:
            self.engine.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Inside

    def _take_away(self, progress: Progress, *, volumes: bool) -> None:
        self.sessions.close()
        last_up.forget(self.settings)
        teardown.remove_all(self.engine, self.compose, self.project, progress, volumes=volumes)

    def _leave_old_networks(self, records: Sequence[NetworkRecord], progress: Progress) -> None:
        """Take the hosts down when a network is to be another than it is.

        Compose 1.29 can change no network that is in use. Compose 2 makes it anew and connects the old containers
        again without their fixed addresses, which no later `up` mends.
        """
        if changed := networks.changed(self.topology, records):
            progress.step(f"stopping the lab, since networks of it are to be others: {', '.join(changed)}")
            self._take_away(progress, volumes=self.declaration.disposable)

    def _start_hosts(self, progress: Progress, scale: Mapping[str, int] | None = None) -> None:
        """Have Compose start the hosts; anew, when some come up astray, as after plain Compose changed a network."""
        self.compose.up(progress.detail, scale)
        if strays := networks.astray(self.topology, self._containers()):
            names = ", ".join(names_of(strays, self.topology).values())
            progress.step(f"making the hosts anew, since some have lost their addresses: {names}")
            self._take_away(progress, volumes=self.declaration.disposable)
            self.compose.up(progress.detail, scale)

    def _images_up(self, containers: Sequence[Container], progress: Progress, *, build: bool = False) -> bool:
        """Build what is out of date; whether anything was, so that hosts of the image of before are still there."""
        if self.declaration.rebuild:
            known = {one.image: one.image_id for one in containers if not one.image.startswith("sha256:")}
            return building.build_stale(self.store, self.engine, self.compose, self.settings, known, progress)
        if images.start_from_debian(self.topology):
            base_image.ensure(self.store, source=self.settings.base, progress=progress)
        return building.build_missing(self.store, self.engine, self.compose, progress, all=build)

    def _containers(self) -> list[Container]:
        """Compose's containers of this lab, in the order of the Compose file and of their numbers."""
        order = {name: index for index, name in enumerate(self.topology.services)}
        if not self._swept:
            self._swept = True
            teardown.sweep(self.engine, self.project)
        own = [container for container in self.engine.containers() if container.is_host_of(self.project)]
        return sorted(own, key=lambda container: (order.get(container.service, len(order)), container.number))

    def _by_name(self) -> dict[str, Container]:
        containers = self._containers()
        names = names_of(containers, self.topology)
        return {names[container.id]: container for container in containers}

    def _host(self, name: str, container: Container) -> Host:
        return Host(name, container, self.engine, self.sessions, self.topology)

    def _network(self, name: str) -> Network:
        if network := self.topology.networks.get(name):
            return network
        raise UsageError(
            f"the project has no network {name!r}", f"Networks: {', '.join(self.topology.networks) or 'none'}."
        )

    def _host_names(self) -> dict[str, str]:
        return {
            service.name: address
            for service in self.topology.hosts
            for address in list(service.addresses.values())[:1]
            if address
        }

    def _status(self, name: str, service: Service, container: Container | None) -> HostStatus:
        planned = {network: address for network, address in service.addresses.items() if address}
        if container is None:
            return HostStatus(name, service.role, "down", planned, service.attempt)
        state = (container.health or "running") if container.state == "running" else container.state
        if self.topology.has_ended_well(container.service, container.status):
            state = "done"
        if state in ("starting", "unhealthy") and container.id in self._passed:
            state = "healthy"
        addresses = self.topology.addresses(container.addresses)
        return HostStatus(name, service.role, state, addresses or planned, service.attempt)

    def _look_afresh(self) -> None:
        """Run the checks of hosts that the engine has not looked at yet, or found unwell up to ten seconds ago."""

        def look(container: Container) -> None:
            self._passed.discard(container.id)
            with contextlib.suppress(LabError):
                if self.sessions.probe(container, self.engine.health_command(container.id), 3.0).exit == 0:
                    self._passed.add(container.id)

        doubtful = [
            one
            for one in self._containers()
            if HOSTEXEC_LABEL in one.labels  # in a foreign host the engine's word is enough
            and (one.health == "unhealthy" or (one.health == "starting" and one.id not in self._passed))
        ]
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(look, doubtful))

    def _readiness(self, progress: Progress) -> Readiness:
        def passed(container: Container) -> None:
            self._passed.add(container.id)
            progress.detail(f"{container.service} is healthy")

        return Readiness(self.engine, self.sessions.probe, READY_SECONDS, passed, self.project)

    def _wait_ready(self, containers: Sequence[Container], readiness: Readiness, progress: Progress) -> None:
        progress.step(f"waiting until {len(containers)} hosts pass their health checks")
        for container in containers:
            ended_well = self.topology.has_ended_well(container.service, container.status)
            if container.state not in ("running", "paused") and not ended_well:
                name = names_of(containers, self.topology)[container.id]
                raise HostError(f"{name} ended: {last_words(self.engine, container)}", remedy(container))
        readiness.wait([one for one in containers if one.health in ("starting", "unhealthy")])


NO_IPV6 = {f"net.ipv6.conf.{scope}.disable_ipv6": "1" for scope in ("all", "default", "lo")}
