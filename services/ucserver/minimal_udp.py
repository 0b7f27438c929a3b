#!/usr/bin/python3
"""The shortest upper-case server over UDP: correct for every honest client. README.md names what ends it."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1]) if len(sys.argv) > 1 else 4444))
print("ready", flush=True)
while True:
    request, client = server.recvfrom(1024)
    server.sendto(request.upper(), client)
