"""What the engine goes on sending, each over a connection of its own: events, logs, a program's input and output.

One thread reads such a connection and another may end it. It must not be one of the pool that other requests share,
which the reader's end gives back to: who ended it late would hit somebody else's request.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import docker.errors
import requests

from lab.engine.base import ExecState
from lab.engine.docker_errors import explained

T = TypeVar("T")

CHUNK = 1 << 16
TLS_RECORD = 1 << 14


class Connection:
    """One request, and an answer that goes on until `close`. One thread at a time reads it, any may close it."""

    def __init__(self, client: Any, method: str, path: str, *, endless: bool = True, **request: Any) -> None:
        """`client`, an APIClient of its own, goes with it. Unless `endless`, its time limit holds for each read."""
        self._client = client
        self._owner = os.getpid()
        self._reading = threading.Lock()
        self.closed = False
        url = f"{client.base_url}/v{client.api_version}{path}"
        try:
            self._response = client.request(method, url, stream=True, timeout=client.timeout, **request)
            _check(self._response)
            self.socket: socket.socket = self._response.raw.connection.sock
            if endless:
                self.socket.settimeout(None)
        except BaseException:
            client.close()
            raise

    def chunks(self) -> Iterator[bytes]:
        """The answer's body as it comes."""
        pieces = self._response.iter_content(CHUNK)
        while (piece := self._next(pieces)) is not None:
            yield piece

    def _next(self, pieces: Iterator[bytes]) -> bytes | None:
        with self._reading:
            if self.closed:  # between two reads: what is closed cannot be read
                return None
            try:
                return next(pieces, None)
            except (OSError, requests.RequestException):
                if self.closed:
                    return None
                raise

    def take_over(self) -> bytes:
        """After the answer to an upgrade: what came along with it and has been read already; `receive` has the rest."""
        early = None
        self.socket.settimeout(0)
        with contextlib.suppress(OSError):
            # The SDK, too, reaches for http.client's reader so: it has no public name.
            early = self._response.raw._fp.fp.read1()
        self.socket.settimeout(None)
        # A send waits for an engine that reads nothing any more only so long (socket(7)); a read may wait for ever.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", self._client.timeout, 0))
        return early or b""

    def send(self, data: bytes, seconds: float) -> int:
        """How many bytes the taken-over connection had room for within so many seconds; or raise OSError."""
        room = select.poll()
        room.register(self.socket, select.POLLOUT)
        if not room.poll(1000 * seconds):
            return 0
        if isinstance(self.socket, ssl.SSLSocket):  # takes no flags, and a record at once
            return self.socket.send(data[:TLS_RECORD])
        with contextlib.suppress(BlockingIOError):
            return self.socket.send(data, socket.MSG_DONTWAIT)
        return 0

    def end_sending(self) -> None:
        """Let the engine know that nothing more will be sent; no error when the connection has ended."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own, which forgets the keys that are still needed for what comes.
            socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def receive(self) -> bytes:
        """The next bytes of the taken-over connection; empty at its end."""
        with self._reading:
            return b"" if self.closed else self.socket.recv(CHUNK)

    def close(self) -> None:
        """End it; a read in another thread comes back. In a child made by fork it is the parent's, and goes on."""
        if os.getpid() != self._owner:
            return
        self.closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with self._reading:  # what the reader holds is closed after it, from the answer down to the socket
            self._response.close()
            self._client.close()


class DockerStream(Generic[T]):
    """`lab.engine.base.Stream`: each entry that `cut` finds in the connection's chunks, turned into a record.

    Ends where the engine ends it or `close` does; a connection that is lost raises MachineError.
    """

    def __init__(
        self,
        address: str,
        connection: Connection,
        cut: Callable[[Iterable[bytes]], Iterator[Any]],
        record: Callable[[Any], T],
    ) -> None:
        self._address = address
        self._connection = connection
        self._cut = cut
        self._record = record

    def __iter__(self) -> Iterator[T]:
        try:
            for entry in self._cut(self._chunks()):
                yield self._record(entry)
        finally:
            self.close()

    def _chunks(self) -> Iterator[bytes]:
        with explained(self._address):
            yield from self._connection.chunks()

    def close(self) -> None:
        self._connection.close()


class ExecTransport:
    """The program's standard input and output over the engine's hijacked connection.

    What the program writes to standard error is kept in `complaint`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._blocks = Blocks()
        self._output = bytearray()
        self.complaint = b""
        self._take(connection.take_over())

    def send(self, data: bytes) -> None:
        self._connection.socket.sendall(data)

    def recv(self, size: int) -> bytes:
        """At most `size` bytes of standard output; empty at its end."""
        while not self._output:
            data = self._connection.receive()
            if not data:
                return b""
            self._take(data)
        data = bytes(self._output[:size])
        del self._output[:size]
        return data

    def close(self) -> None:
        self._connection.close()

    def _take(self, data: bytes) -> None:
        for kind, part in self._blocks.feed(data):
            if kind == 2:
                self.complaint += part
            else:
                self._output += part


class ExecStream:
    """`lab.engine.base.Exec` over the engine's hijacked connection, which its caller has had opened."""

    def __init__(self, connection: Connection, state: Callable[[], ExecState]) -> None:
        self._connection = connection
        self._blocks = Blocks()
        self._early = list(self._blocks.feed(connection.take_over()))
        self.state = state

    def send(self, data: bytes, seconds: float) -> int:
        return self._connection.send(data[:CHUNK], seconds)

    def end_input(self) -> None:
        self._connection.end_sending()

    def receive(self) -> list[tuple[int, bytes]]:
        found, self._early = self._early, []
        while not found and (data := self._connection.receive()):
            found = list(self._blocks.feed(data))
        return found

    def close(self) -> None:
        self._connection.close()


class Blocks:
    """Takes the engine's multiplexed stream apart, however it arrives.

    Each block has an eight-byte header, the stream (1 output, 2 error) and the length (Engine API, "Attach to a
    container"). docker.utils.socket.frames_iter does it for a socket alone, and so would lose what came early.
    """

    def __init__(self) -> None:
        self._header = b""
        self._kind = self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Stream and bytes of what is in `data`; a block may come in several parts."""
        while data:
            if not self._left:
                missing = 8 - len(self._header)
                self._header, data = self._header + data[:missing], data[missing:]
                if len(self._header) < 8:
                    return
                self._kind, self._left = struct.unpack(">BxxxL", self._header)
                self._header = b""
            part, data = data[: self._left], data[self._left :]
            self._left -= len(part)
            if part:
                yield self._kind, part


def payloads(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Output and error of a multiplexed stream, in their order."""
    blocks = Blocks()
    for chunk in chunks:
        for _, part in blocks.feed(chunk):
            yield part


def documents(chunks: Iterable[bytes]) -> Iterator[Any]:
    """The JSON of each line, as soon as it has ended."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, whole)


def _check(response: requests.Response) -> None:
    """Raise the SDK's error for an answer that is one, with the engine's own words."""
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error
