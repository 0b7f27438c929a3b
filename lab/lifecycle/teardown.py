"""The end of a project's containers, networks and volumes, whatever made them and in whatever state they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from lab.engine import ownership
from lab.engine.base import OWNER_LABEL, PROJECT_LABEL, Container, Engine
from lab.errors import LabError
from lab.progress import Progress
from lab.project.compose import Compose


def sweep(engine: Engine, project: str) -> None:
    """Remove the project's temporary containers whose owner was killed."""
    for container in engine.containers():
        if container.is_temporary(project) and not ownership.is_alive(container.labels.get(OWNER_LABEL, "")):
            with contextlib.suppress(LabError):  # it is in nobody's way
                engine.remove(container.id)


def remove_all(engine: Engine, compose: Compose, project: str, progress: Progress, *, volumes: bool) -> None:
    """Remove every container and network of the project that can go, and its volumes; then raise the first error."""
    failures: list[LabError] = []

    def attempt(remove: Callable[[], None]) -> None:
        try:
            remove()
        except LabError as error:
            failures.append(error)

    def remove_containers(belongs: Callable[[Container, str], bool]) -> None:
        for container in engine.containers():
            if belongs(container, project):
                attempt(partial(engine.remove, container.id))

    remove_containers(Container.is_temporary)  # first: on networks that are in use, which Compose cannot remove
    # What Compose leaves, because it fails or no longer knows it under its name, goes by the engine itself, which
    # also says why something cannot.
    with contextlib.suppress(LabError):
        compose.down(progress.detail, volumes=volumes)
    remove_containers(Container.is_of_compose)
    for network in engine.networks():
        if network.labels.get(PROJECT_LABEL) == project:
            attempt(partial(engine.remove_network, network.id))
    if volumes:
        for volume in engine.volumes(project):
            attempt(partial(engine.remove_volume, volume))
    if failures:
        raise failures[0]
