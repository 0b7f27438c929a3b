"""The hosts and networks of a project, as Compose says that they are (`lab.project.config`). Data in, records out."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.engine.base import Pool


@dataclass(frozen=True)
class Service:
    """One role: a service of the Compose file, carried by one host or, where `replicas` says so, by several."""

    name: str
    image: str
    """Empty where the file names none, so that Compose makes up a name for what it builds."""
    role: str = ""
    """Label `lab.role`."""
    attempt: str = ""
    """One line to type; label `lab.try`."""
    addresses: Mapping[str, str | None] = field(default_factory=dict)
    """Fixed IPv4 address, or None, by network."""
    context: str = ""
    """The folder that its image is built from; empty for an image that the project does not build."""
    dockerfile: str = "Dockerfile"
    """Seen from there."""
    is_host: bool = True
    """Whether it is started: not a shared image layer, nor of a profile that is not asked for."""
    is_job: bool = False
    """Whether another service waits for it to end well."""
    replicas: int | None = None
    """None for a service that has one host by nature."""
    container_name: str = ""
    """The name that the file fixes for its only container."""

    @property
    def build(self) -> Path | None:
        """Its build context, where that is a folder."""
        return Path(self.context) if self.context and "://" not in self.context else None


@dataclass(frozen=True)
class Network:
    full_name: str
    """As the engine knows it."""
    pools: tuple[Pool, ...] = ()
    """Those that the file asks for; none where the engine chooses."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the network's driver."""
    is_external: bool = False
    """Whether somebody else makes it."""


@dataclass(frozen=True)
class Topology:
    project: str
    services: Mapping[str, Service]
    """In the order of the file."""
    networks: Mapping[str, Network]
    volumes: Mapping[str, str]
    """The engine's name by the file's."""

    @property
    def hosts(self) -> list[Service]:
        return [service for service in self.services.values() if service.is_host]

    def host_names(self) -> list[str]:
        """The names that users type."""
        return [name for service in self.hosts for name in replica_names(service, service.replicas)]

    def has_ended_well(self, service: str, status: str) -> bool:
        """Whether a container of that service, in the engine's words, is done, where another service waits for that."""
        known = self.services.get(service)
        return known is not None and known.is_job and status.startswith("Exited (0)")

    def network_of(self, full_name: str) -> str:
        """The file's name of a network that the engine knows by this one; of another, this one."""
        return next((name for name, one in self.networks.items() if one.full_name == full_name), full_name)

    def addresses(self, by_full_name: Mapping[str, str]) -> dict[str, str]:
        """The same addresses by the file's names of the networks."""
        return {self.network_of(name): address for name, address in by_full_name.items()}


def replica_names(service: Service, count: int | None, present: Collection[int] = ()) -> Iterator[str]:
    """The names of a service's hosts: those with the numbers `present`, and the lowest others that make it `count`.

    A number that is gone is no gap to fill: Compose gives the next host a new one.
    """
    if service.replicas is None and len(present) <= 1:
        yield service.name
        return
    free = (number for number in itertools.count(1) if number not in present)
    missing = itertools.islice(free, max(0, (count or 0) - len(present)))
    yield from (f"{service.name}-{number}" for number in sorted({*present, *missing}))


def of_document(
    document: Mapping[str, Any],
    project: str,
    *,
    order: Sequence[str] = (),
    profiles: Collection[str] = (),
    layers: Collection[str] = (),
) -> Topology:
    """The topology of what `compose config` says of all services.

    `order` has their names as the file has them, since Compose sorts them; `profiles` those that are asked for.
    """
    entries = document.get("services") or {}
    project = document.get("name") or project
    awaited = {name for entry in entries.values() for name in _awaited_to_end(entry)}
    ranks = {name: rank for rank, name in enumerate(order)}
    services = {}
    for name in sorted(entries, key=lambda name: ranks.get(name, len(ranks))):
        entry = entries[name]
        wanted = set(entry.get("profiles") or ())
        active = not wanted or "*" in profiles or bool(wanted & set(profiles))
        services[name] = _service(name, entry, active and name not in layers, name in awaited)
    networks = {name: _network(name, entry or {}, project) for name, entry in (document.get("networks") or {}).items()}
    for service in services.values():
        for name in service.addresses if service.is_host else ():
            networks.setdefault(name, Network(f"{project}_{name}", options={}))
    volumes = {
        name: (entry or {}).get("name") or f"{project}_{name}"
        for name, entry in (document.get("volumes") or {}).items()
    }
    return Topology(project, services, networks, volumes)


def _service(name: str, entry: Mapping[str, Any], is_host: bool, is_job: bool) -> Service:
    labels = _mapping(entry.get("labels"))
    build = entry.get("build") or {}
    if isinstance(build, str):
        build = {"context": build}
    replicas = (entry.get("deploy") or {}).get("replicas", entry.get("scale"))
    return Service(
        name=name,
        image=entry.get("image") or "",
        role=labels.get("lab.role", ""),
        attempt=labels.get("lab.try", ""),
        addresses={network: (detail or {}).get("ipv4_address") for network, detail in _networks_of(entry).items()},
        context=build.get("context") or "",
        dockerfile=build.get("dockerfile") or "Dockerfile",
        is_host=is_host,
        is_job=is_job,
        replicas=None if replicas is None else int(replicas),
        container_name=entry.get("container_name") or "",
    )


def _networks_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """A service that names none is on the network `default`, unless it has no network of its own."""
    if entry.get("network_mode") and entry["network_mode"] != "bridge":
        return {}
    networks = entry.get("networks")
    if isinstance(networks, list):
        return dict.fromkeys(networks)
    return networks or ({} if entry.get("network_mode") else {"default": None})


def _awaited_to_end(entry: Mapping[str, Any]) -> Iterator[str]:
    awaited = entry.get("depends_on") or {}
    if isinstance(awaited, Mapping):
        for name, detail in awaited.items():
            if (detail or {}).get("condition") == "service_completed_successfully":
                yield name


def _network(name: str, entry: Mapping[str, Any], project: str) -> Network:
    external = entry.get("external")
    named = external.get("name") if isinstance(external, Mapping) else None
    full_name = entry.get("name") or named or (name if external else f"{project}_{name}")
    pools = tuple(
        Pool(
            str(ipaddress.ip_network(pool["subnet"], strict=False)),
            pool.get("gateway") or "",
            pool.get("ip_range") or "",
        )
        for pool in (entry.get("ipam") or {}).get("config") or ()
        if pool.get("subnet")
    )
    return Network(full_name, pools, _mapping(entry.get("driver_opts")), bool(external))


def _mapping(pairs: Any) -> dict[str, str]:
    """As text, whatever YAML takes it for; a name without a value is empty."""
    if isinstance(pairs, list):
        pairs = dict(pair.partition("=")[::2] for pair in pairs)
    return {name: "" if value is None else str(value) for name, value in (pairs or {}).items()}
