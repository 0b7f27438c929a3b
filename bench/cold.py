"""`lab up` when every service's image must be built, against plain Compose's `build` and `up -d`; the base is there.

Removing the images would not make the builder forget, and emptying its cache would take away other people's. So both
sides build from a copy of the project in which each stage of each Dockerfile starts with a label that has never been
seen: no step can come from a cache, whichever builder there is. The bases (services/base) stay as they are. The
packages are fetched anew each time, so the network is in both figures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.bench import LAB, Bench
from bench.measure import Row, by_turns

LABEL = "lab.bench"


def measure(bench: Bench) -> Iterator[Row]:
    bench.lab.up()  # the bases are there, and what is to be restored is whole
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name, images_kept(bench):
        folder = Path(name)

        def ours() -> float:
            forget(bench, folder)
            bench.say("  lab up, all services to be built")
            return bench.seconds(LAB, "up", folder=folder, env=environment(folder))

        def plain() -> float:
            forget(bench, folder)
            bench.say("  compose build, compose up -d")
            built = bench.seconds(*bench.compose, "build", folder=folder, env=environment(folder))
            return built + bench.seconds(*bench.compose, "up", "-d", folder=folder, env=environment(folder))

        forget(bench, folder)  # there is a project to take down, however soon it ends
        try:
            lab_up, compose_up = by_turns([ours, plain], max(1, bench.rounds // 2))
        finally:
            bench.seconds(LAB, "down", folder=folder, env=environment(folder))
    yield Row("cold", "lab up, services to be built", "compose build, compose up -d", "s", lab_up, compose_up, "<= 1.1")


def forget(bench: Bench, folder: Path) -> None:
    """A fresh copy of the project that no builder has seen, and no host up."""
    bench.down()
    root = bench.lab.settings.root
    for name in ("compose.yaml", ".env"):
        shutil.copy(root / name, folder)
    shutil.rmtree(folder / "services", ignore_errors=True)
    shutil.copytree(root / "services", folder / "services", symlinks=True)
    token = uuid.uuid4().hex
    for path in (folder / "services").glob("*/Dockerfile"):
        if path.parent.name != "base":
            path.write_text(never_seen(path.read_text(), token))
    (folder / ".lab").mkdir(exist_ok=True)
    record = json.loads((root / ".lab" / "images.json").read_text())
    (folder / ".lab" / "images.json").write_text(json.dumps(record))


def never_seen(dockerfile: str, token: str) -> str:
    """The same with a label after each FROM, which is the step that every later one rests on."""
    return re.sub(r"(?m)^(FROM .*)$", rf'\1\nLABEL {LABEL}="{token}"', dockerfile)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LAB_DIR": str(folder)}


@contextmanager
def images_kept(bench: Bench) -> Iterator[None]:
    """Give each of the lab's names back to the image that had it, and remove what the benchmark built."""
    before = {name: bench.lab.store.id_of(name) for name in bench.lab.store.names()}
    try:
        yield
    finally:
        bench.say("  (the images of before)")
        for name, image in before.items():
            if image:
                bench.lab.store.tag(image, name)
        bench.lab.store.prune(LABEL)
