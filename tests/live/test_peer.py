"""The peer program: its pair, its sequence, its wire format, its limits, and the article's own program beside it."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from lab.waiting import Deadline, poll

AS_PRINTED = [383, 886, 777, 915, 793, 335, 386, 492, 649, 421]
OTHER_PORT = "2077"  # out of the way of the peers that run anyway

# For each line of its input, so many more values, counted from 0.
SEND = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
number = 0
for line in sys.stdin:
    for _ in range(int(line)):
        s.sendto(struct.pack("<i", number), (sys.argv[1], int(sys.argv[2])))
        number += 1
"""
FITS = 240
"""Values that a receive buffer of the default size holds, should their reader be slow."""


@pytest.fixture
def host(lab):
    """A host of our own on `lan` that runs no peer yet."""
    with lab.container("datagram-lab/peer", networks=["lan"], command=["sleep", "300"]) as host:
        yield host


def told(process, pattern: bytes) -> re.Match[bytes]:
    """What it said on standard error, as soon as it has."""
    match = poll(lambda: re.search(pattern, process.stderr), Deadline.after(5))
    assert match, f"{pattern!r} is not in {process.stderr!r}"
    return match


@contextmanager
def started(host, *words: str):
    """A peer, with the process ids of its sender and its receiver."""
    with host.start(["peer", "--port", OTHER_PORT, *words]) as peer:
        pair = told(peer, rb"ready udp/\d+, one broadcast every \S+ s, sender (\d+), receiver (\d+)\n")
        yield peer, int(pair[1]), int(pair[2])


def values(host, *words: str, count: int = 10) -> list[int]:
    """The first values that a lone peer broadcasts."""
    with started(host, "--interval", "0.02", *words) as (peer, _, _):
        return [int(peer.expect(rb"got +(\d+) from ", timeout=5)[1]) for _ in range(count)]


def send_signal(host, name: str, pid: int) -> None:
    host.run(["sh", "-c", f"kill -{name} {pid}"]).check()


def gone(host, pid: int) -> bool:
    return bool(poll(lambda: host.run(["test", "-e", f"/proc/{pid}"]).exit == 1, Deadline.after(3)))


# Sequence and wire


def test_as_printed_gives_the_articles_numbers(host):
    assert values(host, "--as-printed") == AS_PRINTED


def test_each_peer_has_a_sequence_of_its_own(host):
    first, second = values(host), values(host)
    assert first != second
    assert AS_PRINTED not in (first, second)
    assert all(0 <= number <= 999 for number in first + second)


def test_a_seed_repeats_a_sequence(host):
    assert values(host, "--seed", "7") == values(host, "--seed", "7") != values(host, "--seed", "8")


def test_a_value_is_four_bytes_little_endian_from_and_to_the_one_port(lab, host):
    near = lab.host("peer69")
    with near.capture(f"udp port {OTHER_PORT}") as wire, started(host, "--as-printed"):
        packet = wire.wait_for(lambda p: p[IP].dst == "255.255.255.255")
    assert bytes(packet[Raw]) == bytes.fromhex("7f010000")  # 383
    assert (packet[UDP].sport, packet[UDP].dport) == (int(OTHER_PORT), int(OTHER_PORT))


def test_the_pace_does_not_drift(host):
    with host.capture(f"udp port {OTHER_PORT}") as wire, started(host, "--interval", "0.1"):
        poll(lambda: len(wire.packets) >= 21, Deadline.after(10))
    sent = [float(packet.time) for packet in wire.packets]
    assert sent[20] - sent[0] == pytest.approx(2.0, abs=0.05)


