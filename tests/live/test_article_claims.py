"""Claims of the article that no other test here holds; docs/claims.md lists them all, each with its test."""

from __future__ import annotations

import hashlib
import re
import time

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from lab import Host, Lab

EVER = 1.0
"""As `since`: all that a host has logged."""

ATTEMPT = """
import errno, socket
def attempt(what):
    try:
        return what() or "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, "TIMEOUT")
"""
"""Programs that try something print what came of it by this."""


def tried(host: Host, program: str, *words: str) -> list[str]:
    """What a short program prints, line by line."""
    return host.run(["python3", "-c", ATTEMPT + program, *words]).check().text.splitlines()


# --- UDP sockets ------------------------------------------------------------------------------------------------------


def test_a_server_hears_who_never_connected_and_has_nothing_to_accept(client: Host) -> None:
    """A server hears a client that never connected, and there is nothing it could accept.

    connect(2) makes no connection: it sends nothing, and has the kernel drop what others than the named peer send.
    """
    program = """
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
print(attempt(lambda: server.listen()), attempt(lambda: server.accept()))
visitor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
visitor.sendto(b"unannounced", server.getsockname())
print(server.recvfrom(100)[0].decode())

server.setblocking(False)
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(attempt(lambda: bound.connect(server.getsockname())), attempt(lambda: server.recvfrom(100)))
bound.setblocking(False)
visitor.sendto(b"from a third", bound.getsockname())
print(attempt(lambda: bound.recv(100)))
server.sendto(b"from the peer", bound.getsockname())
print(bound.recv(100).decode())
"""
    assert tried(client, program) == [
        "ENOTSUP ENOTSUP",  # also called EOPNOTSUPP
        "unannounced",
        "done EAGAIN",
        "EAGAIN",
        "from the peer",
    ]


def test_the_server_needs_the_clients_address_to_reply_as_over_tcp_it_does_not(client: Host) -> None:
    program = """
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
visitor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
visitor.sendto(b"hello", server.getsockname())
data, address = server.recvfrom(100)
print(attempt(lambda: server.send(data.upper())))
server.sendto(data.upper(), address)
print(visitor.recv(100).decode())

listener = socket.create_server(("127.0.0.1", 0))
caller = socket.create_connection(listener.getsockname())
connection, _ = listener.accept()
connection.send(b"NO ADDRESS NEEDED")
print(caller.recv(100).decode())
"""
    assert tried(client, program) == ["EDESTADDRREQ", "HELLO", "NO ADDRESS NEEDED"]


def test_pythons_address_is_a_pair_of_host_and_port(client: Host) -> None:
    program = """
server, visitor = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
server.bind(("127.0.0.1", 0))
visitor.bind(("127.0.0.1", 0))
visitor.sendto(b"x", server.getsockname())
address = server.recvfrom(1)[1]
print(type(address).__name__, *(type(part).__name__ for part in address), address == visitor.getsockname())
"""
    assert tried(client, program) == ["tuple str int True"]


def test_two_internet_sockets_differ_in_address_or_port(client: Host) -> None:
    program = """
def socket_at(address, port):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    kept.append(made)
kept = []
print(attempt(lambda: socket_at("127.0.0.1", 5000)), attempt(lambda: socket_at("127.0.0.1", 5000)))
print(attempt(lambda: socket_at("127.0.0.2", 5000)), attempt(lambda: socket_at("127.0.0.1", 5001)))
"""
    assert tried(client, program) == ["done EADDRINUSE", "done done"]


def test_one_process_with_one_thread_serves_two_clients_at_once(lab: Lab, client: Host) -> None:
    """No multi-processing, no multi-threading: the server of a dozen lines, looked at while two sessions are open."""
    with lab.container("datagram-lab/ucserver", networks=["lan"], command=["./minimal_udp.py"]) as server:
        server.wait_for_log("^ready", since=EVER)
        words = ["nc", "-u", server.address, "4444"]
        with client.start(words) as second, client.start(words) as third:
            for turn in (b"1", b"2"):
                for name, window in ((b"second", second), (b"third", third)):
                    window.write(name + turn + b"\n")
                    window.expect(name.upper() + turn + b"\n")
            look = "grep -l minimal_udp /proc/[0-9]*/comm | xargs dirname"
            (process,) = server.run(["sh", "-c", look]).check().text.split()
            status = server.run(["cat", f"{process}/status"]).check().text
            assert re.search(r"^Threads:\t1$", status, re.MULTILINE)


# --- nc ---------------------------------------------------------------------------------------------------------------


def test_each_x_is_a_probe_of_ncs_that_the_server_has_answered(lab: Lab, client: Host) -> None:
    server = lab.host("ucserver")
    with (
        client.capture(f"udp port 4444 and host {server.address}") as wire,
        client.start(["nc", "-v", "-u", server.address, "4444"]) as nc,
    ):
        nc.expect(rb"^XXXXX$", timeout=8)
        wire.wait_for(lambda _: len(wire.packets) >= 10)
    asked, answered = ([p for p in wire.packets if p[IP].dst == host.address] for host in (server, client))
    assert [bytes(p[UDP].payload)[:1] for p in asked] == [b"X"] * 5
    assert [p[UDP].len - 8 for p in asked] == [p[UDP].len - 8 for p in answered] == [1] * 5


