"""Building what is missing or out of date: the Debian base by us, everything on top of it by Compose."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from graphlib import TopologicalSorter

from lab.build import archives, base_image, images
from lab.engine.base import Engine
from lab.engine.images import ImageStore
from lab.errors import LabError
from lab.progress import Progress
from lab.project.compose import Compose, Say
from lab.project.settings import Settings


def build_stale(
    store: ImageStore,
    engine: Engine,
    compose: Compose,
    settings: Settings,
    known: Mapping[str, str],
    progress: Progress,
) -> bool:
    """Have every image of the lab as its folder says; whether any had to be built for that.

    `known` are ids by name that the engine has just told.
    """
    topology = compose.config.topology
    stale = images.stale(store, topology, settings, known)
    if not stale:
        return False
    base_image.ensure(store, source=settings.base, progress=progress)
    images.begin(topology, settings, stale)
    progress.step(f"building {len(stale)} images")
    folders = {service.name: service.build for service in stale if service.build}
    packages = {name: len(" ".join(archives.packages([folder])).split()) for name, folder in folders.items()}
    with archives.offered(engine, topology.project, dict.fromkeys(folders.values()), progress) as offer:
        build = partial(_build_some, engine, compose, offer, progress.detail)
        _build(build, images.build_order(topology, stale), packages, progress)
    images.remember(store, topology, settings)
    return True


def build_missing(
    store: ImageStore, engine: Engine, compose: Compose, progress: Progress, *, all: bool = False
) -> bool:
    """Have the images of the hosts that are to be built and are not there; with `all` each anew. Whether any was built.

    Compose's `up` would do it, too, but leaves a container of each build that fails.
    """
    topology = compose.config.topology
    wanted = [
        service.name
        for service in topology.hosts
        if service.context and (all or not store.present(images.names_of(service, topology.project)))
    ]
    if wanted:
        progress.step(f"building {len(wanted)} images")
        _build_some(engine, compose, None, progress.detail, *wanted)
    return bool(wanted)


def _build_some(engine: Engine, compose: Compose, offer: str | None, say: Say, *services: str) -> None:
    """A build that fails leaves no container, whatever the builder.

    The classic one runs each step in a container, which it keeps when the step fails: Compose 5, which falls back to
    that builder where there is no buildx, does not pass --force-rm on to it.
    """
    containers: list[str] = []

    def listen(line: str) -> None:
        if match := _RUNS_IN.fullmatch(line):
            containers.append(match[1])
        say(line)

    try:
        compose.build(services, listen, offer)
    except BaseException:
        for container in containers:
            with contextlib.suppress(LabError):  # the build's own error is the one to tell
                engine.remove(container)
        raise


_RUNS_IN = re.compile(r"\s*---> Running in ([0-9a-f]{12,64})")


def _build(
    build: Callable[[str], None], order: TopologicalSorter[str], packages: Mapping[str, int], progress: Progress
) -> None:
    """Twice as many side by side as there are processors, since half a step is waiting for containers to start and end.

    Those that install the most packages go first. After the first that fails, or Ctrl-C, no other is begun; those
    under way are waited for.
    """
    order.prepare()
    side_by_side = min(8, 2 * (os.cpu_count() or 1))
    ready: list[str] = []
    built = 0
    under_way: dict[Future[None], str] = {}
    with ThreadPoolExecutor(side_by_side) as pool:
        while order.is_active():
            ready = sorted([*ready, *order.get_ready()], key=lambda name: -packages[name])
            # Never more than are built at once: the pool begins all that it has been given, whatever becomes of us.
            while ready and len(under_way) < side_by_side:
                name = ready.pop(0)
                under_way[pool.submit(build, name)] = name
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                name = under_way.pop(future)
                future.result()
                order.done(name)
                built += 1
                progress.step(f"building {len(packages)} images: {built} done, the last was {name}")
