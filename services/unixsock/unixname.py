"""Names of Unix-domain sockets: how they are written, how a server comes to own one; and how both sides receive.

`stream:/run/lab/stream` is in the filesystem, `stream:@name` (abstract) only in the network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TYPES = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
PERMANENT, TEMPORARY = 100, 111  # exit codes: what no retry can mend, and what one may
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
RECORD = 1 << 18  # more than the kernel's default lets anyone send in one piece


class AddressError(Exception):
    """Why a name could not be had, and the exit code that says whether a later try may mend it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Address(NamedTuple):
    """A type of socket and a name."""

    type: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Address:
        kind, _, name = text.partition(":")
        if kind not in TYPES or name in ("", "@"):
            raise AddressError(PERMANENT, f"{text!r}: expected TYPE:PATH or TYPE:@NAME, TYPE one of {', '.join(TYPES)}")
        return cls(kind, name)

    @property
    def abstract(self) -> bool:
        return self.name.startswith("@")

    @property
    def sun_path(self) -> str:
        """As the kernel wants it: an abstract name starts with NUL."""
        return "\0" + self.name[1:] if self.abstract else self.name

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"


def shown(name: str | bytes) -> str:
    """A peer's name in printable ASCII, an abstract one with @ for its leading NUL."""
    text = name.decode("ascii", "backslashreplace") if isinstance(name, bytes) else name
    return ascii("@" + text[1:] if text.startswith("\0") else text)[1:-1]


def receive(sock: socket.socket) -> bytes | None:
    """What comes next in one piece, or None at the end of file.

    An empty record of a seqpacket socket looks like the end of file to recv(). But with SO_PASSCRED each record brings
    its sender's credentials, and the end of file none.
    """
    if sock.type == socket.SOCK_STREAM:
        return sock.recv(RECORD) or None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    data, credentials, *_ = sock.recvmsg(RECORD, socket.CMSG_SPACE(CREDENTIALS.size))  # no room for descriptors
    return data if credentials else None


def open_server(address: Address, mode: int) -> socket.socket:
    """A socket that owns the name, listening if its type listens. Raises AddressError.

    A file that a killed server left behind is replaced, if nobody answers there.
    """
    sock = socket.socket(socket.AF_UNIX, TYPES[address.type])
    if address.type == "dgram":  # before it can be sent to, so that no datagram comes without its sender's credentials
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    umask = os.umask(0o777 & ~mode)  # bind() gives the mode, so that there is no moment with another
    try:
        with undisturbed(address):
            try:
                sock.bind(address.sun_path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                remove_stale(address)
                sock.bind(address.sun_path)
            if address.type != "dgram":
                sock.listen()
    except OSError as error:  # one without errno: the path is too long
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressError(PERMANENT, f"{address}: {reason}; expected a directory to write to, a short name") from None
    finally:
        os.umask(umask)
    return sock


@contextlib.contextmanager
def undisturbed(address: Address) -> Iterator[None]:
    """Keeps two servers that start at once from each taking the other's new socket for a stale one."""
    if address.abstract:
        yield
        return
    directory = os.open(Path(address.name).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def remove_stale(address: Address) -> None:
    """Removes a socket file that nobody answers. Raises AddressError on anything else."""
    taken = f"{address}: {os.strerror(errno.EADDRINUSE)}: another server has this name; stop that one first"
    if address.abstract:
        raise AddressError(TEMPORARY, taken)
    if not Path(address.name).is_socket():
        raise AddressError(PERMANENT, f"{address}: what has this name is not a socket; move it away first")
    with socket.socket(socket.AF_UNIX, TYPES[address.type]) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.name)
        except ConnectionRefusedError:
            Path(address.name).unlink()
            return
        except OSError:  # full, of another type, not ours to ask: somebody lives there
            pass
    raise AddressError(TEMPORARY, taken)
