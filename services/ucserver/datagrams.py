"""The UDP half: answer each datagram, survive what any of them does, and not be set against another service.

What is refused, and why:
- a source port below 1024, or this server's own: a service lives there, perhaps one that answers too. Were the
  source forged, the two would answer each other for ever (CERT CA-1996-01, CVE-2024-2169). Port 0 is among them.
  A server on another high port looks like a client, and against it nothing helps: UDP has no way to tell.
- whatever was sent to a broadcast address: one request would bring an answer from each server of the network,
  to a source that may be forged.

An answer leaves from the address that was asked (RFC 1123, 2.3 and 4.1; ip(7), IP_PKTINFO). Left to the kernel, a host
with several addresses answers from the one nearest to the client, and a connected client does not hear that. Naming the
address costs a tenth of the throughput, so it is left to the kernel where, a moment ago, that would have chosen right.
"""

from __future__ import annotations

import array
import contextlib
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
IP_PKTINFO = 8  # linux/in.h, nor (before 3.14) for this
PKTINFO_ROOM = socket.CMSG_SPACE(12)  # struct in_pktinfo: interface, own address, address in the header
ANY_INTERFACE = bytes(4)
REMEMBERED = 256  # clients

Ancillary = list[tuple[int, int, bytes]]
DROPS = 8  # of the nine counters of SO_MEMINFO


def refuse_broadcasts(sock: socket.socket) -> None:
    """Make the kernel drop what came as a broadcast: a socket bound to all addresses hears them too.

    The kernel knows before the program is woken, so honest datagrams pay nothing for it.
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


def from_the_address_asked(ancillary: Ancillary) -> Ancillary:
    """What recvmsg told of a datagram, for sendmsg; the way back may begin at another interface than it came by."""
    return [(level, kind, ANY_INTERFACE + info[4:]) for level, kind, info in ancillary]


def kernel_would_choose(client: str) -> bytes:
    """The address from which the kernel would send to this one; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((client, 1))
        return socket.inet_aton(sock.getsockname()[0])
    return b""


class Datagrams:
    def __init__(self, sock: socket.socket, log: EventLog) -> None:
        self._socket = sock
        self._log = log
        self.answered = self.refused = self.failed = 0
        self._reported = (0, 0, 0, 0)
        self._last = ""  # client that was answered from a named address
        self._usual: dict[str, Ancillary] = {}
        """By client, the asked address from which the kernel answers of itself."""

    def serve(self) -> None:
        """Answer for ever. Only this loop is quick: what is not needed for each datagram is elsewhere."""
        own = self._socket.getsockname()[1]
        receive, send, flags = self._socket.recvmsg, self._socket.sendto, socket.MSG_DONTWAIT
        usual = self._usual
        while True:
            data, asked, _, sender = receive(LARGEST, PKTINFO_ROOM)
            host, port = sender
            if port < 1024 or port == own:
                self._refuse(sender)
                continue
            try:
                if usual.get(host) == asked:
                    send(data.upper(), flags, sender)
                else:
                    self._answer_from(asked, data.upper(), sender)
            except OSError as error:
                self._fail(sender, error)
                continue
            if host != HEALTH_CHECK:
                self.answered += 1

    def _answer_from(self, asked: Ancillary, data: bytes, sender: tuple[str, int]) -> None:
        self._socket.sendmsg([data], from_the_address_asked(asked), socket.MSG_DONTWAIT, sender)
        host, _ = sender
        if host == self._last and all(info[4:8] == kernel_would_choose(host) for _, _, info in asked):
            if len(self._usual) == REMEMBERED:
                self._usual.clear()
            self._usual[host] = asked
        self._last = host  # twice in a row: a flood of forged sources is not worth finding out about

    def _refuse(self, sender: tuple[str, int]) -> None:
        self.refused += 1
        self._log.stranger("udp {}:{} refused: its answer could start a loop", *sender)

    def _fail(self, sender: tuple[str, int], error: OSError) -> None:
        """Go on: the source was forged, a firewall forbids the answer, or there is no room (nobody waits for room)."""
        self.failed += 1
        self._log.stranger("udp {}:{} not answered: {}", *sender, error.strerror)

    def report(self) -> None:
        """Log what was done since the last report, if anything was. What was found out about routes is out of date."""
        self._usual.clear()
        meminfo = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        dropped = struct.unpack("=9I", meminfo)[DROPS]  # by the kernel: buffer full, or a broadcast
        now = (self.answered, self.refused, self.failed, dropped)
        answered, refused, failed, dropped = (new - old for new, old in zip(now, self._reported, strict=True))
        if any((answered, refused, failed, dropped)):
            self._log.event(f"udp answered={answered} refused={refused} failed={failed} dropped={dropped}")
        self._reported = now
