"""Against a server whose certificate is signed by a CA that does not say what its key is for."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.engine.docker_engine import DockerEngine
from lab.errors import MachineError

CERTIFICATES = Path(__file__).with_name("tls")


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"Version": "28.5.2", "ApiVersion": "1.44", "Components": []}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def engine_address() -> Iterator[str]:
    """An engine that only a client with a certificate may talk to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "cert.pem", CERTIFICATES / "key.pem")
    context.load_verify_locations(CERTIFICATES / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://localhost:{server.server_address[1]}"
        server.shutdown()


def test_certificates_made_by_dockers_manual_are_taken(engine_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATES / "other-ca.pem"))
    variables = {"DOCKER_HOST": engine_address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(CERTIFICATES)}
    engine = DockerEngine(variables)
    assert engine.version().version == "28.5.2"
    engine.close()


def test_an_engine_that_another_ca_vouches_for_is_refused(engine_address: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text((CERTIFICATES / "other-ca.pem").read_text())
    variables = {"DOCKER_HOST": engine_address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    engine = DockerEngine(variables)
    with pytest.raises(MachineError, match="certificate"):
        engine.version()
    engine.close()