def test_nc_tells_of_a_connection_that_nobody_has_made(lab: Lab, client: Host) -> None:
    """It "succeeds" with a program that never reads, let alone answers; no datagram comes back."""
    deaf = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5555));"
        "print('ready', flush=True); sys.stdin.read()"
    )
    other = lab.host("ucserver")
    with other.start(["python3", "-c", deaf]) as program:
        program.expect(rb"ready")
        with other.capture(f"host {client.address} and (udp port 5555 or icmp)") as wire:
            done = client.run(["nc", "-z", "-v", "-u", "-w1", other.address, "5555"]).check()
            wire.wait_for(lambda p: UDP in p and p[UDP].dport == 5555)
    assert re.search(rb"Connection to .* 5555 port \[udp/.*\] succeeded!", done.stderr)
    assert {p[IP].src for p in wire.packets} == {client.address}


# --- daytime ----------------------------------------------------------------------------------------------------------


def test_the_daytime_server_is_silent_until_it_is_sent_anything(lab: Lab, client: Host) -> None:
    program = """
import sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 13))
s.settimeout(0.5)
print(attempt(lambda: s.recv(100)))
s.settimeout(3)
s.send(b"")
print(len(s.recv(100)))
"""
    assert tried(client, program, lab.host("daytime").address) == ["TIMEOUT", "26"]


def test_the_package_ships_the_daytime_service_disabled(lab: Lab) -> None:
    """The file as the package has it, by the package's own check sum: the host's, with each `disable` back at yes."""
    daytime = lab.host("daytime")
    files = daytime.run(["dpkg-query", "-W", "-f=${Conffiles}", "xinetd"]).check().text
    (shipped,) = re.findall(r"/etc/xinetd\.d/daytime (\w+)$", files, re.MULTILINE)
    enabled = daytime.run(["cat", "/usr/share/xinetd.d/daytime"]).check().stdout
    assert hashlib.md5(enabled).hexdigest() != shipped
    disabled, count = re.subn(rb"(disable\s*= )no", rb"\1yes", enabled)
    assert count == 2
    assert hashlib.md5(disabled).hexdigest() == shipped


# --- broadcasting -----------------------------------------------------------------------------------------------------


def test_tcp_cannot_broadcast(client: Host) -> None:
    program = """
import sys
for allowed in (0, 1):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, allowed)
    print(*(attempt(lambda: s.connect((address, 2066))) for address in sys.argv[1:]))
"""
    directed = re.sub(r"\d+$", "255", client.address)
    assert tried(client, program, "255.255.255.255", directed) == ["ENETUNREACH ENETUNREACH"] * 2


def test_one_datagram_to_the_broadcast_address_is_heard_by_every_listener(lab: Lab, client: Host) -> None:
    near = [host for host in lab.hosts() if host.name.startswith("peer") and "lan" in host.addresses]
    assert len(near) >= 2
    program = """
import struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(struct.pack("<i", -12345), (socket.inet_ntoa(b"\\xff\\xff\\xff\\xff"), 2066))
"""
    start = time.time()
    with client.capture(f"udp port 2066 and src host {client.address}") as wire:
        assert tried(client, program) == []
        packet = wire.wait_for(lambda p: UDP in p)
        for peer in near:
            peer.wait_for_log(rf"got -12345 from {re.escape(client.address)}\n", since=start)
    assert len(wire.packets) == 1
    assert (packet[Ether].dst, packet[IP].dst) == ("ff:ff:ff:ff:ff:ff", "255.255.255.255")


# --- raw sockets and Unix-domain sockets ------------------------------------------------------------------------------


def test_ping_speaks_icmp_by_a_raw_socket(client: Host, lab: Lab) -> None:
    server = lab.host("ucserver").address
    with (
        client.capture(f"icmp and host {server}") as wire,
        client.start(["/bin/ping", "-c", "2", server]) as ping,
    ):
        ping.expect(rb"icmp_seq=0 ")
        sockets = client.run(["cat", "/proc/net/raw"]).check().text
        ping.wait(5).check()
        wire.wait_for(lambda _: len(wire.packets) >= 4)
    assert re.search(r"^ *\d+: 00000000:0001 ", sockets, re.MULTILINE), "protocol 1 is ICMP"
    assert [p[ICMP].type for p in wire.packets] == [8, 0, 8, 0]


def test_mkfifo_names_a_pipe_and_nothing_like_it_names_a_socket(client: Host) -> None:
    """A node of that type can be made by mknod(2), but it is no socket: nobody can connect to it."""
    kinds = client.run(["sh", "-c", "cd /tmp && mkfifo pipe && stat -c %F pipe; rm pipe; mknod named.sock s"])
    assert kinds.stdout == b"fifo\n"
    assert kinds.exit == 1
    program = """
import os, stat
os.mknod("/tmp/node", stat.S_IFSOCK | 0o600)
print(attempt(lambda: socket.socket(socket.AF_UNIX).connect("/tmp/node")))
os.remove("/tmp/node")
"""
    assert tried(client, program) == ["ECONNREFUSED"]


# --- dig --------------------------------------------------------------------------------------------------------------


def test_dig_consults_resolv_conf_and_an_at_sign_directs_it_elsewhere(client: Host) -> None:
    listed = re.findall(r"^nameserver (\S+)$", client.run(["cat", "/etc/resolv.conf"]).check().text, re.MULTILINE)

    def server(*words: str) -> list[str]:
        return re.findall(r"^;; SERVER: ([\d.]+)#53", client.run(["dig", "linuxvoice.com", *words]).check().text, re.M)

    assert server() == listed == ["8.8.8.8"]
    assert server("@213.138.96.53") == ["213.138.96.53"]


def test_the_x_option_reverses_the_octets_under_in_addr_arpa(client: Host) -> None:
    text = client.run(["dig", "-x", "213.138.101.172"]).check().text
    assert re.search(r"^;172\.101\.138\.213\.in-addr\.arpa\.\s+IN\s+PTR$", text, re.MULTILINE)
