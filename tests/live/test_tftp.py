"""TFTP across the router: real tftpd-hpa and tftp-hpa, and what they send each other.

The wire is watched at the server. A transfer's own ports are known only from the packets themselves, so scapy is told
there that the payload is TFTP.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.tftp import TFTP, TFTP_ACK, TFTP_DATA, TFTP_RRQ, TFTP_WRQ
from scapy.packet import Packet

from lab import Host, Lab
from lab.exec.remote import STDOUT
from lab.waiting import Deadline, poll

BLOCK = 512
HELLO = b"Hello from the other side of the router.\n"
TWO_BLOCKS = b"sixteen bytes..\n" * 64

KILL = r"kill -9 $(grep -lx in.tftpd /proc/[0-9]*/comm | tr -dc '0-9\n')"
"""Ends those that may be: root's is the one that waits for requests, an ordinary user's are the transfers."""

SLOW_CLIENTS = r"""
# Clients that do not acknowledge before they are told to: argv is the server's address, then the files to ask for.
import json, socket, sys, time

transfers = []
for name in sys.argv[2:]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.sendto(b"\0\1" + name.encode() + b"\0octet\0", (sys.argv[1], 69))
    block, server = sock.recvfrom(600)
    transfers.append((sock, server, block, time.monotonic()))
print(json.dumps([[server[1], len(block)] for _, server, block, _ in transfers]), flush=True)

if sys.stdin.readline() == "wait for repetition\n":
    for sock, server, block, arrived in transfers:
        again, source = sock.recvfrom(600)
        print(json.dumps([again == block, source == server, time.monotonic() - arrived]), flush=True)

for sock, server, block, _ in transfers:
    data = block[4:]
    while True:
        sock.sendto(b"\0\4" + block[2:4], server)
        if len(block) < 516:
            break
        wanted = int.from_bytes(block[2:4], "big") + 1
        while int.from_bytes(block[2:4], "big") != wanted:
            block = sock.recv(600)
        data += block[4:]
    print(data.hex(), flush=True)
