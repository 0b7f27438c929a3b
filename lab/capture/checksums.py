"""Checksums that a sender left unfinished.

A packet that leaves a host for a network card that sums up by itself (all virtual ones say they do) has only the sum of
its pseudo-header (RFC 768, RFC 9293 3.1) in its checksum field. Where the packet never meets a real card, nobody
finishes it, and captures show it so. That sum is what tells an unfinished checksum from a wrong one, which stays.
(The kernel's own mark, TP_STATUS_CSUMNOTREADY of packet(7), does not come through libpcap. A wrong checksum that is by
chance this very sum, one of 65,536, is taken for unfinished.)
"""

from __future__ import annotations

import struct
import sys
from array import array

CHECKSUM_AT = {6: 16, 17: 6}
"""Where TCP and UDP have it."""

_HEADS = {1: (14, 12), 113: (16, 14), 276: (20, 0)}
"""By type of link (Ethernet, Linux cooked 1 and 2): bytes before the packet, and where its protocol stands."""
_VLAN = {0x8100, 0x88A8}
_IPV4 = 0x0800


def completed(frame: bytes, link: int | None) -> bytes:
    """The frame, with the checksum that its sender's card would have put in."""
    found = _ipv4(frame, link)
    if found is None:
        return frame
    start, end = found
    head = 4 * (frame[start] & 15)
    protocol, payload = frame[start + 9], start + head
    fragment = int.from_bytes(frame[start + 6 : start + 8], "big") & 0x3FFF
    at = payload + CHECKSUM_AT.get(protocol, 0)
    if fragment or at == payload or at + 2 > end or end > len(frame):
        return frame
    pseudo = frame[start + 12 : start + 20] + struct.pack(">HH", protocol, end - payload)
    if int.from_bytes(frame[at : at + 2], "big") != _sum(pseudo):
        return frame
    # The sum in the field is that of the pseudo-header, so the whole sums up to what is to be put in, inverted.
    right = (0xFFFF - _sum(frame[payload:end])) or 0xFFFF
    return frame[:at] + right.to_bytes(2, "big") + frame[at + 2 :]


def _ipv4(frame: bytes, link: int | None) -> tuple[int, int] | None:
    """Where an IPv4 packet begins and ends, by its own word."""
    start, kind_at = _HEADS.get(link or 0, (0, 0))
    kind = int.from_bytes(frame[kind_at : kind_at + 2], "big")
    while start and kind in _VLAN:
        kind = int.from_bytes(frame[start + 2 : start + 4], "big")
        start += 4
    if not start or kind != _IPV4 or len(frame) < start + 20:
        return None
    return start, start + int.from_bytes(frame[start + 2 : start + 4], "big")


def _sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071)."""
    words = array("H", data + b"\0" * (len(data) % 2))
    if sys.byteorder == "little":
        words.byteswap()
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
