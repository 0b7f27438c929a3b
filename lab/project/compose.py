"""Compose, whichever there is: the `docker compose` plugin, standalone v2, or Debian 12's docker-compose 1.29.

It alone creates and removes the hosts, so that plain Compose commands and `lab` can be mixed freely.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO

from lab.engine import endpoint
from lab.errors import LabError, MachineError
from lab.project import config
from lab.project.config import Config
from lab.project.settings import Settings

PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)

Say = Callable[[str], None]
"""Told each line of progress."""


def find_command(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words that run Compose. Found by looking, since running each to ask its version takes half a second."""
    path = environment.get("PATH")
    folders = [endpoint.docker_folder(environment) / "cli-plugins", *map(Path, PLUGIN_FOLDERS)]
    docker = shutil.which("docker", path=path)
    if docker and any(os.access(folder / "docker-compose", os.X_OK) for folder in folders):
        return [docker, "compose"]
    if standalone := shutil.which("docker-compose", path=path):
        return [standalone]
    raise MachineError(
        "no Compose: neither the plugin (docker compose) nor docker-compose is installed",
        "Install it: sudo apt-get install docker-compose (or docker-compose-plugin, docker-compose-v2).",
    )


class Compose:
    """Compose commands on one project, with one lock among all `lab` commands on it."""

    def __init__(self, settings: Settings, command: Sequence[str] | None = None) -> None:
        self._settings = settings
        self._command = command
        self._turn = threading.RLock()  # among this process's own threads: a lock on a file is the process's
        self._lock: IO[str] | None = None

    @cached_property
    def config(self) -> Config:
        """The project, as Compose says that it is to be."""
        return config.read(self._settings, self.command, self._ask)

    @property
    def command(self) -> Sequence[str]:
        if self._command is None:
            self._command = find_command(self._settings.variables)
        return self._command

    def build(self, services: Sequence[str], say: Say, archives: str | None = None) -> None:
        """Build the images of these services, whatever their profiles.

        `archives` is where Debian's packages can be had besides Debian (`lab.build.archives`).
        """
        offer = ["--build-arg", f"ftp_proxy={archives}"] if archives else []
        # Without --force-rm the classic builder leaves the container of a step that fails.
        self._run(["--profile", "*", "build", "--force-rm", *offer, *services], say)

    def up(self, say: Say, scale: Mapping[str, int] | None = None) -> None:
        """Create and start what is missing, and recreate what changed.

        Of a project that `lab` builds itself no image is built; of a disposable one what the file no longer has goes.
        """
        declaration = self.config.declaration
        flags = ["--no-build"] if declaration.rebuild else []
        if declaration.disposable:
            flags.append("--remove-orphans")
        scales = [word for name, count in (scale or {}).items() for word in ("--scale", f"{name}={count}")]
        self._run(["up", "--detach", *flags, *scales], say)

    def down(self, say: Say, *, volumes: bool) -> None:
        self._run(["down", "--remove-orphans", *(["--volumes"] if volumes else [])], say)

    @contextlib.contextmanager
    def locked(self, say: Say) -> Iterator[None]:
        """Hold the project: one change at a time."""
        with self._turn, self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another lab command on this project to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _open_lock(self) -> Iterator[IO[str]]:
        """The lock's file, not yet held.

        It goes along to each Compose, so that when `lab` is killed, the next command still waits for the Compose that
        it left behind.
        """
        if self._lock:
            yield self._lock
            return
        try:
            config.make_state(self._settings)
            opened = (self._settings.state / "lock").open("w")
        except OSError as error:
            raise MachineError(
                f"the lab cannot write to {self._settings.state}: {error.strerror}",
                "Run it as the user who owns that folder, or take the folder over: sudo chown -R $USER .lab",
            ) from error
        with opened as self._lock:
            try:
                yield self._lock
            finally:
                self._lock = None

    def _ask(self) -> str:
        """What `compose config` says, of services of all profiles."""
        process = self._start(["--profile", "*", "config"], merged=False)
        out, err = process.communicate()
        if process.returncode:
            raise config.refused(self._settings.compose_files[0], (err or out).splitlines(), self.command)
        return out

    def _run(self, words: Sequence[str], say: Say) -> None:
        self._follow(self._start(words), words, say)

    def _start(self, words: Sequence[str], *, merged: bool = True) -> subprocess.Popen[str]:
        command = self.command
        engine = endpoint.find(self._settings.variables)
        plain = {"COMPOSE_ANSI": "never", "COMPOSE_PROGRESS": "plain", "BUILDKIT_PROGRESS": "plain"}
        try:
            return subprocess.Popen(
                [*command, *words],
                cwd=self._settings.root,
                env={**engine.environment(os.environ), **self._settings.chosen, **plain},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                text=True,
                errors="backslashreplace",
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )
        except OSError as error:
            raise MachineError(
                f"Compose ({' '.join(command)}) cannot be run: {error.strerror}",
                "Type that command yourself; when it works, repeat.",
            ) from error

    def _follow(self, started: subprocess.Popen[str], words: Sequence[str], say: Say) -> None:
        """To its end, each line told as it comes."""
        lines: list[str] = []
        with started as process:
            assert process.stdout is not None
            try:
                for raw in process.stdout:
                    line = _ANSI.sub("", raw).rstrip()
                    lines.append(line)
                    if line:
                        say(line)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise explain_failure(" ".join(["compose", *words]), lines, self._images())

    def _images(self) -> dict[str, str]:
        with contextlib.suppress(LabError):
            return {name: service.image for name, service in self.config.topology.services.items()}
        return {}


