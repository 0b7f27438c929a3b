"""The real engine, by the Docker SDK. Its errors leave this module as the lab's own (`lab.engine.docker_errors`)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import docker
import docker.errors
import docker.utils
import requests

from lab import forks
from lab.engine import docker_tls, endpoint, ownership
from lab.engine.base import (
    OWNER_LABEL,
    PROJECT_LABEL,
    TEMPORARY_LABEL,
    Container,
    EngineFacts,
    EngineVersion,
    Event,
    ExecState,
    NetworkRecord,
    Pool,
    TemporaryContainer,
)
from lab.engine.docker_errors import explained
from lab.engine.docker_streams import Connection, DockerStream, ExecStream, ExecTransport, documents, payloads
from lab.errors import MachineError

OLDEST_API = (1, 41)
"""Engine 20.10, the first whose bridge networks can keep the machine off them (`inhibit_ipv4`)."""

TIMEOUT = 120
"""Seconds that one request may take; a machine with two busy cores starts containers slowly."""


class DockerEngine:
    """`lab.engine.base.Engine` over the engine that `docker` itself would ask (`lab.engine.endpoint`)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._connecting = threading.Lock()
        self._client: Any = None
        forks.note(self)

    @cached_property
    def endpoint(self) -> endpoint.Endpoint:
        return endpoint.find(self._environment)

    @property
    def address(self) -> str:
        """As errors name it: a context's with its name, since nobody has typed the address."""
        return str(self.endpoint) if self.endpoint.source.startswith("context") else self.endpoint.address

    @property
    def client(self) -> Any:
        """The SDK's low-level client, connected at first use. Threads may share it, for requests of one answer."""
        with self._connecting:
            if self._client is None:
                self._client = self._first_client()
            return self._client

    def _first_client(self) -> Any:
        with explained(self.address):
            client = self._connect("auto")
            api = _numbers(client.api_version)
            if api < OLDEST_API:
                raise MachineError(
                    f"the engine at {self.address} speaks API {client.api_version}; the lab needs "
                    f"{'.'.join(map(str, OLDEST_API))} (Docker Engine 20.10)",
                    "Upgrade the engine: apt-get install docker.io, or your distribution's package.",
                )
            return client

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        info: Mapping[str, Any] = self.client.info()
        return info

    def _connect(self, version: str) -> Any:
        try:
            tls = docker_tls.of(self.endpoint) or False
            return docker.APIClient(base_url=self.endpoint.address, version=version, timeout=TIMEOUT, tls=tls)
        except ValueError as error:  # such as a port out of range
            raise docker.errors.DockerException(f"Invalid bind address: {error}") from error

    def _open(self, method: str, path: str, **request: Any) -> Connection:
        return Connection(self._connect(self.client.api_version), method, path, **request)

    def close(self) -> None:
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def start_afresh(self) -> None:
        self._connecting = threading.Lock()
        self._client = None

    def version(self) -> EngineVersion:
        with explained(self.address):
            answer = self.client.version()
            root = any("name=rootless" in option for option in self._info.get("SecurityOptions") or [])
        parts = [part.get("Name", "") for part in answer.get("Components") or []]
        return EngineVersion(
            answer["Version"],
            _numbers(answer["ApiVersion"]),
            product="Podman" if "Podman Engine" in parts else "Docker Engine",
            place=str(self.endpoint),
            rootless=root,
        )

    def facts(self) -> EngineFacts:
        with explained(self.address):
            info = self._info
        address = self.endpoint.address
        here = address == endpoint.SOCKET or (address.startswith("unix:") and info.get("Name") == socket.gethostname())
        return EngineFacts(
            here,
            live_restore=bool(info.get("LiveRestoreEnabled")),
            firewall=(info.get("FirewallBackend") or {}).get("Driver", ""),
        )

    def containers(self) -> list[Container]:
        with explained(self.address):
            return [_container(entry) for entry in self.client.containers(all=True)]

    def container(self, container: str) -> Container | None:
        with explained(self.address, container):
            try:
                return _inspected(self.client.inspect_container(container))
            except docker.errors.NotFound:
                return None

    def networks(self) -> list[NetworkRecord]:
        with explained(self.address):
            return [
                NetworkRecord(
                    id=entry["Id"],
                    name=entry["Name"],
                    pools=tuple(_pool(item) for item in entry["IPAM"]["Config"] or [] if "Subnet" in item),
                    labels=entry["Labels"] or {},
                    options=entry["Options"] or {},
                )
                for entry in self.client.networks()
            ]

    def volumes(self, project: str) -> list[str]:
        with explained(self.address):
            found = self.client.volumes(filters={"label": f"{PROJECT_LABEL}={project}"})
        return [entry["Name"] for entry in found["Volumes"] or []]

    def events(self) -> DockerStream[Event]:
        with explained(self.address):
            params = {"filters": docker.utils.convert_filters({"type": "container"})}
            connection = self._open("GET", "/events", params=params)
        return DockerStream(self.address, connection, documents, _event)

    def open_exec(self, container: str, argv: Sequence[str], user: str | None) -> ExecTransport:
        with explained(self.address, container):
            made = self.client.exec_create(container, list(argv), stdin=True, user=user or "")
            return ExecTransport(self._attach(made["Id"]))

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> ExecStream:
        def state() -> ExecState:
            with explained(self.address, container):
                found = self.client.exec_inspect(made)
            return ExecState(found["Running"], started=found["Pid"] != 0, exit=found["ExitCode"])

        with explained(self.address, container):
            options = {"user": user or "", "environment": dict(env or {}), "workdir": cwd}
            made = self.client.exec_create(container, list(argv), stdin=True, **options)["Id"]
            return ExecStream(self._attach(made), state)

    def _attach(self, made: str) -> Connection:
        """Start an exec that has been made; its streams."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        return self._open("POST", f"/exec/{made}/start", json={"Detach": False, "Tty": False}, headers=upgrade)

    def health_command(self, container: str) -> Sequence[str]:
        with explained(self.address, container):
            test = (self.client.inspect_container(container)["Config"].get("Healthcheck") or {}).get("Test") or []
        if test[:1] == ["CMD"]:
            return list(test[1:])
        if test[:1] == ["CMD-SHELL"]:
            return ["/bin/sh", "-c", test[1]]
        return []

    def health_said(self, container: str) -> str | None:
        with explained(self.address, container):
            runs = (self.client.inspect_container(container)["State"].get("Health") or {}).get("Log") or []
        return (runs[-1]["Output"].strip() or f"exit code {runs[-1]['ExitCode']}") if runs else None

    def started_at(self, container: str) -> str:
        with explained(self.address, container):
            return str(self.client.inspect_container(container)["State"]["StartedAt"])

    def logs(
        self, container: str, *, since: float | None = None, follow: bool = False, tail: int | None = None
    ) -> DockerStream[bytes]:
        lines = "all" if tail is None else tail
        params = {"stdout": 1, "stderr": 1, "follow": int(follow), "since": since or 0, "tail": lines}
        with explained(self.address, container):
            terminal = self.client.inspect_container(container)["Config"]["Tty"]
            connection = self._open("GET", f"/containers/{container}/logs", params=params, endless=follow)
        return DockerStream(self.address, connection, iter if terminal else payloads, bytes)

    def act(self, container: str, action: str, **arguments: object) -> None:
        with explained(self.address, container):
            getattr(self.client, action)(container, **arguments)

    def create(self, wanted: TemporaryContainer) -> str:
        client = self.client
        with explained(self.address, wanted.image):
            host_config = client.create_host_config(
                init=not wanted.processes_of,  # which wants to be the first process
                auto_remove=False,
                cap_drop=["ALL"],
                cap_add=list(wanted.cap_add),
                network_mode=f"container:{wanted.network_of}"
                if wanted.network_of
                else next(iter(wanted.networks), "none"),
                pid_mode=f"container:{wanted.processes_of}" if wanted.processes_of else None,
                sysctls=dict(wanted.sysctls) or None,
                extra_hosts=None if wanted.network_of else dict(wanted.hosts),
                binds=[f"{source}:{place}" for source, place in wanted.volumes.items()],
                mem_limit="256m",
                pids_limit=256,
            )
            endpoints = {
                name: client.create_endpoint_config(ipv4_address=address) for name, address in wanted.networks.items()
            }
            first = dict(list(endpoints.items())[:1])
            made = client.create_container(
                wanted.image,
                command=list(wanted.command) if wanted.command else None,
                user=wanted.user,
                environment=dict(wanted.env),
                labels={TEMPORARY_LABEL: wanted.project, OWNER_LABEL: ownership.mine()},
                host_config=host_config,
                networking_config=client.create_networking_config(first) if first else None,
            )["Id"]
            try:
                for name, address in list(wanted.networks.items())[1:]:
                    client.connect_container_to_network(made, name, ipv4_address=address)
                client.start(made)
            except BaseException:
                self.remove(made)
                raise
        return str(made)

    def wait(self, container: str, seconds: float) -> int | None:
        with explained(self.address, container):
            try:
                return int(self.client.wait(container, timeout=seconds)["StatusCode"])
            except requests.ConnectionError as error:
                if "timed out" not in str(error):
                    raise
                return None
            except requests.Timeout:
                return None

    def remove(self, container: str) -> None:
        with explained(self.address, container), contextlib.suppress(docker.errors.NotFound):
            try:
                self.client.remove_container(container, force=True, v=True)
            except docker.errors.APIError as error:
                if "is already in progress" not in str(error):
                    raise
                self.client.wait(container, condition="removed")  # somebody else was quicker

    def remove_network(self, network: str) -> None:
        with explained(self.address, network), contextlib.suppress(docker.errors.NotFound):
            try:
                self.client.remove_network(network)
            except docker.errors.APIError as error:
                if "has active endpoints" not in str(error):
                    raise
                raise _in_use(self.client.inspect_network(network)) from error

    def remove_volume(self, volume: str) -> None:
        with explained(self.address, volume), contextlib.suppress(docker.errors.NotFound):
            self.client.remove_volume(volume, force=True)

    def memory(self, container: str) -> int | None:
        with explained(self.address, container):
            used = self.client.stats(container, stream=False, one_shot=True).get("memory_stats", {})
        if "usage" not in used:  # the kernel was started without the memory controller, or the host has just ended
            return None
        detail = used.get("stats", {})
        cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))  # cgroup v1, v2
        return int(max(0, used["usage"] - cache))

    def free_disk(self) -> int | None:
        if not self.facts().here:
            return None
        try:
            return shutil.disk_usage(self._info["DockerRootDir"]).free
        except OSError:
            return None


def _numbers(api: str) -> tuple[int, int]:
    major, _, minor = api.partition(".")
    return int(major), int(minor)


def _pool(config: Mapping[str, str]) -> Pool:
    return Pool(config["Subnet"], config.get("Gateway", ""), config.get("IPRange", ""))


def _in_use(network: Mapping[str, Any]) -> MachineError:
    """Why a network stays. The engine keeps a count beside the list, which can go wrong as hosts start (moby#42119)."""
    names = sorted(entry["Name"] for entry in network["Containers"].values())
    if names:
        return MachineError(
            f"the network {network['Name']} cannot be removed: on it is what is not the lab's ({', '.join(names)})",
            f"Remove it (docker rm -f {' '.join(names)}), then repeat.",
        )
    return MachineError(
        f"the network {network['Name']} cannot be removed: the engine has miscounted (nothing is on it any more)",
        "Restart the engine (sudo systemctl restart docker): it counts anew. Then repeat; lab up works till then.",
    )


def _event(entry: Mapping[str, Any]) -> Event:
    actor = entry.get("Actor", {})
    return Event(actor.get("ID", ""), entry.get("Action", ""), actor.get("Attributes", {}))


def _inspected(entry: Mapping[str, Any]) -> Container:
    state = entry["State"]
    return Container(
        id=entry["Id"],
        name=entry["Name"].lstrip("/"),
        image=entry["Config"]["Image"],
        image_id=entry["Image"],
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status", "").replace("none", ""),
        labels=entry["Config"].get("Labels") or {},
        addresses=_addresses(entry),
        status=f"Exited ({state['ExitCode']})" if state["Status"] == "exited" else "",
        network_mode=entry.get("HostConfig", {}).get("NetworkMode", ""),
    )


def _addresses(entry: Mapping[str, Any]) -> dict[str, str]:
    networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: network["IPAddress"] for name, network in networks.items() if network.get("IPAddress")}


def _container(entry: Mapping[str, Any]) -> Container:
    status = entry.get("Status", "")
    health = re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)", status)
    return Container(
        id=entry["Id"],
        name=(entry["Names"] or ["/?"])[0].lstrip("/"),
        image=entry["Image"],
        image_id=entry["ImageID"],
        state=entry["State"],
        health=health.group(1) if health else "",
        labels=entry.get("Labels") or {},
        addresses=_addresses(entry),
        status=status,
        network_mode=(entry.get("HostConfig") or {}).get("NetworkMode", ""),
    )