def test_ticks_slept_through_are_left_out(host):
    with host.capture(f"udp port {OTHER_PORT}") as wire, started(host, "--interval", "0.1") as (peer, sender, _):
        peer.expect(rb"got")
        host.run(["sh", "-c", f"kill -STOP {sender}; sleep 1; kill -CONT {sender}"]).check()
        for _ in range(5):
            peer.expect(rb"got")
    sent = [float(packet.time) for packet in wire.packets]
    gaps = [after - before for before, after in pairwise(sent)]
    assert max(gaps) > 0.9
    # What follows the gap comes at the usual pace: at most one tick early, no burst.
    assert sum(gaps[gaps.index(max(gaps)) + 1 :][:4]) > 0.25


# The pair


def test_a_second_peer_on_the_same_host_is_refused_with_a_clear_message(lab):
    done = lab.host("peer69").run(["peer"])
    assert (done.exit, done.stdout) == (111, b"")
    assert done.stderr.startswith(
        b"peer: UDP port 2066 of this host is taken, probably by another peer: a host can run one."
    )


def test_the_sender_ends_with_the_receiver_and_says_why(host):
    with started(host) as (peer, _, receiver):
        send_signal(host, "KILL", receiver)
        done = peer.wait(3)
    assert done.exit == 111
    assert b"the receiver was ended by signal 9 (Killed), and the sender ends with it" in done.stderr


def test_the_receiver_ends_with_the_sender(host):
    with started(host) as (_, sender, receiver):
        send_signal(host, "KILL", sender)
        assert gone(host, receiver)


def test_a_stopped_receiver_ends_with_the_sender(host):
    with started(host) as (_, sender, receiver):
        send_signal(host, "STOP", receiver)
        send_signal(host, "KILL", sender)
        assert gone(host, receiver)


@pytest.mark.parametrize("signal", ["TERM", "INT"])
def test_a_signal_ends_the_pair_with_exit_code_0_and_the_port_is_free_at_once(host, signal):
    for _ in range(3):  # each start would fail if the one before still held the port
        with started(host) as (peer, sender, receiver):
            send_signal(host, signal, sender)
            assert peer.wait(3).exit == 0
            assert host.run(["test", "-e", f"/proc/{receiver}"]).exit == 1


def test_the_host_stops_at_once_with_exit_code_0(lab):
    with lab.container("datagram-lab/peer", networks=["lan"]) as host:
        host.wait_for_log(r"got +\d+ from", since=0)
        began = time.monotonic()
        host.stop()
        assert time.monotonic() - began < 2
        assert host.container.status.startswith("Exited (0)")


# Trouble


def test_without_a_route_it_says_so_once_and_its_check_fails(lab):
    with (
        lab.container("datagram-lab/peer", command=["sleep", "300"]) as lonely,  # on no network
        started(lonely, "--interval", "0.05", "--heard", "/dev/shm/heard") as (peer, _, _),
    ):
        told(peer, rb"cannot broadcast to 255\.255\.255\.255: Network is unreachable; trying on\n")
        check = lonely.run(["peer", "--interval", "0.05", "--check", "/dev/shm/heard"])
        assert peer.stderr.count(b"unreachable") == 1
    assert (check.exit, check.stderr) == (111, b"peer: no broadcast of this host has come back\n")


def test_the_check_tells_whether_the_network_has_brought_anything(lab):
    """A host's own broadcast comes back from its own kernel, so it proves nothing about the wire; another's does."""
    check = ["peer", "--check", "/dev/shm/peer-heard"]
    among_others, alone = lab.host("peer69").run(check).check(), lab.host("farpeer").run(check).check()
    assert re.search(r"; another host's was heard [0-3]\.\d s ago$", among_others.text)
    assert alone.text.endswith("; no other host's was heard: it is alone, or its network carries nothing\n")


