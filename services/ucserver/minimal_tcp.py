#!/usr/bin/python3
"""The shortest upper-case server over TCP: one polite client after another. README.md names what ends it."""

import socket
import sys

listener = socket.create_server(("", int(sys.argv[1]) if len(sys.argv) > 1 else 4444))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        while request := connection.recv(1024):
            connection.sendall(request.upper())
