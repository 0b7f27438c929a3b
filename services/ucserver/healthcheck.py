#!/usr/bin/python3 -ISE
"""Ask the server in this host over UDP and over TCP, as a client would; 0 if both answers are right, else 111."""

import socket
import sys

SERVER = ("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 4444)
SOURCE = ("127.0.0.2", 0)  # the server leaves it out of its log
REQUEST, ANSWER = b"Are you well? \xe9\0", b"ARE YOU WELL? \xe9\0"


def ask(kind: socket.SocketKind) -> bytes:
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(1.0)
        client.bind(SOURCE)
        client.connect(SERVER)
        client.send(REQUEST)
        return client.recv(len(ANSWER) + 1)


def main() -> int:
    for name, kind in (("UDP", socket.SOCK_DGRAM), ("TCP", socket.SOCK_STREAM)):
        try:
            answer = ask(kind)
        except OSError as error:
            print(f"{name} {SERVER}: {error}, expected {ANSWER!r}")
            return 111
        if answer != ANSWER:
            print(f"{name} {SERVER}: answered {answer!r}, expected {ANSWER!r}")
            return 111
    return 0


sys.exit(main())
