"""What the last `lab up` left, written down in `.lab/up.json`: an up with nothing to do need not ask Compose."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.project.settings import Settings

if TYPE_CHECKING:
    from lab.engine.base import Container
    from lab.project.topology import Topology

NAME = "up.json"


def still_holds(settings: Settings, topology: Topology, containers: Sequence[Container]) -> bool:
    """Whether these are exactly the containers that the last `up` left, all running, from the images of today."""
    try:
        remembered = json.loads((settings.state / NAME).read_text())
    except (OSError, ValueError):
        return False
    return (
        remembered == _record(settings, containers)
        and all(container.state == "running" for container in containers)
        # Of an image whose name has moved on to a newer one, the engine lists the id instead of the name.
        and all(container.image == _image(topology, container) for container in containers)
    )


def _image(topology: Topology, container: Container) -> str:
    """The name of the image that its service has; of a service from another file than `compose.yaml`, any name."""
    if service := topology.services.get(container.service):
        return service.image
    return container.image.removeprefix("sha256:")


def remember(settings: Settings, containers: Sequence[Container]) -> None:
    path = settings.state / NAME
    partial = path.with_suffix(".new")
    with contextlib.suppress(OSError):  # a full disk: the next up will have to ask Compose, that is all
        partial.write_text(json.dumps(_record(settings, containers)))
        partial.replace(path)


def forget(settings: Settings) -> None:
    (settings.state / NAME).unlink(missing_ok=True)


def _record(settings: Settings, containers: Sequence[Container]) -> dict[str, object]:
    return {"fingerprint": _fingerprint(settings), "containers": sorted(container.id for container in containers)}


def _fingerprint(settings: Settings) -> str:
    """What decides how the containers are made: the Compose files and all that can be filled into them."""
    digest = hashlib.sha256()
    for path in settings.compose_files:
        digest.update(f"{path}\0".encode())
        with contextlib.suppress(OSError):  # Compose tells of it
            digest.update(path.read_bytes())
    for name, value in sorted(settings.variables.items()):
        if name.startswith(("LAB_", "COMPOSE_")):
            digest.update(f"{name}={value}\0".encode())
    return digest.hexdigest()
