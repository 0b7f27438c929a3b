#!/usr/bin/python3 -ES
"""Client on a Unix-domain socket: sends each TEXT (or line of standard input), prints each reply.

unixclient [-v] [-w SECONDS] [--from beside|auto|nobody] [--fill] TYPE:NAME [TEXT...]

A datagram can be answered only if its sender has a name, too. `beside` binds a path in the directory of the server,
where the server finds it; `auto` lets the kernel choose an abstract name, which means something only within one
network namespace; `nobody` stays without a name and expects no answer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import socket
import sys
from pathlib import Path

from unixname import CREDENTIALS, PERMANENT, TEMPORARY, TYPES, Address, AddressError, receive, shown

PIECE = 1 << 16  # what both sides' buffers hold, so that we never send to a server that waits for us to read
DAY = 86_400  # seconds; poll() counts milliseconds, and cannot beyond 24 days


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) <= DAY:  # neither is true of nan
            return value
    raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, more than 0 and at most {DAY}")


def connect(server: Address, sender: str, on_exit: contextlib.ExitStack) -> socket.socket:
    """A socket joined to the server's, with a name of its own where a datagram needs one."""
    sock = on_exit.enter_context(socket.socket(socket.AF_UNIX, TYPES[server.type]))
    if server.type == "dgram" and (sender == "auto" or (sender == "beside" and server.abstract)):
        sock.bind("")
    elif server.type == "dgram" and sender == "beside":
        path = Path(server.name).parent / f"client-{secrets.token_hex(4)}"
        sock.bind(str(path))
        on_exit.callback(path.unlink)
        path.chmod(0o666)  # to answer is to write to it, whoever the server runs as
    sock.connect(server.sun_path)
    return sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    """The reply to `data`, which is as long as what was sent. Raises TimeoutError, EOFError."""
    if sock.type != socket.SOCK_STREAM:  # what is sent in one piece comes in one piece
        sock.sendall(data)
        if (record := receive(sock)) is None:
            raise EOFError("the server closed the connection")
        return record
    reply = b""
    for start in range(0, len(data), PIECE):
        sock.sendall(data[start : start + PIECE])
        while missing := min(start + PIECE, len(data)) - len(reply):
            received = sock.recv(missing)
            if not received:
                raise EOFError("the server closed the connection")
            reply += received
    return reply


def fill(sock: socket.socket, data: bytes) -> int:
    """How many pieces the kernel takes until it would make us wait for the reader."""
    sock.setblocking(False)
    for taken in range(100_000):
        try:
            sock.send(data)
        except BlockingIOError:
            return taken
    raise EOFError("100000 pieces were taken: the reader is as quick as we are; pause it first")


def describe(sock: socket.socket) -> str:
    """Whom we talk to (pid 0: not of our pid namespace), or under which name we send."""
    if sock.type == socket.SOCK_DGRAM:  # without connections, the kernel cannot tell who will read
        return f"our name: {shown(sock.getsockname()) or 'none'}"
    pid, uid, gid = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return f"server uid={uid} gid={gid} pid={pid}"


def converse(options: argparse.Namespace) -> None:
    server = Address.parse(options.address)
    texts = [os.fsencode(text) for text in options.texts] or (line.rstrip(b"\n") for line in sys.stdin.buffer)
    with contextlib.ExitStack() as on_exit:
        sock = connect(server, options.sender, on_exit)
        sock.settimeout(options.wait)
        if options.verbose:
            print(describe(sock), file=sys.stderr, flush=True)
        for text in texts:
            if options.fill:
                print(fill(sock, text), flush=True)
            elif server.type == "dgram" and options.sender == "nobody":
                sock.send(text)
            else:
                sys.stdout.buffer.write(ask(sock, text) + b"\n")
                sys.stdout.buffer.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="unixclient", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="tell who the server is, on standard error")
    parser.add_argument("-w", "--wait", type=seconds, default=3.0, metavar="SECONDS", help="for each reply (3)")
    parser.add_argument("--from", dest="sender", choices=["beside", "auto", "nobody"], default="beside")
    parser.add_argument("--fill", action="store_true", help="send until the kernel would make us wait; print how many")
    parser.add_argument("address", metavar="TYPE:NAME")
    parser.add_argument("texts", metavar="TEXT", nargs="*")
    try:
        options = parser.parse_intermixed_args()
        converse(options)
    except SystemExit as wrong_usage:
        return PERMANENT if wrong_usage.code else 0
    except AddressError as error:
        print(f"unixclient: {error}", file=sys.stderr)
        return error.code
    except TimeoutError:
        print(f"unixclient: {options.address}: no reply within {options.wait:g} s", file=sys.stderr)
        return TEMPORARY
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"unixclient: {options.address}: {reason}", file=sys.stderr)
        return PERMANENT if isinstance(error, PermissionError) else TEMPORARY
    return 0


if __name__ == "__main__":
    sys.exit(main())
