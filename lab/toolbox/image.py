"""The toolbox: built when it is first needed, and run beside a host with the least rights that the purpose takes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from lab.build import base_image
from lab.engine.base import Engine, TemporaryContainer
from lab.engine.images import ImageStore
from lab.errors import HostError, LabError
from lab.progress import Progress, Silent

REPOSITORY = "lab-toolbox"
OWN_BASE = f"{REPOSITORY}:debian-bookworm"
"""Debian for a project that has none at hand."""
PROGRAMS = ("ender", "interfaces", "sender", "sniffer")
PLACE = "/usr/lib/lab-toolbox/lab/toolbox"
SIGNAL_SECONDS = 30.0
"""For a program that takes a fraction of a second, on a busy machine."""
ENDED, NONE_FOUND, SOME_LEFT = 0, 1, 2
"""Exit codes of the ender."""

_FOLDER = Path(__file__).parent


@cache
def _files() -> dict[str, bytes]:
    names = ["Dockerfile", *(f"{name}.py" for name in PROGRAMS)]
    return {name: (_FOLDER / name).read_bytes() for name in names}


@cache
def image_name() -> str:
    """What this very version of the tool calls it: another version's image is no use to it, nor harmed by it."""
    digest = hashlib.sha256()
    for name, content in sorted(_files().items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def program(name: str, *words: str) -> list[str]:
    """The argument list of one of its programs."""
    return ["python3", "-S", f"{PLACE}/{name}.py", *words]


class Toolbox:
    """Of one engine. Threads and processes may need it at once: at worst it is built twice, with the same outcome."""

    def __init__(
        self,
        engine: Engine,
        store: Callable[[], ImageStore],
        *,
        base: Callable[[], str] = lambda: OWN_BASE,
        source: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        """`base` names the image of Debian to build it on, which is had as `source` says (`lab.build.base_image`)."""
        self._engine = engine
        self._store = store
        self._base = base
        self._source = source
        self._progress = progress or Silent()

    def image(self) -> str:
        """Its name, once it is there."""
        name = image_name()
        store = self._store()
        if not store.id_of(name):
            base = self._base()
            base_image.ensure(store, name=base, source=self._source, progress=self._progress)
            self._progress.step("building the toolbox, which captures packets and ends commands: once, some seconds")
            store.build(name, _files(), {"BASE": base}, self._progress)
        return name

    def beside(self, container: str, project: str) -> str:
        """The id of a new container in that one's network, where root's programs may use raw sockets."""
        command = ["sleep", "infinity"]
        wanted = TemporaryContainer(
            self.image(), project, command, network_of=container, user="root", cap_add=["NET_RAW"]
        )
        return self._engine.create(wanted)

    def signal(self, container: str, project: str, mark: str, number: int) -> int:
        """Send a signal to the processes of the container that have `mark`, NAME=VALUE, in their environment.

        The process id inside the container of the one that was first; 0 where none has the mark. SIGKILL reaches all
        of them and all that they started; another signal the first one's process group; 0 nobody.
        """
        wanted = TemporaryContainer(
            self.image(),
            project,
            program("ender", mark, str(number)),
            processes_of=container,
            user="root",
            cap_add=["DAC_READ_SEARCH", "KILL", "SYS_PTRACE"],  # of other users, the environment is to be read
        )
        ender = self._engine.create(wanted)
        try:
            status = self._engine.wait(ender, SIGNAL_SECONDS)
            said = b"".join(self._engine.logs(ender)).decode(errors="backslashreplace").strip()
        finally:
            with contextlib.suppress(LabError):
                self._engine.remove(ender)
        if status == NONE_FOUND:
            return 0
        if status not in (ENDED, SOME_LEFT) or not said.isdecimal():
            raise HostError(
                f"the processes of {container[:12]} cannot be reached from beside it: {said or f'exit code {status}'}",
                "lab doctor looks at the machine; docker restart ends whatever runs in the host.",
            )
        return int(said)


def remove(store: ImageStore, progress: Progress) -> None:
    """Remove it, of whatever version, with the base of its own; what a container still uses stays."""
    for name in store.names_of(REPOSITORY):
        progress.detail(name)
        with contextlib.suppress(LabError):
            store.remove_unused(name)
