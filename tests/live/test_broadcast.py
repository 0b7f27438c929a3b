"""Broadcasts: who hears them and who does not; the article's peers, in numbers."""

from __future__ import annotations

import re
import struct
import time
from itertools import groupby

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from lab.waiting import Deadline, poll

PORT = 2066
ROUNDS = 3

# Sends what standard input holds, as one datagram, to the address and port given; says what the kernel thought of it.
SEND = """
import errno, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if "allowed" in sys.argv[3:]:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
try:
    s.sendto(sys.stdin.buffer.read(), (sys.argv[1], int(sys.argv[2])))
    print("sent from port", s.getsockname()[1])
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def send(host, data: bytes, address: str, port: int = PORT, *allowed: str) -> str:
    return host.run(["python3", "-c", SEND, address, str(port), *allowed], input=data).check().text.strip()


def value(number: int) -> bytes:
    return struct.pack("<i", number)


def heard(log: str) -> list[tuple[int, str]]:
    """The values in a peer's log, each with its sender, in order."""
    return [(int(number), sender) for number, sender in re.findall(r"^got +(-?\d+) from ([\d.]+)$", log, re.MULTILINE)]


def senders(host, since: float) -> list[str]:
    return [sender for _, sender in heard(host.logs(since=since))]


def wait_until_heard(host, addresses: set[str], since: float, times: int = ROUNDS) -> list[str]:
    """The senders of all lines since then, once each of `addresses` has been heard so often."""

    def enough() -> list[str] | None:
        seen = senders(host, since)
        return seen if all(seen.count(address) >= times for address in addresses) else None

    seen = poll(enough, Deadline.after(times + 10), every=0.2)
    assert seen, f"{host.name} has not heard each of {addresses} {times} times: {senders(host, since)}"
    return seen


def near_peers(lab):
    return [host for host in lab.hosts() if host.name.startswith("peer") and "lan" in host.addresses]


@pytest.fixture(params=[3, 6])
def peers(lab, request):
    """So many peers on `lan`: the article's two, and others."""
    before = len(near_peers(lab)) - 2
    lab.scale("peer", request.param - 2)
    found = near_peers(lab)
    assert len(found) == request.param
    yield found
    lab.scale("peer", before)


def test_each_peer_hears_every_peer_itself_included_and_interleaved(peers):
    everyone = {peer.address for peer in peers}
    start = time.time()
    for peer in peers:
        seen = wait_until_heard(peer, everyone, start)
        assert set(seen) == everyone
        for sender in everyone:
            first, last = seen.index(sender), len(seen) - 1 - seen[::-1].index(sender)
            assert set(seen[first:last]) == everyone, f"{sender} was heard in one block: {seen}"
        assert len(list(groupby(seen))) > 2 * len(everyone)


def test_the_far_peer_hears_itself_and_nobody_beyond_the_router(lab, peers):
    far = lab.host("farpeer")
    start = time.time()
    with far.capture(f"udp port {PORT}") as wire:
        for peer in peers:
            assert far.address not in wait_until_heard(peer, {peer.address for peer in peers}, start)
        assert set(wait_until_heard(far, {far.address}, start)) == {far.address}
        wire.wait_for(lambda p: p[IP].src == far.address)
    assert {packet[IP].src for packet in wire.packets} == {far.address}


def test_routers_do_not_pass_broadcasts_and_do_pass_unicast(lab, client):
    near, far = lab.host("peer69"), lab.host("farpeer")
    start = time.time()
    assert send(client, value(-654), "255.255.255.255", PORT, "allowed").startswith("sent")
    with far.capture(f"udp port {PORT} and src host {client.address}") as wire:
        assert send(client, value(-987), far.address).startswith("sent")
        assert wire.wait_for(lambda p: p[UDP].dport == PORT)[IP].ttl == 63
    near.wait_for_log(rf"got -654 from {re.escape(client.address)}\n", since=start)
    far.wait_for_log(rf"got -987 from {re.escape(client.address)}\n", since=start)
    assert "-654" not in far.logs(since=start)


def test_without_so_broadcast_the_send_is_refused(lab, client):
    near = lab.host("peer69")
    assert send(client, value(1), "255.255.255.255") == "EACCES"
    assert send(client, value(1), re.sub(r"\d+$", "255", client.address)) == "EACCES"
    start = time.time()
    assert send(client, value(-1), "255.255.255.255", PORT, "allowed").startswith("sent")
    near.wait_for_log(rf"got  -1 from {re.escape(client.address)}\n", since=start)


def test_all_listeners_must_use_one_port(lab, client):
    near = lab.host("peer69")
    start = time.time()
    with near.capture(f"udp and src host {client.address}") as wire:
        send(client, value(-111), "255.255.255.255", PORT + 1, "allowed")
        send(client, value(-222), "255.255.255.255", PORT, "allowed")
        wire.wait_for(lambda p: p[UDP].dport == PORT)
    assert [p[UDP].dport for p in wire.packets] == [PORT + 1, PORT]  # both arrived at the host
    near.wait_for_log(r"got -222 from", since=start)
    assert "-111" not in near.logs(since=start)


@pytest.mark.parametrize("data", [b"", b"\x07", b"abc", b"abcde", bytes(1400)], ids=lambda data: f"{len(data)} bytes")
def test_a_datagram_of_another_size_is_reported_and_not_printed_as_a_value(lab, client, data):
    near = lab.host("peer69")
    start = time.time()
    port = send(client, data, near.address).split()[-1]
    near.wait_for_log(
        rf"ignored {len(data)} bytes from {re.escape(client.address)} port {port}: a value is 4 bytes\n", since=start
    )
    assert client.address not in senders(near, start)


def test_a_spoofed_broadcast_is_printed_under_the_name_it_claims(lab, client):
    near = lab.host("peer73")
    claimed = re.sub(r"\d+$", "99", client.address)
    start = time.time()
    client.inject([IP(src=claimed, dst="255.255.255.255") / UDP(sport=0, dport=PORT) / Raw(value(42))])
    near.wait_for_log(rf"got  42 from {re.escape(claimed)}\n", since=start)