_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")

_NO_IMAGE = "the image {image} is not here and could not be pulled: {reason}"
_GET_IT = "Look at its name in the Compose file; or load it (docker pull, docker load), then repeat."

# As docker-compose 1.29, Compose 2.40 and 5.6 and the engines 20.10 and 28 say it; the first that fits counts.
_CAUSES = (
    (
        r"permission denied while trying to connect|Cannot connect to the Docker|Couldn't connect to Docker"
        r"|[Ff]ailed to connect to the docker API|error during connect|Error while fetching server API version",
        "Compose cannot reach the engine",
        "lab doctor says why.",
    ),
    (
        r"[Cc]onflict\. The container name \"/?(?P<name>[^\"]+)\" is already in use",
        "the name {name} is taken by a container that is not the lab's",
        "Rename or remove it (docker rm {name}), or set COMPOSE_PROJECT_NAME in .env.",
    ),
    (
        r"[Pp]ool overlaps with other one on this address space|overlapping IPv4",
        "a subnet of the lab is in use by another network of the engine",
        "lab doctor names it. Remove that network (docker network rm NAME), or give the lab's another subnet.",
    ),
    (
        r"no space left on device|disk quota exceeded",
        "the engine's disk is full",
        "Make room: docker system df shows what fills it, lab down --images removes the lab's.",
    ),
    (
        r"(?:Bind for|listen \w+|bind host port(?: for)?) (?P<port>[\d.]+:\d+).*(?:already allocated|already in use)",
        "the port {port}, which a host publishes, is taken on the engine's machine",
        "ss -ltnup shows by whom; end that, or publish another port (ports, in the Compose file).",
    ),
    (
        r"[Aa]ddress already in use",
        "an address of the lab is taken by another container on its network",
        "lab status shows the addresses; lab down and lab up give each host its own again.",
    ),
    (
        r"Temporary failure resolving|Could not resolve|Unable to fetch some archives|Failed to fetch",
        "Debian's packages could not be fetched while an image was built",
        "Check the network of the engine's machine (proxy, DNS), then run the command again; what was built is kept.",
    ),
    (
        r"failed to parse (?P<option>com\.docker\.\S+) value: (?P<reason>.+)",
        "the engine does not take the network option {option}: {reason}",
        "Look at the network's driver_opts in the Compose file.",
    ),
    (
        r"plugin \"(?P<driver>[^\"]+)\" not found",
        "the engine has no driver {driver}",
        "Look at the networks and volumes of the Compose file.",
    ),
    # Of an image that is pulled in vain: 1.29 and 2 name the service (1.29 the image, too), 5 only the image.
    (r"Pulling \S+ \((?P<image>\S+?):?\)\.\.\.\n(?!\S+: Pulling from)(?:ERROR: )?(?P<reason>.+)", _NO_IMAGE, _GET_IT),
    (r"(?m)^ *Image (?P<image>\S+) Error (?P<reason>.+)", _NO_IMAGE, _GET_IT),
    (r"(?m)^ *(?P<service>[\w.-]+) Error (?P<reason>.+)", _NO_IMAGE, _GET_IT),
)


def explain_failure(command: str, lines: Sequence[str], images: Mapping[str, str] | None = None) -> MachineError:
    """The error for a Compose command that failed, by what it printed; `images` are those of the services."""
    text = "\n".join(lines)
    for pattern, cause, remedy in _CAUSES:
        if match := re.search(pattern, text):
            named = match.groupdict()
            service = named.get("service", "")
            named.setdefault("image", (images or {}).get(service, f"of {service}"))
            return MachineError(cause.format(**named), remedy.format(**named))
    last = [line.strip() for line in lines if line.strip()][-3:]
    return MachineError(
        f"{command} failed: {' | '.join(last) or 'it printed nothing'}", "lab doctor looks at the machine."
    )
