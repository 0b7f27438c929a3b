"""Whether the networks, and the hosts on them, are as the Compose file says. Data in, names out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.engine.base import PROJECT_LABEL, Container, NetworkRecord
from lab.project.topology import Network, Topology


def changed(topology: Topology, records: Iterable[NetworkRecord], project: str) -> list[str]:
    """The project's networks that the engine has otherwise than the file: another subnet, say, or another option."""
    planned = {f"{project}_{name}": network for name, network in topology.networks.items()}
    return sorted(
        record.name.removeprefix(f"{project}_")
        for record in records
        if record.labels.get(PROJECT_LABEL) == project
        and record.name in planned
        and not _is_as(record, planned[record.name])
    )


def astray(topology: Topology, containers: Sequence[Container], project: str) -> list[Container]:
    """The running hosts that have not the fixed addresses which the file gives them."""
    return [
        container
        for container in containers
        if container.state == "running"
        and (service := topology.services.get(container.service))
        and any(ip and container.addresses.get(f"{project}_{name}") != ip for name, ip in service.addresses.items())
    ]


def _is_as(record: NetworkRecord, planned: Network) -> bool:
    """Options that the file does not name may be the engine's own (`default-network-opts` of its configuration)."""
    pool = planned.pool
    return planned.options.items() <= record.options.items() and any(
        (one.subnet, one.ip_range) == (pool.subnet, pool.ip_range) and pool.gateway in ("", one.gateway)
        for one in record.pools
    )
