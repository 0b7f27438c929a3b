#!/usr/bin/python3 -ES
"""Upper-case server on Unix-domain sockets, any number and type of them at once.

unixserver [--mode OCTAL] TYPE:NAME...     TYPE: stream, dgram, seqpacket; NAME: a path, or @NAME (abstract)

Nobody without privilege can lie about who he is: the kernel tells the user, group and process behind each client
(unix(7), SO_PEERCRED and SCM_CREDENTIALS; in the latter, that of a datagram, root may name somebody else). A process of
another pid namespace has no number here, and shows as 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn

from bounds import CLIENTS, Places, log
from unixname import CREDENTIALS, PERMANENT, RECORD, TEMPORARY, Address, AddressError, open_server, receive, shown

IDLE = 30.0  # seconds until a silent client loses its place


def octal(text: str) -> int:
    return int(text, 8)


def who(credentials: bytes) -> str:
    pid, uid, gid = CREDENTIALS.unpack(credentials)
    return f"uid={uid} gid={gid} pid={pid}" + (" (another pid namespace)" if pid == 0 else "")


def serve_connections(address: Address, listener: socket.socket) -> None:
    places = Places()
    while True:
        connection, _ = listener.accept()
        places.enter(connection)
        threading.Thread(target=converse, args=(address, connection, places), daemon=True).start()


def converse(address: Address, connection: socket.socket, places: Places) -> None:
    """Answers one client until it ends, breaks off, falls silent or has to make room."""
    with connection:
        client = who(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        log(f"{address} connected {client}")
        connection.settimeout(IDLE)
        size, end = 0, "end of file"
        try:
            while (data := receive(connection)) is not None:
                places.hear(connection)
                size += len(data)
                connection.sendall(data.upper())
        except OSError as error:
            end = str(error)
        if not places.leave(connection):
            end = f"made room: {CLIENTS} clients"
        log(f"{address} closed {client} bytes={size} ({end})")


def serve_datagrams(address: Address, sock: socket.socket) -> None:
    while True:
        data, ancillary, flags, name = sock.recvmsg(RECORD, socket.CMSG_SPACE(CREDENTIALS.size))
        if flags & socket.MSG_TRUNC:
            outcome = f"not answered: longer than {RECORD} bytes"
        elif not name:
            outcome = "not answered: the sender has no name"
        else:
            try:
                sock.sendto(data.upper(), socket.MSG_DONTWAIT, name)
                outcome = f"answered to {shown(name)}"
            except OSError as error:  # a reader that is slow or gone, or a name that means nothing from here
                outcome = f"not answered: {shown(name)}: {os.strerror(error.errno or 0)}"
        log(f"{address} datagram {who(ancillary[0][2])} bytes={len(data)} {outcome}")


def give_up(crash: threading.ExceptHookArgs) -> NoReturn:
    """Ends the server with a thread that died, so that nobody waits for one that no longer listens."""
    print(f"unixserver: {crash.exc_value!r}; ended, start it again", file=sys.stderr, flush=True)
    os._exit(TEMPORARY)


def serve(addresses: list[Address], mode: int) -> None:
    """Serves all the addresses until SIGTERM or SIGINT, and takes the names away again. Raises AddressError."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    threading.excepthook = give_up
    made: dict[Path, int] = {}
    try:
        sockets = []
        for address in addresses:
            sockets.append((address, open_server(address, mode)))
            if not address.abstract:
                path = Path(address.name)
                made[path] = path.lstat().st_ino
        log(f"ready {' '.join(map(str, addresses))} uid={os.getuid()} gid={os.getgid()}")
        for address, sock in sockets:
            loop = serve_datagrams if address.type == "dgram" else serve_connections
            threading.Thread(target=loop, args=(address, sock), daemon=True).start()
        signal.sigwait(ends)
    finally:
        for path, inode in made.items():
            with contextlib.suppress(OSError):
                if path.lstat().st_ino == inode:  # not, if it is by now another's
                    path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(prog="unixserver", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mode", type=octal, default=0o666, help="of the socket file (666)")
    parser.add_argument("addresses", metavar="TYPE:NAME", nargs="+")
    try:
        options = parser.parse_args()
        serve([Address.parse(text) for text in options.addresses], options.mode)
    except SystemExit as wrong_usage:
        return PERMANENT if wrong_usage.code else 0
    except AddressError as error:
        print(f"unixserver: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
