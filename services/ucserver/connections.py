"""The TCP half: many clients at once in one thread, none of which can wait, hoard or break for another.

For each client at most one piece of CHUNK bytes is held. While it cannot be sent, because the client does not read,
nothing more is read from that client: TCP's flow control then stops it, and memory stays bounded.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datagrams import HEALTH_CHECK

if TYPE_CHECKING:
    from eventlog import EventLog

CHUNK = 16 * 1024
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(eq=False)
class Connection:
    socket: socket.socket
    peer: tuple[str, int]
    unsent: bytes = b""
    answered: int = 0
    active: float = field(default_factory=time.monotonic)
    """When a byte last came or went."""


class Connections:
    def __init__(self, listener: socket.socket, log: EventLog, *, most: int, idle_limit: float) -> None:
        self._listener = listener
        self._log = log
        self._most = most
        self._idle_limit = idle_limit
        self._selector = selectors.DefaultSelector()
        self._open: OrderedDict[Connection, None] = OrderedDict()  # the longest silent first

    def serve(self) -> None:
        self._listener.setblocking(False)
        self._listen()
        while True:
            ready = self._selector.select(timeout=1.0)
            self._listen()  # again, after a round without
            for key, _ in ready:
                if key.data is None:
                    self._accept()
                elif key.data in self._open:  # not closed earlier in this round, to make room
                    self._answer(key.data)
            self._close_idle()

    def _listen(self) -> None:
        if self._listener not in self._selector.get_map():
            self._selector.register(self._listener, READ)

    def _accept(self) -> None:
        try:
            sock, peer = self._listener.accept()
        except OSError as error:
            self._log.stranger("tcp connection not accepted: {}", error.strerror)
            if error.errno == errno.EMFILE and self._open:
                self._close_longest_silent("made room: no descriptor left")
            elif error.errno in NO_ROOM:
                self._selector.unregister(self._listener)  # until the next round: to ask again at once would spin
            return
        if len(self._open) >= self._most:
            self._close_longest_silent(f"made room: {self._most} clients")
        sock.setblocking(False)
        connection = Connection(sock, peer)
        self._open[connection] = None
        self._selector.register(sock, READ, connection)
        self._tell(connection, "open, {} in all", len(self._open))

    def _answer(self, connection: Connection) -> None:
        """Send what is held, or else read a piece and send it; one piece a round, so that each gets its turn."""
        try:
            if not connection.unsent:
                piece = connection.socket.recv(CHUNK)
                if not piece:  # the client will send no more, and has been sent all
                    self._close(connection, "end of stream")
                    return
                connection.unsent = piece.upper()
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._close(connection, str(error.strerror))
            return
        connection.unsent = connection.unsent[sent:]
        connection.answered += sent
        connection.active = time.monotonic()
        self._open.move_to_end(connection)
        self._selector.modify(connection.socket, WRITE if connection.unsent else READ, connection)

    def _close_idle(self) -> None:
        while self._open and time.monotonic() - next(iter(self._open)).active >= self._idle_limit:
            self._close_longest_silent(f"idle for {self._idle_limit:.0f} s")

    def _close_longest_silent(self, why: str) -> None:
        self._close(next(iter(self._open)), why)

    def _close(self, connection: Connection, why: str) -> None:
        del self._open[connection]
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._tell(connection, "closed after {} bytes: {}", connection.answered, why)

    def _tell(self, connection: Connection, line: str, *values: object) -> None:
        host, port = connection.peer
        if host != HEALTH_CHECK:
            self._log.stranger("tcp {}:{} " + line, host, port, *values)
