"""The upper-case server as its clients, honest or not, see it: over UDP and TCP, from the workstation."""

from __future__ import annotations

import json
import re

import pytest
from scapy.layers.inet import IP, TCP, UDP

from lab.waiting import Deadline, poll
from tests.live.proc import processes

PORT = 4444
LARGEST = 65_507

ASK = """
import socket, sys
kind = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}[sys.argv[1]]
with socket.socket(socket.AF_INET, kind) as s:
    s.settimeout(3)
    s.connect((sys.argv[2], 4444))
    s.send(sys.stdin.buffer.read())
    sys.stdout.buffer.write(s.recv(65535))
"""
"""Sends its input in one piece (nc cuts at 16 KiB) and prints the first reply; fails after 3 s without one."""


@pytest.fixture
def client(lab):
    return lab.host("client")


@pytest.fixture
def server(lab):
    return lab.host("ucserver")


def ask(client, server, data, protocol="udp"):
    return client.run(["python3", "-c", ASK, protocol, server.address], input=data).check().stdout


def answers_everybody(client, server):
    """Whether a client that has done nothing wrong is answered, over UDP and TCP."""
    return ask(client, server, b"udp") == b"UDP" and ask(client, server, b"tcp", "tcp") == b"TCP"


def caught_up(client, server):
    """A moment from which on the server's log sums up only what comes after it, at the full bound on lines."""
    mark = server.mark_log()
    ask(client, server, b"x")
    server.wait_for_log(r"^udp answered=", since=mark)
    return server.mark_log()


def process(server):
    """What /proc says of the server's process."""
    (status,) = [one for one in processes(server) if one["Name"] == "ucserver.py"]
    return status


def descriptors(server):
    """How many the server's process has open."""
    return len(server.run(["ls", f"/proc/{process(server)['Pid']}/fd"]).check().text.splitlines())


def resident_kib(server):
    return int(process(server)["VmRSS"].split()[0])