def test_the_check_follows_this_hosts_own_broadcasts(lab, host):
    check = ["peer", "--interval", "0.2", "--check", "/dev/shm/heard"]
    assert b"no peer has run here" in host.run(check).stderr
    with started(host, "--interval", "0.2", "--heard", "/dev/shm/heard") as (peer, sender, _):
        peer.expect(rb"got")
        assert host.run(check).check().text.startswith("a broadcast of this host came back 0.")
        send_signal(host, "STOP", sender)
        sick = poll(lambda: (done := host.run(check)).exit == 111 and done, Deadline.after(3))
        assert sick
        # A stranger's value is heard and proves nothing about this host.
        lab.host("client").run(["python3", "-c", SEND, host.address, OTHER_PORT], input=b"1\n").check()
        peer.expect(rb"got   0 from ")
        assert host.run(check).exit == 111


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--interval", "0"], b"--interval takes a number from 0.01 to 86400"),
        (["--port", "70000"], b"--port takes a number from 1 to 65535"),
        (["--seed", "many"], b'--seed takes a number from 1 to 4294967295, not "many"'),
        (["--loud"], b"usage: peer "),
        (["extra"], b"usage: peer "),
    ],
)
def test_wrong_usage_is_refused_with_exit_code_100(host, words, reason):
    done = host.run(["peer", *words])
    assert done.exit == 100
    assert reason in done.stderr


# Many lines


def test_a_flood_is_bounded_and_the_rest_is_counted(lab, host):
    with started(host, "--lines", "20") as (peer, _, _):
        flood = b"%d\n" % FITS
        lab.host("client").run(["python3", "-c", SEND, host.address, OTHER_PORT], input=flood).check()

        def left_out() -> int:
            return sum(map(int, re.findall(rb"peer: (\d+) more left out \(--lines 20 a second\)\n", peer.stderr)))

        assert poll(lambda: left_out() >= FITS - 40, Deadline.after(5)), peer.stderr  # the second may change meanwhile
        peer.expect(rb"got +\d+ from " + re.escape(host.address).encode())
        assert peer.stdout.count(b"got") <= 80


def test_lines_that_are_gathered_are_all_there_and_in_order(lab, host):
    client = lab.host("client")
    with (
        started(host, "--interval", "0.1") as (peer, _, _),
        client.start(["python3", "-c", SEND, host.address, OTHER_PORT]) as sender,
    ):
        for _ in range(FITS // 8):  # eight with each of its own: ninety a second, for three seconds
            peer.expect(rb"got +\d+ from " + re.escape(host.address).encode())
            sender.write(b"8\n")
        peer.expect(rb"got %d from " % (FITS - 1) + re.escape(client.address).encode(), timeout=3)
        found = re.findall(rb"got +(\d+) from " + re.escape(client.address).encode(), peer.stdout)
    assert [int(number) for number in found] == list(range(FITS))


# The article's program, in other words


def compile_update(lab, client) -> None:
    source = (lab.settings.root / "services/peer/article/update.c").read_bytes()
    client.run(["gcc", "-xc", "-", "-o", "update"], input=source, timeout=30).check()


def test_the_articles_program_and_ours_hear_each_other(lab, client):
    ours = lab.host("peer69")
    compile_update(lab, client)
    start = time.time()
    with client.start(["stdbuf", "-oL", "./update"]) as theirs:
        mine = re.escape(client.address)
        for number in AS_PRINTED[:3]:
            theirs.expect(rf"got {number} from {mine}\n".encode())
        theirs.expect(rb"got +\d+ from " + re.escape(ours.address).encode() + rb"\n")
        ours.wait_for_log(
            r"(?s)" + ".*?".join(rf"got {number} from {mine}\n" for number in AS_PRINTED[:3]), since=start
        )


def test_two_instances_of_the_articles_program_on_one_host_share_one_printer(lab, client):
    """Nobody looks at what bind says: the second sends, from another port, and hears nothing."""
    compile_update(lab, client)
    own = re.escape(client.address).encode()
    with client.start(["stdbuf", "-oL", "./update"]) as first:
        first.expect(rb"got 383 from " + own)
        with client.start(["stdbuf", "-oL", "./update"]) as second:
            first.expect(rb"got 383 from " + own)  # the second's sequence, from its beginning
            first.expect(rb"got 777 from " + own)
            assert second.stdout == b""
