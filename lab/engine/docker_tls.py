"""TLS to an engine: its certificates are taken as `docker` itself takes them."""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path
from typing import Any

import docker.tls
import requests.adapters
from urllib3.util.ssl_ import create_urllib3_context

from lab.engine.endpoint import Endpoint


class TLS(docker.tls.TLSConfig):
    """What a client of the SDK takes as `tls`."""

    def configure_client(self, client: Any) -> None:
        super().configure_client(client)
        client.mount("https://", _Adapter(client.verify))


class _Adapter(requests.adapters.HTTPAdapter):
    """Verifies as `docker` does, where requests does otherwise.

    From Python 3.13 on, a CA's certificate must say what its key is for (RFC 5280 4.2.1.3); those that are made as
    Docker's manual describes do not. And REQUESTS_CA_BUNDLE, which is for the web, comes before the engine's own CA.
    """

    def __init__(self, verify: bool | str) -> None:
        self._verify = verify
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        context = create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        super().init_poolmanager(*arguments, ssl_context=context, **options)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        return super().send(request, *arguments, **{**options, "verify": self._verify})


def of(engine: Endpoint) -> TLS | None:
    """None for an engine that is asked without."""
    folder = engine.certificates
    if folder is None:
        return None
    if not engine.verified:  # that is its user's wish; the library would complain at each request
        warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    proof = (str(folder / "cert.pem"), str(folder / "key.pem"))
    return TLS(
        client_cert=proof if any(Path(file).exists() for file in proof) else None,
        ca_cert=str(folder / "ca.pem") if engine.verified else None,
        verify=engine.verified,
    )
