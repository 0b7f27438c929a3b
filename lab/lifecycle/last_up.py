"""What the last `lab up` left, written down in `.lab/up.json`: an up with nothing to do need not ask Compose."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.project.settings import Settings

if TYPE_CHECKING:
    from lab.engine.base import Container
    from lab.project.config import Config
    from lab.project.topology import Topology

NAME = "up.json"


def still_holds(settings: Settings, config: Config, containers: Sequence[Container]) -> bool:
    """Whether these are exactly the containers that the last `up` left, all running, from the images of today."""
    try:
        remembered = json.loads((settings.state / NAME).read_text())
    except (OSError, ValueError):
        return False
    return (
        remembered == _record(config, containers)
        and all(one.state == "running" or config.topology.has_ended_well(one.service, one.status) for one in containers)
        # Of an image whose name has moved on to a newer one, the engine lists the id instead of the name.
        and all(container.image == _image(config.topology, container) for container in containers)
    )


def _image(topology: Topology, container: Container) -> str:
    """The name of the image that its service has; of one whose image Compose names, any name."""
    service = topology.services.get(container.service)
    if service and service.image:
        return service.image
    return container.image.removeprefix("sha256:")


def remember(settings: Settings, config: Config, containers: Sequence[Container]) -> None:
    path = settings.state / NAME
    partial = path.with_suffix(".new")
    with contextlib.suppress(OSError):  # a full disk: the next up will have to ask Compose, that is all
        partial.write_text(json.dumps(_record(config, containers)))
        partial.replace(path)


def forget(settings: Settings) -> None:
    (settings.state / NAME).unlink(missing_ok=True)


def _record(config: Config, containers: Sequence[Container]) -> dict[str, object]:
    return {"config": config.digest, "containers": sorted(container.id for container in containers)}
