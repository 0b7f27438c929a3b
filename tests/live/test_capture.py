"""Captures: complete or said not to be, as the wire has it, and found again by what is in them."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from lab.capture import capture
from lab.errors import ExpectationFailed, HostError
from lab.waiting import Deadline, poll

PORT = 4444

BURST = """
import socket, sys
size, count = map(int, sys.argv[1:])
there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
there.bind(("127.0.0.1", 0))
there.connect(there.getsockname())
for number in range(count):
    there.send(number.to_bytes(size, "big"))
    there.recv(65536)
"""
"""Datagrams to oneself on lo, each taken in before the next: none of them is lost by its receiver."""


def checksum_is_right(packet):
    layer = TCP if TCP in packet else UDP
    again = packet[IP].copy()
    del again[layer].chksum
    return IP(bytes(again))[layer].chksum == packet[layer].chksum


def is_about(packet, port):
    return UDP in packet and port in (packet[UDP].sport, packet[UDP].dport)


# Nothing is cut or lost


def test_the_segments_of_a_large_transfer_are_whole(lab, client):
    """Segmentation offload hands the card frames far beyond its MTU."""
    sent = bytes(range(250)) * 800
    with client.capture(f"tcp port {PORT}") as wire:
        client.run(["nc", "-N", "ucserver", str(PORT)], input=sent, timeout=30).check()
    address = lab.host("ucserver").address
    found = [packet for packet in wire.packets if packet[IP].dst == address and Raw in packet]
    by_place = {packet[TCP].seq: bytes(packet[Raw]) for packet in found}  # what was sent twice counts once
    assert sum(map(len, by_place.values())) == len(sent)
    assert max(map(len, by_place.values())) > 9216, "the control: there were such frames"
    assert all(packet.wirelen == len(packet) for packet in wire.packets)


def test_a_large_datagram_on_lo_is_whole(client):
    with client.capture("udp", interface="lo") as wire:
        client.run(["python3", "-c", BURST, "20000", "1"]).check()
    assert [len(packet[Raw]) for packet in wire.packets] == [20_000]


def test_a_burst_is_caught_to_the_last_datagram(client):
    with client.capture("udp", interface="lo") as wire:
        client.run(["python3", "-c", BURST, "8", "12000"], timeout=30).check()
    numbers = [int.from_bytes(bytes(packet[Raw]), "big") for packet in wire.packets]
    assert numbers == list(range(12_000))
    assert wire.dropped == 0


def test_a_capture_with_gaps_says_how_many(client, monkeypatch):
    monkeypatch.setattr(capture, "RING_BYTES", 1 << 18)
    flood = ["sh", "-c", 'for _ in 1 2 3; do python3 -c "$0" 1400 12000 & done; wait', BURST]
    with (
        pytest.raises(HostError, match=r"is not complete: of \d+ packets the kernel dropped \d+, and 0 are cut short"),
        client.capture("udp", interface="lo"),
    ):
        client.run(flood, timeout=60).check()
    with client.capture("udp", interface="lo", lossy=True) as wire:
        client.run(flood, timeout=60).check()
    assert wire.dropped > 0
    assert 0 < len(wire.packets) < 36_000
    assert len(wire.packets) + wire.dropped >= 36_000


def test_two_captures_of_one_lan_do_not_see_each_others_end(lab, client):
    """Nor does a third one, which catches everything."""
    server = lab.host("ucserver")
    with client.capture() as bystander:
        for _ in range(3):
            with server.capture("arp"), client.capture("arp"):
                pass
        client.run(["nc", "-u", "-w1", "ucserver", str(PORT)], input=b"hi\n").check()
    assert [bytes(packet[Raw]) for packet in bystander.packets if is_about(packet, PORT)] == [b"hi\n", b"HI\n"]
    assert not [packet for packet in bystander.packets if packet.type == 0x88B5]


def test_a_frame_of_the_type_that_captures_end_by_is_no_end(client):
    """0x88B5 is there for experiments, such as those of who uses the lab."""
    own = Ether(dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / b"an experiment"
    with client.capture("ether proto 0x88b5") as wire:
        client.inject([own, own])
    assert [bytes(packet.payload)[:13] for packet in wire.packets] == [b"an experiment"] * 2


def test_a_router_is_caught_on_all_its_cards(lab, client):
    far = lab.host("farpeer").address
    with lab.host("router").capture(f"icmp and host {far}") as wire:
        client.run(["ping", "-c1", "-w5", far])
    assert len([packet for packet in wire.packets if packet[IP].src == client.address]) == 2, (
        "in by one, out by another"
    )


def test_a_capture_that_its_host_ends_says_so(lab):
    with (
        lab.container("datagram-lab/client", networks=["lan"], command=["sleep", "60"]) as host,
        pytest.raises(HostError, match="broke off before its end"),
        host.capture() as wire,
    ):
        wire._process.kill()


# Checksums


def test_checksums_are_as_a_card_would_have_made_them(lab, client):
    with lab.host("ucserver").capture(f"port {PORT}") as wire:
        client.run(["nc", "-u", "-w1", "ucserver", str(PORT)], input=b"hi\n").check()
        client.run(["nc", "-N", "ucserver", str(PORT)], input=b"hi\n").check()
    assert {packet[IP].proto for packet in wire.packets} == {6, 17}
    assert all(checksum_is_right(packet) for packet in wire.packets)


def test_what_was_caught_is_answered_when_it_is_sent_again(client):
    with client.capture(f"udp port {PORT}") as wire:
        client.run(["nc", "-u", "-w1", "ucserver", str(PORT)], input=b"hi\n").check()
    asked = wire.packets[0]
    for again in (asked, asked[IP]):
        with client.capture(f"udp src port {PORT}") as wire:
            client.inject([again])
            assert bytes(wire.wait_for(lambda p: UDP in p)[Raw]) == b"HI\n"


def test_a_wrong_checksum_stays_wrong(lab, client):
    wrong = IP(src=client.address, dst=lab.host("ucserver").address) / UDP(sport=7, dport=7777, chksum=0xBAD) / b"x"
    with lab.host("ucserver").capture("udp port 7777") as wire:
        client.inject([wrong])
    assert [packet[UDP].chksum for packet in wire.packets] == [0xBAD]


# Filters


@pytest.mark.parametrize("words", ["vlan", "vlan 10 and udp", "udp or (vlan and udp)", "vlan or udp port 7"])
def test_a_filter_that_moves_the_offsets_does_not_move_the_end(client, words):
    tagged = Ether(dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=10) / IP(dst=client.address) / UDP(sport=9, dport=9) / b"x"
    with client.capture(words) as wire:
        client.inject([tagged])
    assert [packet[Dot1Q].vlan for packet in wire.packets if is_about(packet, 9)] == [10]


@pytest.mark.parametrize(
    ("words", "card", "said"),
    [("udp portt 7", None, "can't parse filter expression: syntax error"), ("udp", "eth7", "eth7: .*No such device")],
)
def test_a_filter_or_a_card_that_is_none_is_refused_with_a_reason(client, words, card, said):
    with pytest.raises(HostError, match=f"no capture on client: {said}"), client.capture(words, interface=card):
        pass


# Waiting for a packet


def test_a_packet_without_the_layer_does_not_count_and_a_mistake_does(client):
    with client.capture() as wire:
        client.run(["nc", "-u", "-w1", "ucserver", str(PORT)], input=b"hi\n").check()
        assert wire.wait_for(lambda p: p[UDP].dport == PORT)
        with pytest.raises(AttributeError, match="dprot"):
            wire.wait_for(lambda p: p[UDP].dprot == PORT)
        with pytest.raises(IndexError, match="list index out of range"):
            wire.wait_for(lambda p: [][1])
        with pytest.raises(ExpectationFailed, match=r"no such packet on client within 0\.1 s"):
            wire.wait_for(lambda p: p[ARP].op == 77, timeout=0.1)


def test_packets_are_there_while_the_capture_runs(client):
    with client.capture("icmp") as wire, client.start(["ping", "-i0.2", "ucserver"]):
        assert poll(lambda: len(wire.packets) >= 4, Deadline.after(5))
        times = [float(packet.time) for packet in wire.packets]
        assert times == sorted(times)
