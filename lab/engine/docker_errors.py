"""What the Docker SDK and the engine's socket raise, as the lab's own errors: told by one table."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import docker.errors
import requests

from lab.errors import HostError, LabError, MachineError

_CAUSES: Sequence[tuple[type[LabError], str, str, str]] = (
    # Which error it is, what its text has, what the lab says, what to do.
    (
        MachineError,
        r"Install paramiko",
        "the engine at {address} is behind ssh, which the lab does not speak",
        "Bring its socket here (ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST) and set "
        "DOCKER_HOST=unix:///tmp/engine.sock.",
    ),
    (
        MachineError,
        r"TLSParameterError|TLS configurations|SSLError|HTTP request to an HTTPS server",
        "the certificates for the engine at {address} are not in order: {text}",
        "DOCKER_CERT_PATH (or the context) must hold ca.pem, cert.pem and key.pem; docker version tries them.",
    ),
    (
        MachineError,
        r"Invalid bind address|only supported on Windows",
        "{address} is no engine that the lab can talk to: {text}",
        "Write DOCKER_HOST as unix:///var/run/docker.sock or tcp://HOST:2375, or unset it for this machine's own.",
    ),
    (
        MachineError,
        r"PermissionError|permission denied.*docker\.sock",
        "no right to use the engine's socket ({address})",
        "Join its group: sudo usermod -aG docker $USER, then log in again (or run as root).",
    ),
    (
        MachineError,
        r"FileNotFoundError|ConnectionRefusedError|No such file|Connection refused|Name or service not known"
        r"|NameResolutionError|Host is down|timed out|not supported URL scheme",
        "no engine answers at {address}",
        "Start it: sudo systemctl start docker (without systemd: sudo service docker start, or sudo dockerd &).",
    ),
    (
        MachineError,
        r"Connection broken|ended prematurely|Connection reset",
        "the engine at {address} broke off in the middle: {text}",
        "Look whether it has been restarted (sudo journalctl -u docker), then repeat.",
    ),
    (
        MachineError,
        r"no space left on device|disk quota exceeded",
        "the engine's disk is full: {text}",
        "Make room: docker system df shows what fills it, lab down --images removes the lab's.",
    ),
    (
        MachineError,
        r"Pool overlaps|pool overlaps",
        "a subnet of the lab overlaps with another network of the engine: {text}",
        "lab doctor names it. Remove that network (docker network rm NAME), or give the lab's another subnet.",
    ),
    (
        MachineError,
        r"[Aa]ddress already in use",
        "an address that was asked for is taken on that network: {text}",
        "lab status shows those of the hosts; ask for another one, or for none.",
    ),
    (
        HostError,
        r"No such container|is not running|is paused|No such exec|Container .* is restarting",
        "{what} does not run: {text}",
        "lab status shows the hosts; lab up starts those that are down.",
    ),
    (
        MachineError,
        r"network \S+ not found|No such network",
        "the lab's networks are not there: {text}",
        "lab up makes them.",
    ),
    (
        MachineError,
        r"No such image|not found: manifest|pull access denied|repository does not exist",
        "no image {what}: {text}",
        "lab up builds the lab's images.",
    ),
    (
        MachineError,
        r"image is being used by|image is in use|using its referenced image",
        "an image of the lab is in use by a container that is not the lab's: {text}",
        "Remove that container (docker rm -f, with the id named last above), then repeat.",
    ),
)


@contextlib.contextmanager
def explained(address: str, what: str = "") -> Iterator[None]:
    """Turn what the SDK raises into the lab's errors, told by `_CAUSES`."""
    try:
        yield
    except LabError:
        raise
    except docker.errors.NotFound as error:
        if what and re.search("No such (container|exec)", str(error)):
            raise HostError(
                f"{_short(what)} is gone: {_text(error)}",
                "lab status shows the hosts; lab up starts those that are down.",
            ) from error
        raise _explanation(error, address, what) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise _explanation(error, address, what) from error


def _explanation(error: Exception, address: str, what: str) -> LabError:
    seen = f"{type(error).__name__} {error!r} {error}"
    for kind, pattern, cause, remedy in _CAUSES:
        if re.search(pattern, seen):
            return kind(cause.format(address=address, what=_short(what), text=_text(error)), remedy)
    return MachineError(f"the engine at {address} refused: {_text(error)}", "lab doctor looks at the whole machine.")


def _text(error: Exception) -> str:
    """The engine's own sentence, without the SDK's wrapping."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def _short(what: str) -> str:
    return what[:12] if re.fullmatch(r"[0-9a-f]{64}", what) else what
