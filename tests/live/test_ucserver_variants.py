"""Why the longer server is longer: the shortest ones and ours get the same treatment, with different outcomes.

Each test runs a server of its own, so that it may die.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, UDP

from lab.waiting import Deadline, poll

PORT = 4444
EVER = 1.0
"""As `since`: all that a host has logged."""
MINIMAL_UDP, MINIMAL_TCP, OURS = "minimal_udp.py", "minimal_tcp.py", "ucserver.py"

ASK = """
import socket, sys
kind = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}[sys.argv[1]]
with socket.socket(socket.AF_INET, kind) as s:
    s.settimeout(1)
    s.connect((sys.argv[2], 4444))
    s.send(sys.stdin.buffer.read())
    try:
        sys.stdout.buffer.write(s.recv(65535))
    except OSError:
        print("no answer", end="")
"""

RESET = """
import socket, struct, sys
with socket.create_connection((sys.argv[1], 4444), 3) as s:
    s.send(b"x")
    s.recv(1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""
"""Closes with a RST in place of a FIN, as a client that crashes does."""


@pytest.fixture
def client(lab):
    return lab.host("client")


@contextmanager
def running(lab, program, *options):
    with lab.container("datagram-lab/ucserver", networks=["lan"], command=[f"./{program}", *options]) as server:
        server.wait_for_log(r"^ready", 10, since=EVER)
        yield server


def ask(client, server, data=b"still there?", protocol="udp"):
    return client.run(["python3", "-c", ASK, protocol, server.address], input=data).check().stdout


def sent_datagrams(server):
    """How many datagrams have left the host, by its kernel's count."""
    names, values = (
        line.split() for line in server.run(["cat", "/proc/net/snmp"]).check().text.splitlines() if line[:4] == "Udp:"
    )
    return int(values[names.index("OutDatagrams")])


def broadcast_of(server):
    return server.address.rpartition(".")[0] + ".255"


# UDP: what kills the shortest server is an answer that cannot be sent


def forge_port_0(lab, client, server):
    client.inject([IP(src=client.address, dst=server.address) / UDP(sport=0, dport=PORT) / b"x"])


def forge_broadcast_source(lab, client, server):
    client.inject([IP(src=broadcast_of(server), dst=server.address) / UDP(sport=5000, dport=PORT) / b"x"])


def forge_unroutable_source(lab, client, server):
    """The request arrives, and before the server has read it, the way back is gone."""
    server.pause()
    client.inject([IP(src="203.0.113.9", dst=server.address) / UDP(sport=5000, dport=PORT) / b"x"])
    with lab.container(
        "datagram-lab/router", network_of=server, user="root", cap_add=["NET_ADMIN"], command=["sleep", "infinity"]
    ) as beside:
        beside.run(["ip", "route", "delete", "default"], user="root").check()
        server.unpause()


UDP_TREATMENTS = {
    forge_port_0: r"Invalid argument",
    forge_broadcast_source: r"Permission denied",
    forge_unroutable_source: r"Network is unreachable",
}


@pytest.mark.parametrize("treat", UDP_TREATMENTS, ids=lambda treat: treat.__name__)
@pytest.mark.parametrize("program", [MINIMAL_UDP, OURS])
def test_one_forged_datagram_kills_only_the_shortest_udp_server(lab, client, program, treat):
    with running(lab, program) as server:
        assert ask(client, server) == b"STILL THERE?"
        treat(lab, client, server)
        if program == OURS:
            assert ask(client, server) == b"STILL THERE?"
            server.wait_for_log(r"^udp .* (refused|not answered)", since=EVER)
        else:
            server.wait_for_log(rf"^(OSError|PermissionError): .*{UDP_TREATMENTS[treat]}", since=EVER)
            assert poll(lambda: server.container.state == "exited", Deadline.after(5))
            assert "(1)" in server.container.status


@pytest.mark.parametrize(("program", "length"), [(MINIMAL_UDP, 1024), (OURS, 5000)])
def test_datagram_of_5000_bytes_is_cut_by_the_shortest_udp_server(lab, client, program, length):
    with running(lab, program) as server:
        assert ask(client, server, b"a" * 5000) == b"A" * length
        assert ask(client, server, b"next") == b"NEXT"  # the rest is gone, not left for the next


@pytest.mark.parametrize(("program", "answer"), [(MINIMAL_UDP, b"no answer"), (OURS, b"STILL THERE?")])
def test_forged_source_that_no_host_has_silences_the_shortest_udp_server(lab, client, program, answer):
    """Its answers wait for ARP until the send buffer is full; then it waits itself, and everybody with it."""
    absent = broadcast_of(client)[:-3] + "99"
    with running(lab, program) as server:
        client.inject([IP(src=absent, dst=server.address) / UDP(sport=5000, dport=PORT) / b"x"] * 400)
        assert ask(client, server) == answer


@pytest.mark.parametrize("program", [MINIMAL_UDP, OURS])
def test_one_forged_datagram_makes_two_of_the_shortest_udp_servers_answer_each_other_for_ever(lab, client, program):
    with running(lab, program) as one, running(lab, program) as other:
        client.inject([IP(src=one.address, dst=other.address) / UDP(sport=PORT, dport=PORT) / b"x"])
        if program == OURS:
            assert ask(client, one) == ask(client, other) == b"STILL THERE?"
            assert (sent_datagrams(one), sent_datagrams(other)) == (1, 1)
        else:
            assert poll(lambda: sent_datagrams(one) > 1000, Deadline.after(10)), sent_datagrams(one)
            one.kill()
            assert poll(lambda: one.container.state == "exited", Deadline.after(5))
            ended = sent_datagrams(other)
            assert ask(client, other) == b"STILL THERE?"
            assert sent_datagrams(other) <= ended + 2  # this answer, and the last of the loop


def test_against_a_server_on_another_high_port_ours_has_no_remedy_either(lab, client):
    with running(lab, OURS) as one, running(lab, OURS, "--port", "5555") as other:
        client.inject([IP(src=one.address, dst=other.address) / UDP(sport=PORT, dport=5555) / b"x"])
        assert poll(lambda: sent_datagrams(one) > 1000, Deadline.after(10)), sent_datagrams(one)
        assert ask(client, one) == b"STILL THERE?"


@pytest.mark.parametrize(("program", "answers"), [(MINIMAL_UDP, 2), (OURS, 0)])
def test_broadcast_request_is_answered_by_each_of_the_shortest_udp_servers(lab, client, program, answers):
    """Two answers for one request: with a forged source, that is an attack twice as strong as the attacker."""
    shout = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.settimeout(1)
    for address in sys.argv[1:]:
        s.sendto(b"to " + address.encode(), (address, 4444))
    try:
        while True:
            print(s.recvfrom(100))
    except TimeoutError:
        pass
"""
    with running(lab, program) as one, running(lab, program) as other:
        asked = [broadcast_of(one), one.address, other.address]
        replies = client.run(["python3", "-c", shout, *asked]).check().text.splitlines()
        own = [line for line in replies if f"'{one.address}'" in line or f"'{other.address}'" in line]
        assert sum("255" in line.partition(",")[0] for line in own) == answers
        assert sum("255" not in line.partition(",")[0] for line in own) == 2  # the control


# TCP: what kills the shortest server is a client that does not say goodbye; what blocks it, one that says nothing


def reset_connection(client, server):
    client.run(["python3", "-c", RESET, server.address]).check()


def scan_port(client, server):
    client.run(["nmap", "-sT", "-n", "-Pn", "-p4444", server.address], timeout=15).check()


@pytest.mark.parametrize("treat", [reset_connection, scan_port], ids=lambda treat: treat.__name__)
@pytest.mark.parametrize("program", [MINIMAL_TCP, OURS])
def test_reset_connection_kills_only_the_shortest_tcp_server(lab, client, program, treat):
    with running(lab, program) as server:
        assert ask(client, server, protocol="tcp") == b"STILL THERE?"
        treat(client, server)
        if program == OURS:
            assert ask(client, server, protocol="tcp") == b"STILL THERE?"
        else:
            server.wait_for_log(r"^ConnectionResetError", since=EVER)
            assert poll(lambda: server.container.state == "exited", Deadline.after(5))
            assert "(1)" in server.container.status


@pytest.mark.parametrize(("program", "answer"), [(MINIMAL_TCP, b"no answer"), (OURS, b"STILL THERE?")])
def test_silent_client_blocks_all_others_of_the_shortest_tcp_server(lab, client, program, answer):
    with running(lab, program) as server, client.start(["nc", server.address, str(PORT)]) as silent:
        silent.write(b"now I think\n")
        silent.expect(rb"NOW I THINK\n")
        assert ask(client, server, protocol="tcp") == answer


@pytest.mark.parametrize("program", [MINIMAL_UDP, MINIMAL_TCP])
def test_shortest_server_is_right_for_an_honest_client(lab, client, program):
    with running(lab, program) as server:
        words = ["nc", "-u"] if program == MINIMAL_UDP else ["nc"]
        with client.start([*words, server.address, str(PORT)]) as nc:
            nc.write(b"it works!\n")
            nc.expect(rb"^IT WORKS!\n$")
