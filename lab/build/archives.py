"""Debian's packages, fetched once for all images that are built: a container beside the build serves them.

Without it each `apt-add` of a Dockerfile fetches and reads Debian's lists for itself, which takes longer than all the
rest. The container runs `archives.sh`; `services/base/apt-add` takes from it what it has. Plain Compose knows nothing
of it and builds the same images, more slowly.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.build.images import DEBIAN
from lab.engine.base import Engine, TemporaryContainer
from lab.errors import LabError, MachineError
from lab.progress import Progress

PORT = 8000
SCRIPT = Path(__file__).with_name("archives.sh")

_APT_ADD = re.compile(r"\bapt-add((?:[ \t]+[a-z0-9][a-z0-9+.-]+)+)")


def packages(folders: Iterable[Path]) -> list[str]:
    """What each `apt-add` in the Dockerfiles of these folders names, in their order."""
    found = []
    for folder in folders:
        try:
            text = (folder / "Dockerfile").read_text(errors="replace")
        except OSError:
            continue  # Compose will say so
        steps = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
        found += [" ".join(names.split()) for names in _APT_ADD.findall(steps)]
    return list(dict.fromkeys(found))


@contextmanager
def offered(engine: Engine, project: str, folders: Iterable[Path], progress: Progress) -> Iterator[str | None]:
    """The URL at which the packages of all these Dockerfiles can be had during the block; None where there is no use.

    Whatever is wrong with the container is told and costs nothing but time: each image then asks Debian.
    """
    wanted = packages(folders)
    if len(wanted) < 2:  # a single image is as quick alone
        yield None
        return
    container = url = None
    try:
        try:
            container = _start(engine, project, wanted)
            url = _url(engine, container)
            threading.Thread(target=_tell, args=(engine, container, progress), name="archives", daemon=True).start()
        except LabError as error:
            progress.step(f"each image fetches its own packages ({error.cause})")
        yield url
    finally:
        if container:
            engine.remove(container)


def _start(engine: Engine, project: str, wanted: list[str]) -> str:
    command = ["sh", "-c", SCRIPT.read_text(), SCRIPT.name, *wanted]
    return engine.create(TemporaryContainer(DEBIAN, project, command, networks={"bridge": None}, user="0"))


def _url(engine: Engine, container: str) -> str:
    """The path is what `apt-add` knows the offer by."""
    for one in engine.containers():
        if one.id == container and one.addresses:
            return f"http://{next(iter(one.addresses.values()))}:{PORT}/datagram-lab"
    raise MachineError("the engine gave the container no address")


def _tell(engine: Engine, container: str, progress: Progress) -> None:
    stream = engine.logs(container, follow=True)
    for chunk in stream:
        for line in chunk.decode(errors="replace").splitlines():
            progress.detail(line)
