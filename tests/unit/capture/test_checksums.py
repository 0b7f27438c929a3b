from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.packet import Packet, Raw

from lab.capture.checksums import completed

ETHERNET, COOKED, COOKED_2 = 1, 113, 276
HEADS = {
    "ethernet": (ETHERNET, bytes(Ether(type=0x0800))),
    "tagged": (ETHERNET, bytes(Ether() / Dot1Q(vlan=10, type=0x0800))),
    "tagged twice": (ETHERNET, bytes(Ether(type=0x88A8) / Dot1Q(vlan=1) / Dot1Q(vlan=2, type=0x0800))),
    "cooked": (COOKED, bytes(CookedLinux(proto=0x0800))),
    "cooked 2": (COOKED_2, bytes.fromhex("0800 0000 00000002 0001 00 06 0242c0a8010a 0000")),
}
PACKETS = [
    IP(src="192.168.1.10", dst="192.168.1.20") / UDP(sport=40000, dport=4444) / b"odd",
    IP(src="192.168.1.10", dst="192.168.1.20") / UDP(sport=40000, dport=4444) / b"even",
    IP(src="192.168.1.10", dst="192.168.1.20", options=[("NOP")]) / TCP(dport=4444, flags="S") / (b"\xff" * 50_001),
    IP(src="203.0.113.255", dst="203.0.113.254") / UDP(sport=65535, dport=65535),
]


def pseudo_sum(packet: Packet) -> int:
    """What Linux leaves to the card to go on with."""
    protocol = {TCP: 6, UDP: 17}[type(packet.payload)]
    source, destination = (bytes(map(int, name.split("."))) for name in (packet.src, packet.dst))
    head = source + destination + bytes([0, protocol]) + len(packet.payload).to_bytes(2, "big")
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 12, 2))
    return (total & 0xFFFF) + (total >> 16)


def unfinished(packet: Packet) -> bytes:
    packet = IP(bytes(packet))
    packet.payload.chksum = pseudo_sum(packet)
    return bytes(packet)


@pytest.mark.parametrize("packet", PACKETS, ids=[repr(packet)[:70] for packet in PACKETS])
@pytest.mark.parametrize("head", HEADS)
def test_an_unfinished_checksum_becomes_the_one_that_scapy_makes(packet: Packet, head: str) -> None:
    link, before = HEADS[head]
    assert unfinished(packet) != bytes(packet)
    assert completed(before + unfinished(packet), link) == before + bytes(packet)


def test_what_the_card_pads_with_is_no_part_of_the_sum() -> None:
    _, before = HEADS["ethernet"]
    assert completed(before + unfinished(PACKETS[0]) + b"padding", ETHERNET) == before + bytes(PACKETS[0]) + b"padding"


@pytest.mark.parametrize("wrong", [0, 0xBAD, 0xFFFF])
def test_a_wrong_checksum_and_none_stay(wrong: int) -> None:
    frame = bytes(Ether() / IP(src="192.168.1.10", dst="192.168.1.20") / UDP(chksum=wrong) / b"x")
    assert completed(frame, ETHERNET) == frame


def test_a_right_checksum_stays() -> None:
    frame = bytes(Ether() / PACKETS[0])
    assert completed(frame, ETHERNET) == frame


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(Ether()),
        bytes(Ether(type=0x0800)) + b"\x45",
        bytes(Ether() / Dot1Q())[:15],
        bytes(Ether() / IP(ihl=15, len=20)),
        bytes(Ether() / IP(frag=3, proto=17) / Raw(bytes(8))),
        bytes(Ether() / IP(flags="MF", proto=17) / Raw(bytes(8))),
        bytes(Ether() / IP(proto=1, len=28) / Raw(bytes(8))),
        bytes(Ether() / IP(proto=17, len=1000) / Raw(bytes(8))),
        bytes(Ether() / IP(proto=17, len=22) / Raw(bytes(2))),
    ],
)
def test_what_is_no_whole_packet_of_udp_or_tcp_stays(frame: bytes) -> None:
    assert completed(frame, ETHERNET) == frame


def test_another_type_of_link_is_left_alone() -> None:
    frame = bytes(Ether()) + unfinished(PACKETS[0])
    assert completed(frame, 147) == frame
    assert completed(frame, None) == frame
