"""Building all images of the lab, the base there, against one container that installs all their packages.

The reference is what the packages themselves cost: one container of the same base, one `apt-get update`, one `apt-get
install` of everything that any Dockerfile names. What the images take beyond it is their price for being apart.

A build that comes from the cache is none, and emptying the builder's cache would take away other people's. So the
images are built from a copy of the project in which each stage of each Dockerfile starts with a variable that has
never been seen: no step can come from a cache, whichever builder there is. The packages are fetched anew each time, on
both sides. The hosts, if any, go on running on the images that they have.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.bench import Bench, clock
from bench.measure import Row, by_turns
from lab import Lab
from lab.build import archives, base_image, building, images
from lab.build.images import DEBIAN
from lab.progress import Silent
from lab.project.settings import load

LABEL = "lab.bench"
INSTALL = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends"


def measure(bench: Bench) -> Iterator[Row]:
    base_image.ensure(bench.lab.store, source=bench.lab.settings.base, progress=Silent())
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name, images_kept(bench):
        folder = Path(name)

        def ours() -> float:
            copy_unseen(bench.lab.settings.root, folder)
            bench.say("  all images, by lab")
            with Lab(load({**os.environ, "LAB_DIR": name})) as lab:
                parts = (lab.store, lab.engine, lab.compose, lab.settings)
                return clock(lambda: building.build_stale(*parts, {}, Silent()))

        def plain() -> float:
            copy_unseen(bench.lab.settings.root, folder)
            bench.say("  all images, by plain Compose")
            compose = [*bench.compose, "--profile", "images", "build"]
            env = {**os.environ, "LAB_DIR": name}
            layers = bench.seconds(*compose, "base", "python", "toolchain", folder=folder, env=env)
            return layers + bench.seconds(*compose, folder=folder, env=env)

        def packages() -> float:
            bench.say("  one container with all their packages")
            return install(bench)

        lab_s, compose_s, apt_s = by_turns([ours, plain, packages], max(1, bench.rounds // 2))
    container = "one container, all their packages"
    yield Row("cold", "all images built by lab up", container, "s", lab_s, apt_s, "<= 2.0")
    yield Row("cold", "all images built by plain Compose", container, "s", compose_s, apt_s)


def install(bench: Bench) -> float:
    """From the container's creation to its end."""
    named = archives.packages(sorted((bench.lab.settings.root / "services").iterdir()))
    return bench.seconds("docker", "run", "--rm", "--init", DEBIAN, "sh", "-c", f"{INSTALL} {' '.join(named)}")


def copy_unseen(root: Path, folder: Path) -> None:
    """A fresh copy of the project that no builder has seen, and that knows of no image."""
    for name in ("compose.yaml", ".env"):
        shutil.copy(root / name, folder)
    for name in ("services", ".lab"):
        shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(root / "services", folder / "services", symlinks=True)
    (folder / ".lab").mkdir()
    token = uuid.uuid4().hex
    for path in (folder / "services").glob("*/Dockerfile"):
        path.write_text(never_seen(path.read_text(), token))


def never_seen(dockerfile: str, token: str) -> str:
    """The same with a variable after each FROM, which every later step has, and a label to find the images by.

    The classic builder looks up a step by all that came before it; BuildKit by what the step itself can see, so not by
    labels.
    """
    return re.sub(r"(?m)^(FROM .*)$", rf'\1\nENV LAB_BENCH={token}\nLABEL {LABEL}="{token}"', dockerfile)


@contextmanager
def images_kept(bench: Bench) -> Iterator[None]:
    """Give each of the lab's names back to the image that had it, and remove what the benchmark built."""
    names = [DEBIAN, *images.own(bench.lab.topology)]
    before = {name: bench.lab.store.id_of(name) for name in names}
    try:
        yield
    finally:
        bench.say("  (the images of before)")
        for name, image in before.items():
            if image:
                bench.lab.store.tag(image, name)
            else:
                bench.lab.store.remove(name)
        bench.lab.store.prune(LABEL)
