"""What `compose.yaml` says of the lab: its hosts and networks. Data in, records out; nothing here asks an engine.

Compose stays the authority that carries the file out. This reads only what the lab shows and checks before that.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.engine.base import Pool
from lab.errors import UsageError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as quick, where there

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::?-(?P<default>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One role: a service of `compose.yaml`, carried by one host or, where `replicas` says so, by several."""

    name: str
    image: str
    role: str
    attempt: str
    """One line to type; label `lab.try`."""
    addresses: Mapping[str, str | None]
    """Fixed IPv4 address, or None, by network."""
    build: Path | None
    """The build context, or None for an image that the lab does not build."""
    profiles: tuple[str, ...]
    replicas: int | None
    """None for a service that is not scalable."""

    @property
    def is_host(self) -> bool:
        """A shared image layer is a service of the profile `images`, and never started."""
        return "images" not in self.profiles


@dataclass(frozen=True)
class Network:
    pool: Pool
    options: Mapping[str, str]
    """Of the network's driver."""


@dataclass(frozen=True)
class Topology:
    services: Mapping[str, Service]
    networks: Mapping[str, Network]
    volumes: tuple[str, ...]

    @property
    def subnets(self) -> Mapping[str, str]:
        """Subnet in CIDR notation by network."""
        return {name: network.pool.subnet for name, network in self.networks.items()}

    @property
    def hosts(self) -> list[Service]:
        return [service for service in self.services.values() if service.is_host]

    def host_names(self, counts: Mapping[str, int] | None = None) -> list[str]:
        """The names users type; a scalable service counts `counts[name]` hosts, else as many as the file says."""
        return [
            name
            for service in self.hosts
            for name in replica_names(service, (counts or {}).get(service.name, service.replicas))
        ]


def replica_names(service: Service, count: int | None, present: Collection[int] = ()) -> Iterator[str]:
    """The names of a service's hosts: those with the numbers `present`, and the lowest others that make it `count`.

    A number that is gone is no gap to fill: Compose gives the next host a new one.
    """
    if service.replicas is None:
        yield service.name
        return
    free = (number for number in itertools.count(1) if number not in present)
    missing = itertools.islice(free, max(0, (count or 0) - len(present)))
    yield from (f"{service.name}-{number}" for number in sorted({*present, *missing}))


def read(path: Path, variables: Mapping[str, str]) -> Topology:
    """The topology of a Compose file, with `${NAME:-default}` filled in as Compose does."""
    try:
        document = yaml.load(path.read_text(), Loader=_Loader)
        services = {
            name: _service(name, entry or {}, variables, path.parent) for name, entry in document["services"].items()
        }
        networks = {name: _network(entry, variables) for name, entry in document["networks"].items()}
        volumes = document.get("volumes") or {}
        if not isinstance(volumes, dict):
            raise ValueError(f"volumes is {volumes!r}, not a mapping")
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(
            f"{path} is not a lab's Compose file: {' '.join(str(error).split())}",
            "git diff compose.yaml shows what changed; every network needs ipam.config with a subnet.",
        ) from error
    return Topology(services, networks, tuple(volumes))


def fill_in(text: object, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match["name"]) or match["default"] or "", str(text))


def _service(name: str, entry: Mapping[str, Any], variables: Mapping[str, str], folder: Path) -> Service:
    labels = entry.get("labels") or {}
    networks = entry.get("networks") or {}
    if isinstance(networks, list):
        networks = dict.fromkeys(networks)
    build = entry.get("build")
    context = build.get("context") if isinstance(build, dict) else build
    replicas = (entry.get("deploy") or {}).get("replicas", entry.get("scale"))
    return Service(
        name=name,
        image=fill_in(entry["image"], variables),
        role=_label(labels, "lab.role"),
        attempt=_label(labels, "lab.try"),
        addresses={
            network: fill_in(detail["ipv4_address"], variables) if detail and "ipv4_address" in detail else None
            for network, detail in networks.items()
        },
        build=folder / context if context else None,
        profiles=tuple(entry.get("profiles") or ()),
        replicas=None if replicas is None else int(fill_in(replicas, variables)),
    )


def _network(entry: Mapping[str, Any], variables: Mapping[str, str]) -> Network:
    config = {key: fill_in(value, variables) for key, value in entry["ipam"]["config"][0].items()}
    pool = Pool(str(ipaddress.ip_network(config["subnet"])), config.get("gateway", ""), config.get("ip_range", ""))
    return Network(pool, {name: fill_in(value, variables) for name, value in (entry.get("driver_opts") or {}).items()})


def _label(labels: Mapping[str, Any], name: str) -> str:
    """As text, whatever YAML takes it for; a label without a value is empty."""
    value = labels.get(name)
    return "" if value is None else str(value)
