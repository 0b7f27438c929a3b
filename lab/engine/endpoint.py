"""Which engine is asked: the one that the `docker` command would ask, found as it finds it.

DOCKER_HOST comes before DOCKER_CONTEXT, that before the context in use (`docker context use`, which writes
`currentContext` into config.json), and that before this machine's own socket. All that asks an engine gets it from
here, Compose and `lab shell` by their environment, so that they mean the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import MachineError

SOCKET = "unix:///var/run/docker.sock"
TLS_PORT = "tcp://localhost:2376"
"""Where `docker` looks when it is only told to use TLS."""

VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


@dataclass(frozen=True)
class Endpoint:
    """An engine's address, and what TLS needs there."""

    address: str
    source: str = ""
    """What names it, such as `DOCKER_HOST` or `context office`; empty for this machine's own."""
    certificates: Path | None = None
    """The folder of ca.pem, cert.pem and key.pem, as far as they are needed; None without TLS."""
    verified: bool = True
    """Whether the engine must prove who it is."""

    def __str__(self) -> str:
        return f"{self.address} ({self.source})" if self.source else self.address

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, changed so that `docker` and every Compose ask this engine."""
        made = {name: value for name, value in base.items() if name not in VARIABLES}
        made["DOCKER_HOST"] = self.address
        if self.certificates:
            made["DOCKER_TLS_VERIFY" if self.verified else "DOCKER_TLS"] = "1"
            made["DOCKER_CERT_PATH"] = str(self.certificates)
        return made


def docker_folder(environment: Mapping[str, str]) -> Path:
    """Where `docker` keeps its settings, contexts and plugins."""
    return Path(environment.get("DOCKER_CONFIG") or Path(environment.get("HOME", "/")) / ".docker")


def find(environment: Mapping[str, str]) -> Endpoint:
    """The engine that these variables and docker's settings mean; MachineError for a context that cannot be had."""
    verified = bool(environment.get("DOCKER_TLS_VERIFY"))  # any word will do: `docker` takes 0 for yes, too
    certificates = None
    if verified or environment.get("DOCKER_TLS"):
        certificates = Path(environment.get("DOCKER_CERT_PATH") or docker_folder(environment))
    if address := environment.get("DOCKER_HOST"):
        return Endpoint(address, "DOCKER_HOST", certificates, verified or not certificates)
    name, said_by = environment.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        config = docker_folder(environment) / "config.json"
        name, said_by = _current_context(config), str(config)
    if name and name != "default":
        return _read_context(docker_folder(environment) / "contexts", name, said_by)
    if certificates:
        return Endpoint(TLS_PORT, "DOCKER_TLS_VERIFY" if verified else "DOCKER_TLS", certificates, verified)
    return Endpoint(SOCKET)


def _current_context(config: Path) -> str:
    """As `docker` does, which goes on with its own defaults where its settings cannot be read."""
    try:
        return str(json.loads(config.read_bytes()).get("currentContext") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _read_context(contexts: Path, name: str, said_by: str) -> Endpoint:
    folder = hashlib.sha256(name.encode()).hexdigest()
    file = contexts / "meta" / folder / "meta.json"
    try:
        entry: Any = json.loads(file.read_bytes())["Endpoints"]["docker"]
        address, unverified = str(entry.get("Host") or SOCKET), bool(entry.get("SkipTLSVerify"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MachineError(
            f"there is no Docker context {name!r}, which {said_by} names",
            "docker context ls shows those there are, docker context use NAME chooses one.",
        ) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{error.strerror}" if isinstance(error, OSError) else "it names no Docker engine"
        raise MachineError(
            f"the Docker context {name!r}, which {said_by} names, cannot be read ({file}: {reason})",
            f"Choose another (docker context use default), or make it anew: docker context rm -f {name}, then create.",
        ) from error
    certificates = contexts / "tls" / folder / "docker"
    with_tls = unverified or certificates.is_dir()
    return Endpoint(address, f"context {name}", certificates if with_tls else None, not unverified)
