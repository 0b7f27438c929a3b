"""An engine behind a real socket, as far as streams go: each path is answered by a function that the test gives."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

Answer = Callable[["Handler"], None]
API = "1.41"


def block(kind: int, data: bytes) -> bytes:
    """As the engine multiplexes output (1) and error (2)."""
    return struct.pack(">BxxxL", kind, len(data)) + data


def document(content: object) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        data = json.dumps(content).encode()
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def missing(handler: Handler) -> None:
    data = b'{"message": "No such container: x"}'
    handler.send_response(404)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SocketEngine

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0].removeprefix(f"/v{API}")
        self.server.asked.append(path)
        self.server.answers[path](self)

    do_POST = do_GET  # noqa: N815 - as the base class looks for it

    def start(self) -> None:
        """An answer in chunks begins."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """One of them; the last is empty."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def upgrade(self, early: bytes = b"") -> None:
        """The connection is the program's from now on; `early` comes in one piece with the answer."""
        self.connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + early)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None: ...


class SocketEngine(socketserver.ThreadingUnixStreamServer):
    """A context manager; `over` is set at its end, for answers that wait."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path, answers: Mapping[str, Answer]) -> None:
        super().__init__(str(path), Handler)
        self.answers = {"/version": document({"ApiVersion": API, "Version": "20.10"}), **answers}
        self.asked: list[str] = []
        self.over = threading.Event()
        self.variables = {"DOCKER_HOST": f"unix://{path}"}

    def __enter__(self) -> SocketEngine:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None: ...  # who asked is gone
