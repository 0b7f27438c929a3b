"""The image that Compose cannot build: Debian itself, pulled, built from Debian's packages, or named by the user."""

from __future__ import annotations

from lab.build import debian
from lab.build.images import DEBIAN
from lab.engine.images import ImageStore, NotPulled
from lab.errors import MachineError
from lab.progress import Progress

REGISTRY_DEBIAN = "debian:bookworm-slim"


def ensure(store: ImageStore, *, name: str = DEBIAN, source: str = "auto", progress: Progress) -> None:
    """Have an image of Debian called `name`.

    `source`: `auto` pulls it and builds it where that fails; `pull`; `build`; or the name of an image to take.
    What is there already is kept, except that the name of another image prevails over it.
    """
    if source not in ("auto", "pull", "build"):
        _take(store, source, name, progress)
        return
    if store.id_of(name):
        return
    if source != "build":
        try:
            _pull(store, name, progress)
            return
        except NotPulled as error:
            if source == "pull":
                raise
            reason = f"no registry has it for us: {error.cause}"
    else:
        reason = "LAB_BASE=build"
    with debian.Builder() as builder:
        progress.step(f"building the base image from Debian's packages with {builder.tool}, about a minute ({reason})")
        store.import_tar(builder.tar(progress.detail), name, ['CMD ["bash"]'])


def _pull(store: ImageStore, name: str, progress: Progress) -> None:
    had_it = store.id_of(REGISTRY_DEBIAN)
    progress.step(f"pulling the base image, {REGISTRY_DEBIAN}")
    store.pull(REGISTRY_DEBIAN, progress)
    store.tag(REGISTRY_DEBIAN, name)
    if not had_it:
        store.remove(REGISTRY_DEBIAN)


def _take(store: ImageStore, source: str, name: str, progress: Progress) -> None:
    if not store.id_of(source):
        progress.step(f"pulling {source}, the base image that LAB_BASE names")
        try:
            store.pull(source, progress)
        except NotPulled as error:
            raise MachineError(
                f"LAB_BASE names the image {source}, which is not here and cannot be had: {error.cause}",
                "Set LAB_BASE to auto, pull, build or an image of Debian 12 that docker images lists.",
            ) from error
    if store.id_of(source) != store.id_of(name):
        store.tag(source, name)
