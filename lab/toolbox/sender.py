"""Runs beside a host, in its network namespace: sends packets exactly as they were crafted.

    python3 sender.py packets              whole IPv4 packets
    python3 sender.py frames INTERFACE     whole Ethernet frames, by this interface (lab/toolbox/interfaces.py)

Standard input: one after the other, each a 4-byte big-endian length and then that many bytes. Of an IPv4 packet the
kernel rewrites the total length and the header checksum (raw(7)) and wants a route to its destination; of a frame it
touches nothing. Takes CAP_NET_RAW.

Exits 0; 100 when there is no such interface or something is no packet; 111 when one cannot be sent.
"""

import socket
import struct
import sys
from collections.abc import Iterator
from typing import NoReturn

from lab.toolbox.interfaces import NoInterface, chosen

SEVERAL = "several"


def give_up(status: int, reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(status)


def packets() -> Iterator[bytes]:
    while head := sys.stdin.buffer.read(4):
        yield sys.stdin.buffer.read(*struct.unpack(">I", head))


def link(word: str) -> tuple[socket.socket, str]:
    """A socket for frames, and its interface."""
    try:
        interface = chosen(word, several=SEVERAL)
    except NoInterface as error:
        give_up(100, str(error))
    if interface == SEVERAL:
        give_up(100, "there is more than one interface that frames could leave by: name one")
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((interface, 0))
    return raw, interface


def main(kind: str, word: str = "") -> None:
    interface = ""
    if kind == "frames":
        raw, interface = link(word)
    else:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)  # implies IP_HDRINCL
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for number, packet in enumerate(packets(), 1):
        if not interface and (len(packet) < 20 or packet[0] >> 4 != 4):
            give_up(100, f"packet {number} is no IPv4 packet: {packet[:20].hex(' ')}")
        where = interface or socket.inet_ntoa(packet[16:20])
        try:
            if interface:
                raw.send(packet)
            else:
                raw.sendto(packet, (where, 0))
        except OSError as error:
            give_up(111, f"packet {number}, {len(packet)} bytes to {where}: {error.strerror}; {number - 1} sent before")


if __name__ == "__main__":
    main(*sys.argv[1:])
