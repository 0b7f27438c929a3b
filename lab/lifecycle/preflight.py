"""The checks of the machine that come before anything starts, and that `lab doctor` prints.

Each check is a function of a `Machine`, the facts it needs gathered once; it returns a `Finding`. `lab up` stops at
the first that fails.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal

from lab.engine.base import FOLDER_LABEL, PROJECT_LABEL, Container, Engine, NetworkRecord
from lab.errors import LabError, MachineError
from lab.project.compose import Compose
from lab.project.settings import Settings
from lab.project.topology import Topology

ROOM_NEEDED = 2 * 1024**3
"""Bytes that building every image takes at most, with the packages fetched on the way."""
ROOM_TO_RUN = 200 * 1024**2

ROOTLESS = "rootless, so memory and processes are limited (and memory counted) only with cgroup v2 and systemd"
"""What an engine of an ordinary user cannot do."""

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    text: str
    remedy: str = ""

    def raise_if_failed(self) -> None:
        if self.level == "fail":
            raise MachineError(self.text, self.remedy)


class Machine:
    """The facts that the checks share; each is asked for once, when first needed."""

    def __init__(self, engine: Engine, compose: Compose, settings: Settings) -> None:
        self.engine = engine
        self.compose = compose
        self.settings = settings

    @property
    def topology(self) -> Topology:
        return self.compose.config.topology

    @cached_property
    def containers(self) -> list[Container]:
        return self.engine.containers()

    @cached_property
    def networks(self) -> list[NetworkRecord]:
        return self.engine.networks()

    @property
    def own(self) -> list[Container]:
        return [container for container in self.containers if container.is_host_of(self.topology.project)]


Check = Callable[[Machine], Finding]


def python(machine: Machine) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"Python {version}")


def engine(machine: Machine) -> Finding:
    version = machine.engine.version()
    if version.product == "Podman":
        return Finding(
            "engine",
            "fail",
            f"the engine at {version.place} is Podman {version.version}, on which the lab is not promised to work",
            "Use Docker Engine 20.10 or newer: name its socket in DOCKER_HOST, or docker context use NAME.",
        )
    found = f"{version.product} {version.version}, API {version.api[0]}.{version.api[1]}, at {version.place}"
    return Finding("engine", "ok", found + (f"; {ROOTLESS}" if version.rootless else ""))


def compose(machine: Machine) -> Finding:
    return Finding("compose", "ok", " ".join(machine.compose.command))


def names(machine: Machine) -> Finding:
    """No container that is not the lab's has a name that Compose will give (v1 writes `_`, v2 `-`)."""
    project = machine.topology.project
    wanted = {
        name
        for service in machine.topology.hosts
        for number in range(1, (1 if service.replicas is None else service.replicas) + 1)
        for name in (
            [service.container_name]
            if service.container_name
            else [f"{project}{sep}{service.name}{sep}{number}" for sep in "_-"]
        )
    }
    for container in machine.containers:
        if container.name in wanted and container.project != project:
            return Finding(
                "names",
                "fail",
                f"the name {container.name} is taken by a container that is not the lab's",
                f"Rename or remove it (docker rm -f {container.name}), or set COMPOSE_PROJECT_NAME in .env.",
            )
    return Finding("names", "ok", f"no other container is called {project}-…")


def checkout(machine: Machine) -> Finding:
    """The running lab of this name, if any, was started from this folder and not from another clone."""
    here = machine.settings.root
    elsewhere = {
        folder
        for container in machine.own
        if (folder := container.labels.get(FOLDER_LABEL)) and Path(folder).resolve() != here
    }
    if elsewhere:
        return Finding(
            "checkout",
            "fail",
            f"a lab called {machine.topology.project} has already been started from {', '.join(sorted(elsewhere))}",
            "End it (lab down, in either folder), or set another COMPOSE_PROJECT_NAME in .env, and other subnets.",
        )
    return Finding("checkout", "ok", f"the lab is {here}'s own")


def subnets(machine: Machine) -> Finding:
    """No network of anybody else overlaps with one of the lab's, nor do these with each other."""
    topology, declaration = machine.topology, machine.compose.config.declaration
    subnets = [
        (name, ipaddress.ip_network(pool.subnet))
        for name, network in topology.networks.items()
        for pool in network.pools
        if not network.is_external
    ]
    for (name, one), (other, another) in combinations(subnets, 2):
        if one.version == another.version and one.overlaps(another):
            return Finding(
                "subnets",
                "fail",
                f"the lab's networks {name} ({one}) and {other} ({another}) overlap",
                f"Keep them apart: {declaration.remedy(name, other)}.",
            )
    for name, ours in subnets:
        for network in machine.networks:
            owner = network.labels.get(PROJECT_LABEL)
            if owner == topology.project:
                continue
            for subnet in network.subnets:
                theirs = ipaddress.ip_network(subnet, strict=False)  # it may be told as the gateway's address
                if ours.version == theirs.version and ours.overlaps(theirs):
                    whose = f"the project {owner}'s network" if owner else "the engine's network"
                    return Finding(
                        "subnets",
                        "fail",
                        f"network {name} ({ours}) overlaps with {subnet} of {whose} {network.name}",
                        f"Remove that one (docker network rm {network.name}), or {declaration.remedy(name)}.",
                    )
    return Finding("subnets", "ok", f"{len(subnets)} subnets are free or the lab's own")


def disk(machine: Machine) -> Finding:
    free = machine.engine.free_disk()
    if free is None:
        return Finding("disk", "warn", "the engine's disk cannot be seen from here", "Look there that 2 GB are free.")
    room = f"{free / 1e9:.1f} GB free for the engine"
    if free < ROOM_TO_RUN:
        return Finding("disk", "fail", f"the engine's disk is full: {room}", _MAKE_ROOM)
    if free < ROOM_NEEDED:
        return Finding("disk", "warn", f"little disk: {room}", _MAKE_ROOM)
    return Finding("disk", "ok", room)


_MAKE_ROOM = "Make room: docker system df shows what fills it, docker image prune removes what nothing uses."

CHECKS: Sequence[Check] = (python, engine, compose, names, checkout, subnets, disk)
"""In the order in which one rests on another."""


def examine(machine: Machine, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Every check's finding; an error in a check is its failure, told in full by the first that meets it."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.append(check(machine))
        except LabError as error:
            met = next((finding.check for finding in findings if finding.text == error.cause), None)
            text, remedy = (f"not checked, as {met} above", "") if met else (error.cause, error.remedy)
            findings.append(Finding(check.__name__, "fail", text, remedy))
    return findings


def require(machine: Machine) -> None:
    """Raise MachineError for the first check that fails."""
    for check in CHECKS:
        check(machine).raise_if_failed()