# What comes back


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 1472, 1473, LARGEST])
def test_datagram_of_any_size_comes_back_whole(client, server, size):
    data = (b"abcdefghijklm\n" * (size // 14 + 1))[:size]
    assert ask(client, server, data) == data.upper()


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize(
    "data", [bytes(range(256)), "straße é ÿ".encode(), "straße é ÿ".encode("latin-1"), b"IT WORKS!\r\n"]
)
def test_only_ascii_letters_change(client, server, protocol, data):
    expected = bytes(byte - 32 if ord("a") <= byte <= ord("z") else byte for byte in data)
    assert ask(client, server, data, protocol) == expected


def test_one_datagram_brings_one_datagram(client, server):
    with server.capture(f"udp port {PORT}") as wire, client.start(["nc", "-u", server.address, str(PORT)]) as nc:
        for word in (b"one", b"two", b"three"):
            nc.write(word + b"\n")
            nc.expect(word.upper())
    payloads = [bytes(p[UDP].payload)[: p[UDP].len - 8] for p in wire.packets]
    assert payloads == [b"one\n", b"ONE\n", b"two\n", b"TWO\n", b"three\n", b"THREE\n"]


def test_short_datagram_after_a_long_one_brings_nothing_of_it(client, server):
    assert ask(client, server, b"secret" * 1000) == b"SECRET" * 1000
    assert ask(client, server, b"x") == b"X"


# As in the article: nc, typed at


def test_nc_verbose_sends_the_probe_text_of_the_article(client, server):
    with client.start(["nc", "-v", "-u", server.address, str(PORT)]) as nc:
        nc.expect(rb"^XXXXX$", timeout=8)  # five probes, one second apart, each answered as a datagram
        nc.write(b"This is a test\n")
        nc.expect(rb"THIS IS A TEST\n")
        nc.write(b"it works!\n")
        nc.expect(rb"IT WORKS!\n")
        assert re.search(rb"Connection to .* 4444 port \[udp/.*\] succeeded!", nc.stderr)
        assert nc.stdout == b"XXXXXTHIS IS A TEST\nIT WORKS!\n"


def test_nc_without_verbose_shows_no_probe(client, server):
    with client.start(["nc", "-u", server.address, str(PORT)]) as nc:
        nc.write(b"it works!\n")
        nc.expect(rb"\n")
        assert (nc.stdout, nc.stderr) == (b"IT WORKS!\n", b"")


@pytest.mark.parametrize("words", [["nc", "-u"], ["nc"]], ids=["udp", "tcp"])
def test_two_sessions_typed_alternately_each_get_their_own_answers(client, server, words):
    words = [*words, server.address, str(PORT)]
    with client.start(words) as second_terminal, client.start(words) as third_terminal:
        for turn in range(5):
            for name, nc in (("second", second_terminal), ("third", third_terminal)):
                nc.write(f"{name} {turn}\n".encode())
                nc.expect(f"{name} {turn}\n".upper().encode())
        assert second_terminal.stdout == b"".join(b"SECOND %d\n" % turn for turn in range(5))
        assert third_terminal.stdout == b"".join(b"THIRD %d\n" % turn for turn in range(5))


def test_stateless_server_may_restart_within_a_udp_session_but_not_within_a_tcp_session(client, server):
    with (
        client.start(["nc", "-u", server.address, str(PORT)]) as datagrams,
        client.start(["nc", server.address, str(PORT)]) as stream,
    ):
        for nc in (datagrams, stream):
            nc.write(b"before\n")
            nc.expect(rb"BEFORE\n")
        server.restart()
        server.wait_healthy()
        for nc in (datagrams, stream):
            nc.write(b"after\n")
        datagrams.expect(rb"AFTER\n")
        assert stream.wait(5).stdout == b"BEFORE\n"  # reset: nobody there knows of the connection


def test_nothing_is_kept_of_a_client(client, server):
    """A thousand UDP clients, each with its own port, leave the server with no more memory and descriptors."""
    many = """
import socket, sys
for number in range(1000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.connect((sys.argv[1], 4444))
        s.send(b"client %d" % number)
        assert s.recv(100) == b"CLIENT %d" % number
"""
    memory, opened = resident_kib(server), descriptors(server)
    client.run(["python3", "-c", many, server.address]).check()
    assert descriptors(server) == opened
    assert resident_kib(server) <= memory + 256


# Forged sources


@pytest.mark.parametrize("port", [0, 13, 1023, PORT])
def test_datagram_that_could_start_a_loop_is_not_answered(client, server, port):
    forged = IP(src=client.address, dst=server.address) / UDP(sport=port, dport=PORT) / b"forged"
    mark = caught_up(client, server)
    with server.capture(f"udp port {PORT}") as wire:
        client.inject([forged])
        assert ask(client, server, b"control") == b"CONTROL"
    said = [(p[IP].src, bytes(p[UDP].payload)[: p[UDP].len - 8]) for p in wire.packets]
    assert said == [(client.address, b"forged"), (client.address, b"control"), (server.address, b"CONTROL")]
    server.wait_for_log(rf"^udp {client.address}:{port} refused", since=mark)


def test_lowest_port_of_an_ordinary_client_is_answered(client, server):
    """The control of the test above: 1024 and the server's neighbours are ports like any other."""
    with server.capture(f"udp src port {PORT}") as wire:
        ports = [1024, PORT - 1, PORT + 1, 65535]
        client.inject(
            [IP(src="203.0.113.7", dst=server.address) / UDP(sport=port, dport=PORT) / b"hello" for port in ports]
        )
        wire.wait_for(lambda p: p[UDP].dport == ports[-1])
    assert [p[UDP].dport for p in wire.packets] == ports


def test_server_does_not_talk_to_itself(lab, client, server):
    """From outside the kernel drops its own address as a source; over the loopback interface the server must refuse."""
    mark = caught_up(client, server)
    with (
        lab.container("datagram-lab/client", network_of=server, user="root", cap_add=["NET_RAW"]) as inside,
        server.capture(f"udp port {PORT}", interface="lo") as wire,
    ):
        inside.inject([IP(src="127.0.0.1", dst="127.0.0.1") / UDP(sport=PORT, dport=PORT) / b"echo"])
        server.wait_for_log(r"^udp 127\.0\.0\.1:4444 refused", since=mark)
        client.inject([IP(src=server.address, dst=server.address) / UDP(sport=PORT, dport=PORT) / b"echo"])
        assert ask(client, server, b"control") == b"CONTROL"
    assert sum(bytes(p[UDP].payload).lower() == b"echo" for p in wire.packets) == 1


def test_forged_broadcast_source_is_logged_and_survived(client, server):
    mark = caught_up(client, server)
    broadcast = server.address.rpartition(".")[0] + ".255"
    client.inject([IP(src=broadcast, dst=server.address) / UDP(sport=5000, dport=PORT) / b"forged"])
    server.wait_for_log(rf"^udp {broadcast}:5000 not answered: Permission denied", since=mark)
    assert answers_everybody(client, server)


def test_source_that_no_route_leads_to_is_survived(client, server):
    """The answer leaves, the router says that it leads nowhere, and the server neither notices nor suffers."""
    with server.capture("host 203.0.113.9") as wire:
        client.inject([IP(src="203.0.113.9", dst=server.address) / UDP(sport=5000, dport=PORT) / b"forged"])
        wire.wait_for(lambda p: p[IP].dst == "203.0.113.9" and p[UDP].sport == PORT)
    assert answers_everybody(client, server)


def test_forged_address_that_no_host_has_does_not_silence_the_server(client, server):
    """Answers wait for ARP in the server's send buffer; 256 of them fill the one that it has by default."""
    absent = server.address.rpartition(".")[0] + ".99"
    client.inject([IP(src=absent, dst=server.address) / UDP(sport=5000, dport=PORT) / b"x"] * 400)
    assert answers_everybody(client, server)


def test_flood_of_refusals_is_logged_at_a_bounded_rate(client, server):
    mark = caught_up(client, server)
    forged = [IP(src=client.address, dst=server.address) / UDP(sport=13, dport=PORT) / b"x"] * 100
    client.inject(forged)
    assert ask(client, server, b"control") == b"CONTROL"

    def summed():
        counts = [int(n) for n in re.findall(r"^udp answered=.* refused=(\d+)", server.logs(mark), re.MULTILINE)]
        return sum(counts) == len(forged)

    assert poll(summed, Deadline.after(5)), server.logs(mark)
    assert len(re.findall(r"^udp .*:13 refused", server.logs(mark), re.MULTILINE)) <= 60  # 20 in each of three seconds
    assert re.search(r"^log: \d+ more lines in that second", server.logs(mark), re.MULTILINE)


# Broadcasts


@pytest.mark.parametrize("everybody", ["255.255.255.255", "the network's"])
def test_broadcast_arrives_and_is_not_answered(client, server, everybody):
    destination = everybody if everybody[0].isdigit() else server.address.rpartition(".")[0] + ".255"
    shout = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.settimeout(3)
for address in sys.argv[1:]:
    s.sendto(address.encode() + b" hears", (address, 4444))
print(*s.recvfrom(100))
"""
    with server.capture(f"udp port {PORT}") as wire:
        answer = client.run(["python3", "-c", shout, destination, server.address]).check().text
    # The control, sent second from the same socket, is answered first.
    assert answer == f"{(server.address + ' HEARS').encode()!r} ({server.address!r}, {PORT})\n"
    assert [p[IP].dst for p in wire.packets if p[IP].src == client.address] == [destination, server.address]
    assert sum(p[IP].src == server.address for p in wire.packets) == 1


# More than it can take


def test_datagrams_beyond_the_buffer_are_lost_from_the_end_and_counted(client, server):
    mark = caught_up(client, server)
    burst = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 4444))
for number in range(1000):
    s.send(b"a%d" % number)
print("sent", flush=True)
sys.stdin.readline()
s.settimeout(1)
try:
    while True:
        print(s.recv(100).decode(), flush=True)
except TimeoutError:
    pass
"""
    address = server.address
    server.pause()
    with client.start(["python3", "-c", burst, address]) as sender:
        try:
            sender.expect(rb"sent\n")
        finally:
            server.unpause()
        sender.write(b"\n")
        replies = sender.wait(5).text.split()[1:]
    assert 0 < len(replies) < 1000
    assert replies == [f"A{number}" for number in range(len(replies))]

    def counted() -> bool:
        """The server's summaries, one or two by when the second ended, add up to what was sent (and its checks)."""
        lines = re.findall(r"^udp answered=(\d+) .* dropped=(\d+)$", server.logs(mark), re.MULTILINE)
        answered, dropped = (sum(int(line[column]) for line in lines) for column in (0, 1))
        return answered >= len(replies) and dropped == 1000 - len(replies)

    assert poll(counted, Deadline.after(5))


# TCP


def test_half_closed_client_gets_all_of_its_answer(client, server):
    data = b"the quick brown fox\n" * 50_000
    done = client.run(["nc", "-N", server.address, str(PORT)], input=data, timeout=20)
    assert done.stdout == data.upper()
    assert done.exit == 0


def test_connection_is_logged_from_open_to_close(client, server):
    mark = caught_up(client, server)
    client.run(["nc", "-N", server.address, str(PORT)], input=b"hi\n").check()
    opened = server.wait_for_log(rf"^tcp ({client.address}:\d+) open", since=mark)
    server.wait_for_log(rf"^tcp {opened[1]} closed after 3 bytes: end of stream", since=mark)


def test_reset_connection_is_logged_and_survived(client, server):
    mark = caught_up(client, server)
    reset = """
import socket, struct, sys
s = socket.create_connection((sys.argv[1], 4444), 3)
s.send(b"x")
s.recv(1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
"""
    with server.capture(f"tcp port {PORT}") as wire:
        client.run(["python3", "-c", reset, server.address]).check()
        wire.wait_for(lambda p: "R" in p[TCP].flags)
    server.wait_for_log(r"^tcp .* closed after 1 bytes: Connection reset by peer", since=mark)
    assert answers_everybody(client, server)


@pytest.mark.parametrize("scan", ["-sT", "-sS", "-sN", "-sX"])
def test_port_scan_is_survived(client, server, scan):
    assert "4444/tcp open" in client.run(["nmap", scan, "-n", "-Pn", "-p4444", server.address], timeout=15).check().text
    assert answers_everybody(client, server)


def test_hundred_clients_at_once_are_each_answered(client, server):
    hundred = """
import socket, sys
clients = [socket.create_connection((sys.argv[1], 4444), 3) for _ in range(100)]
for round in range(3):
    for number, s in enumerate(clients):
        s.sendall(b"client %02d" % number)
    for number, s in reversed(list(enumerate(clients))):
        assert s.recv(100) == b"CLIENT %02d" % number
"""
    client.run(["python3", "-c", hundred, server.address]).check()


def test_client_beyond_the_bound_takes_the_place_of_the_longest_silent(client, server):
    crowd = """
import json, socket, sys
clients = [socket.create_connection((sys.argv[1], 4444), 3) for _ in range(128)]
for s in clients:
    s.sendall(b"a")
    assert s.recv(1) == b"A"
clients[0].sendall(b"b")  # the first is now the last who said something
assert clients[0].recv(1) == b"B"
clients.append(socket.create_connection((sys.argv[1], 4444), 3))
clients[-1].sendall(b"c")
assert clients[-1].recv(1) == b"C"
outcome = []
for s in (clients[0], clients[1], clients[2]):
    try:
        s.sendall(b"d")
        outcome.append(s.recv(1).decode())
    except ConnectionError:
        outcome.append("")
print(json.dumps(outcome))
"""
    mark = caught_up(client, server)
    outcome = json.loads(client.run(["python3", "-c", crowd, server.address]).check().text)
    assert outcome == ["D", "", "D"]
    assert answers_everybody(client, server)
    server.wait_for_log("made room: 128 clients|more lines", since=mark)


def test_client_that_never_reads_is_stopped_and_holds_up_nobody(client, server):
    """Flow control stops it within the bounded buffers of both ends; the server's memory does not grow."""
    hoarder = """
import socket, sys
s = socket.create_connection((sys.argv[1], 4444), 3)
s.settimeout(1)
sent = 0
try:
    while sent < 1 << 26:
        sent += s.send(b"x" * 65536)
except TimeoutError:
    pass
print(sent, flush=True)
sys.stdin.readline()
read = 0
while read < sent:
    data = s.recv(1 << 16)
    assert data == b"X" * len(data) and data, read
    read += len(data)
print("all of it back", flush=True)
"""
    before = resident_kib(server)
    with client.start(["python3", "-c", hoarder, server.address]) as slow:
        sent = int(slow.expect(rb"^(\d+)\n", timeout=20)[1])
        assert sent < 1 << 26, "the server took it all"
        assert resident_kib(server) < before + 1024
        assert answers_everybody(client, server)
        slow.write(b"\n")
        slow.expect(rb"all of it back\n", timeout=20)


def test_no_descriptor_left_is_survived(lab, client):
    """A server that may open twelve files: the longest silent TCP client makes room for the next."""
    few = ["sh", "-c", "ulimit -n 12 && exec ./ucserver.py"]
    with lab.container("datagram-lab/ucserver", networks=["lan"], command=few) as server:
        server.wait_for_log(r"^ready", since=1.0)
        crowd = """
import socket, sys
clients = [socket.create_connection((sys.argv[1], 4444), 3) for _ in range(30)]
clients[-1].sendall(b"last")
print(clients[-1].recv(4).decode())
"""
        assert client.run(["python3", "-c", crowd, server.address]).check().text == "LAST\n"
        server.wait_for_log(r"Too many open files", since=1.0)
        assert answers_everybody(client, server)


# The program in its host


def test_server_has_no_privilege(server):
    status = process(server)
    assert status["Uid"].split() == ["1000"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_server_ends_at_once_on_sigterm(lab):
    with lab.container("datagram-lab/ucserver", networks=["lan"]) as server:
        server.wait_for_log(r"^ready: UDP and TCP at 0\.0\.0\.0:4444$", since=1.0)
        server.kill("TERM")
        assert poll(lambda: server.container.state == "exited", Deadline.after(1))
        assert "ended by SIGTERM" in server.logs()
        assert "(0)" in server.container.status  # Exited (0) ...
