"""Whether the networks, and the hosts on them, are as the Compose file says. Data in, names out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.engine.base import PROJECT_LABEL, Container, NetworkRecord, Pool
from lab.project.topology import Network, Topology


def changed(topology: Topology, records: Iterable[NetworkRecord]) -> list[str]:
    """The project's networks that the engine has otherwise than the file: another subnet, say, or another option."""
    planned = {network.full_name: network for network in topology.networks.values() if not network.is_external}
    return sorted(
        topology.network_of(record.name)
        for record in records
        if record.labels.get(PROJECT_LABEL) == topology.project
        and record.name in planned
        and not _is_as(record, planned[record.name])
    )


def astray(topology: Topology, containers: Sequence[Container]) -> list[Container]:
    """The running hosts that have not the fixed addresses which the file gives them."""
    return [
        container
        for container in containers
        if container.state == "running"
        and (service := topology.services.get(container.service))
        and any(
            address and container.addresses.get(topology.networks[name].full_name) != address
            for name, address in service.addresses.items()
        )
    ]


def _is_as(record: NetworkRecord, planned: Network) -> bool:
    """Options that the file does not name may be the engine's own (`default-network-opts` of its configuration)."""
    return planned.options.items() <= record.options.items() and all(
        any(_fits(one, pool) for one in record.pools) for pool in planned.pools
    )


def _fits(there: Pool, planned: Pool) -> bool:
    same = (there.subnet, there.ip_range) == (planned.subnet, planned.ip_range)
    return same and planned.gateway in ("", there.gateway)