"""


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("tftp")


@pytest.fixture
def room(server: Host) -> Iterator[str]:
    """The folder for uploads, emptied afterwards."""
    yield "incoming"
    server.run(["sh", "-c", "rm -f /srv/tftp/incoming/*"], user="lab").check()


def get(client: Host, server: Host, name: str, *options: str) -> bytes:
    """What `tftp` writes; when it fails, its complaint. Its exit code is 0 either way."""
    return client.run(["tftp", server.address, "-m", "octet", *options, "-c", "get", name, "/dev/stdout"]).stdout


def put(client: Host, server: Host, content: bytes, name: str) -> bytes:
    words = ["tftp", server.address, "-m", "octet", "-c", "put", "/dev/stdin", name]
    return client.run(words, input=content, timeout=30).stdout


def transfers(packets: list[Packet]) -> list[tuple[Packet, TFTP]]:
    return [(packet, TFTP(bytes(packet[UDP].payload))) for packet in packets if UDP in packet]


def test_get_hello(client, server):
    mark = server.mark_log()
    assert get(client, server, "hello.txt") == HELLO
    server.wait_for_log(rf"RRQ from {re.escape(client.address)} filename hello\.txt", since=mark)


def test_a_file_may_be_called_like_the_health_check_and_is_told_of_all_the_same(client, server):
    mark = server.mark_log()
    assert b"File not found" in get(client, server, "x from 127.0.0.1 y")
    server.wait_for_log(rf"RRQ from {re.escape(client.address)} filename x from 127\.0\.0\.1 y", since=mark)


def test_get_as_typed_leaves_the_file(client, server):
    client.run(["tftp", server.address, "-c", "get", "hello.txt"], cwd="/tmp").check()
    assert client.run(["cat", "/tmp/hello.txt"]).stdout == HELLO
    client.run(["rm", "/tmp/hello.txt"]).check()


def test_get_on_the_wire_is_block_by_block_from_a_new_port(client, server):
    with server.capture(f"udp and host {client.address}") as wire:
        assert get(client, server, "two-blocks.txt") == TWO_BLOCKS
    packets = transfers(wire.packets)
    request, message = packets[0]
    assert request[UDP].dport == 69
    assert message[TFTP_RRQ].filename == b"two-blocks.txt"
    client_port = request[UDP].sport
    server_port = packets[1][0][UDP].sport
    assert server_port not in (69, client_port)

    told = [(packet[UDP].sport, packet[UDP].dport, *spoken(message)) for packet, message in packets[1:]]
    there, back = (server_port, client_port), (client_port, server_port)
    assert told == [
        (*there, "DATA", 1, BLOCK),
        (*back, "ACK", 1, 0),
        (*there, "DATA", 2, BLOCK),
        (*back, "ACK", 2, 0),
        (*there, "DATA", 3, 0),  # 1024 bytes: only an empty block tells the end
        (*back, "ACK", 3, 0),
    ]
    assert all(packet[IP].ttl == 63 for packet, _ in packets if packet[IP].src == client.address), (
        "by way of the router"
    )


def spoken(message: TFTP) -> tuple[str, int, int]:
    """Kind, block number and number of bytes of a DATA or an ACK."""
    if TFTP_DATA in message:
        return "DATA", message[TFTP_DATA].block, len(message[TFTP_DATA].payload)
    return "ACK", message[TFTP_ACK].block, 0


def test_put_on_the_wire_is_the_same_the_other_way_round(client, server, room):
    content = os.urandom(BLOCK + 100)
    with server.capture(f"udp and host {client.address}") as wire:
        assert put(client, server, content, f"{room}/short") == b""
    packets = transfers(wire.packets)
    assert packets[0][1][TFTP_WRQ].filename == f"{room}/short".encode()
    assert packets[0][0][UDP].dport == 69
    assert packets[1][0][UDP].sport != 69
    assert [spoken(message) for _, message in packets[1:]] == [
        ("ACK", 0, 0),  # go on
        ("DATA", 1, BLOCK),
        ("ACK", 1, 0),
        ("DATA", 2, 100),
        ("ACK", 2, 0),
    ]
    assert get(client, server, f"{room}/short") == content


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 1_048_576])
def test_what_is_put_is_got_again_byte_for_byte(client, server, room, size):
    content = os.urandom(size)
    assert put(client, server, content, f"{room}/file") == b""
    assert get(client, server, f"{room}/file") == content


def test_each_transfer_has_a_port_of_its_own(client, server):
    with server.capture(f"udp and src host {server.address}") as wire:
        for _ in range(3):
            assert get(client, server, "hello.txt") == HELLO
    ports = [packet[UDP].sport for packet in wire.packets]
    assert len(ports) == len(set(ports)) == 3
    assert 69 not in ports


def test_two_clients_at_once_are_served_by_two_children(client, server):
    with client.start(["python3", "-c", SLOW_CLIENTS, server.address, "two-blocks.txt", "hello.txt"]) as slow:
        (port, size), (other_port, other_size) = json.loads(slow.expect(rb"(.*)\n", timeout=10)[1])
        assert port != other_port
        assert (size, other_size) == (4 + BLOCK, 4 + len(HELLO)), "both have begun, neither has been acknowledged"
        slow.write(b"go on\n")
        assert bytes.fromhex(slow.expect(rb"(.*)\n", timeout=10)[1].decode()) == TWO_BLOCKS
        assert bytes.fromhex(slow.expect(rb"(.*)\n", timeout=10)[1].decode()) == HELLO


def test_block_that_is_not_acknowledged_is_sent_again_after_a_second(client, server):
    """What a loss looks like to the server; whether the block or its acknowledgement was lost, it cannot know."""
    with client.start(["python3", "-c", SLOW_CLIENTS, server.address, "two-blocks.txt"]) as slow:
        slow.expect(rb"\[.*\n", timeout=10)
        slow.write(b"wait for repetition\n")
        same, from_same_port, seconds = json.loads(slow.expect(rb"(.*)\n", timeout=10)[1])
        assert (same, from_same_port) == (True, True)
        assert 0.8 < seconds < 3
        assert bytes.fromhex(slow.expect(rb"(.*)\n", timeout=10)[1].decode()) == TWO_BLOCKS


def test_transfer_survives_a_server_that_is_frozen_for_a_while(client, server, room):
    """Frozen for longer than the client waits (5 s): it repeats its acknowledgement, and no block counts twice."""
    content = os.urandom(1_048_576)
    put(client, server, content, f"{room}/large")
    acknowledged: set[bytes] = set()

    def is_repeated(packet: Packet) -> bool:
        message = bytes(packet[UDP].payload)
        if message in acknowledged:
            return True
        acknowledged.add(message)
        return False

    words = ["tftp", server.address, "-m", "octet", "-c", "get", f"{room}/large", "/dev/stdout"]
    only_acknowledgements = f"udp and src host {client.address} and udp[4:2] = {8 + 4}"
    with (
        server.capture(only_acknowledgements) as wire,
        client.start(words, collect=False) as transfer,
        ThreadPoolExecutor(1) as reader,
    ):
        wire.wait_for(lambda packet: UDP in packet)  # it has begun, and cannot end while nobody reads what it writes
        server.pause()
        try:
            output = reader.submit(lambda: b"".join(data for stream, data in transfer.chunks(60) if stream == STDOUT))
            wire.wait_for(is_repeated, timeout=20)
        finally:
            server.unpause()
        received = output.result()
    assert len(received) == len(content), received[-200:]
    assert received == content


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nothing.txt", b"Error code 1: File not found\n"),
        ("../../etc/passwd", b"Error code 1: File not found\n"),
        ("private.txt", b"Error code 2: File must have global read permissions\n"),
    ],
)
def test_get_is_refused_with_a_clear_error(client, server, name, complaint):
    assert get(client, server, name) == complaint


def test_put_elsewhere_is_refused_with_a_clear_error(client, server):
    assert b"Error code 0: Read-only file system" in put(client, server, b"mine\n", "new.txt")
    assert b"Error code 0: Permission denied" in put(client, server, b"mine\n", "hello.txt")
    assert get(client, server, "hello.txt") == HELLO


def test_upload_is_bounded_and_tftpd_does_not_say_so(client, server, room):
    assert put(client, server, bytes(5_000_000), f"{room}/huge") == b""
    size = int(server.run(["stat", "-c%s", f"/srv/tftp/{room}/huge"]).check().text)
    assert 4_000_000 < size <= 4 * 1024 * 1024
    assert get(client, server, "hello.txt") == HELLO


def test_child_that_reads_the_request_has_no_privilege_left(client, server):
    status = ["sh", "-c", "for p in /proc/[0-9]*; do grep -E '^(Name|PPid|Uid|CapEff|CapPrm|Groups)' $p/status; done"]
    with client.start(["python3", "-c", SLOW_CLIENTS, server.address, "two-blocks.txt"]) as slow:
        slow.expect(rb"\[.*\n", timeout=10)
        found = server.run(status, user="root").text
        slow.write(b"go on\n")
        slow.expect(rb".+\n", timeout=10)
    processes = re.findall(
        r"Name:\s+in\.tftpd\nPPid:\s+\d+\nUid:\s+(.*)\nGroups:\s*(.*?) *\nCapPrm:\s+(\w+)\nCapEff:\s+(\w+)", found
    )
    assert ("1000\t1000\t1000\t1000", "1000", "0" * 16, "0" * 16) in processes, found
    assert ("0\t0\t0\t0", "0", f"{0x400C0:016x}", f"{0x400C0:016x}") in processes, found


def test_two_hundred_spoofed_requests_keep_nobody_out(client, server):
    network = client.address.rpartition(".")[0]
    spoofed = [
        IP(src=f"{network}.{200 + number % 50}", dst=server.address) / UDP(sport=2000 + number, dport=69)
        / TFTP() / TFTP_RRQ(filename="hello.txt", mode="octet")
        for number in range(200)
    ]  # fmt: skip
    mark = server.mark_log()
    client.inject(spoofed)
    try:
        server.wait_for_log(r"^in\.tftpd: ended the oldest of too many, \d+$", since=mark)
        assert get(client, server, "hello.txt") == HELLO
    finally:  # what is left of them would ask on for a minute, and its log leaves lines out as long as they are many
        assert poll(lambda: is_quiet(client, server), Deadline.after(20), every=0.3)


def is_quiet(client, server) -> bool:
    """Whether nothing but a get that is made now is told of; what is left of a flood ends."""
    server.run(["sh", "-c", KILL], user="lab")
    mark = server.mark_log()
    get(client, server, "hello.txt")
    told = server.logs(since=mark)
    return re.findall(r"RRQ from (\S+)", told) == [client.address] and "left out" not in told


def test_in_tftpd_that_ends_is_started_again_by_the_next_request(client, server):
    mark = server.mark_log()
    assert get(client, server, "hello.txt") == HELLO  # so that it runs
    server.run(["sh", "-c", KILL], user="root")
    server.wait_for_log(r"in\.tftpd was killed by signal 9", since=mark)
    assert get(client, server, "hello.txt") == HELLO
