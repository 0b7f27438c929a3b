"""What users call a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lab.engine.base import Container
from lab.project.topology import Topology


def names_of(containers: Sequence[Container], topology: Topology) -> dict[str, str]:
    """By the container's id: the service's name, with a number behind it where the service has, or may have, several.

    `containers` are all of the project's.
    """
    counts = Counter(container.service for container in containers)
    names = {}
    for container in containers:
        service = topology.services.get(container.service)
        numbered = counts[container.service] > 1 or (service is not None and service.replicas is not None)
        names[container.id] = f"{container.service}-{container.number}" if numbered else container.service
    return names
