"""The UDP half: answer each datagram, survive what any of them does, and not be set against another service.

What is refused, and why:
- a source port below 1024, or this server's own: a service lives there, perhaps one that answers too. Were the
  source forged, the two would answer each other for ever (CERT CA-1996-01, CVE-2024-2169). Port 0 is among them.
  A server on another high port looks like a client, and against it nothing helps: UDP has no way to tell.
- whatever was sent to a broadcast address: one request would bring an answer from each server of the network,
  to a source that may be forged.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventlog import EventLog

LARGEST = 65_507
"""Bytes of payload that IPv4 leaves to UDP."""
HEALTH_CHECK = "127.0.0.2"
"""Where healthcheck.py asks from: answered like everybody, but not told of in the log."""

SO_ATTACH_FILTER, SO_MEMINFO = 26, 55  # asm-generic/socket.h; Python has no names for them
DROPS = 8  # of the nine counters of SO_MEMINFO


def refuse_broadcasts(sock: socket.socket) -> None:
    """Make the kernel drop what came as a broadcast: a socket bound to all addresses hears them too.

    Python could tell by IP_PKTINFO, but asking with each datagram costs a tenth of the throughput.
    """
    pkttype = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE (linux/filter.h); 0 is PACKET_HOST: sent to this host
    program = [
        (0x28, 0, 0, pkttype),     # load the packet's type
        (0x15, 0, 1, 0),           # is it 0?
        (0x06, 0, 0, 0xFFFFFFFF),  # yes: keep all of it
        (0x06, 0, 0, 0),           # no: keep nothing
    ]  # fmt: skip
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    address, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))


def keep_room_to_send(sock: socket.socket) -> None:
    """Ask for the largest send buffer the kernel grants.

    Answers to an address of this network that no host has wait three seconds for ARP, up to 208 KiB for each such
    address: as much as a socket may send by default, so that 256 forged datagrams would silence it for everybody.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)


class Datagrams:
    def __init__(self, sock: socket.socket, log: EventLog) -> None:
        self._socket = sock
        self._log = log
        self.answered = self.refused = self.failed = 0
        self._reported = (0, 0, 0, 0)

    def serve(self) -> None:
        """Answer for ever. Only this loop is quick: what is not needed for each datagram is elsewhere."""
        own = self._socket.getsockname()[1]
        receive, send, flags = self._socket.recvfrom, self._socket.sendto, socket.MSG_DONTWAIT
        while True:
            data, sender = receive(LARGEST)
            host, port = sender
            if port < 1024 or port == own:
                self._refuse(sender)
                continue
            try:
                send(data.upper(), flags, sender)
            except OSError as error:
                self._fail(sender, error)
                continue
            if host != HEALTH_CHECK:
                self.answered += 1

    def _refuse(self, sender: tuple[str, int]) -> None:
        self.refused += 1
        self._log.stranger("udp {}:{} refused: its answer could start a loop", *sender)

    def _fail(self, sender: tuple[str, int], error: OSError) -> None:
        """Go on: the source was forged, a firewall forbids the answer, or there is no room (nobody waits for room)."""
        self.failed += 1
        self._log.stranger("udp {}:{} not answered: {}", *sender, error.strerror)

    def report(self) -> None:
        """Log what was done since the last report, if anything was."""
        meminfo = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        dropped = struct.unpack("=9I", meminfo)[DROPS]  # by the kernel: buffer full, or a broadcast
        now = (self.answered, self.refused, self.failed, dropped)
        answered, refused, failed, dropped = (new - old for new, old in zip(now, self._reported, strict=True))
        if any((answered, refused, failed, dropped)):
            self._log.event(f"udp answered={answered} refused={refused} failed={failed} dropped={dropped}")
        self._reported = now
