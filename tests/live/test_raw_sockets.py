"""Raw sockets: who may open one, what it sees, and what remains after the drop; claim by claim."""

from __future__ import annotations

import json
import re

import pytest

RIGHTS = ["NET_RAW", "SETGID"]
NET_RAW = f"{1 << 13:x}"

RAW_SOCKET = """
import errno, socket, sys
family = getattr(socket, sys.argv[1])
try:
    socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP if family == socket.AF_INET else 0)
    print("open")
except OSError as error:
    print(errno.errorcode[error.errno])
"""

# One conversation over TCP: takes a connection on port 8080, reads, answers.
ANSWER_ONCE = """
import socket
server = socket.create_server(("", 8080))
print("listening", flush=True)
connection, _ = server.accept()
print(connection.recv(100).decode(), flush=True)
connection.sendall(b"the answer")
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 8080), 5) as s:
    s.sendall(b"a secret")
    print(s.recv(100).decode())
"""

# An ICMP socket and a packet socket side by side; counts by kind what each saw of a datagram and an echo to this host.
BOTH_KINDS = """
import socket, subprocess
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(0x0800))
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 0))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"to be seen", listener.getsockname())
subprocess.run(["ping", "-c", "1", "127.0.0.1"], check=True, stdout=subprocess.DEVNULL)
for name, sock in ("icmp", icmp), ("packet", packet):
    sock.settimeout(0.5)
    kinds = set()
    try:
        while True:
            kinds.add({1: "ICMP", 17: "UDP"}.get(sock.recv(2000)[9]))
    except TimeoutError:
        print(name, *sorted(kinds))
"""


@pytest.fixture
def rawlab(lab):
    return lab.host("rawlab")


def tried(host) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of the table, by file and by whether no_new_privs was set."""
    rows = json.loads(host.run(["privileges", "--json"], timeout=30).check().text)["rows"]
    return {(row["file"].split(" cap_")[0], row["no_new_privs"]): row for row in rows}


@pytest.fixture
def table(rawlab):
    return tried(rawlab)


# Who may


@pytest.mark.parametrize("family", ["AF_INET", "AF_PACKET"])
def test_an_unprivileged_program_gets_no_raw_socket(rawlab, family):
    assert rawlab.run(["python3", "-c", RAW_SOCKET, family]).text == "EPERM\n"


@pytest.mark.parametrize("family", ["AF_INET", "AF_PACKET"])
def test_root_gets_one_and_root_without_the_capability_does_not(lab, rawlab, family):
    assert rawlab.run(["python3", "-c", RAW_SOCKET, family], user="root").text == "open\n"
    with lab.container("datagram-lab/rawlab", networks=["lan"], user="root", command=["sleep", "60"]) as host:
        assert host.run(["python3", "-c", RAW_SOCKET, family]).text == "EPERM\n"


def test_a_file_without_a_permission_gives_no_raw_socket(table):
    row = table["plain file", "no"]
    assert (row["raw"], row["packet"], row["ping_socket"]) == ("EPERM", "EPERM", "EACCES")


@pytest.mark.parametrize("file", ["setuid root", "file capability"])
def test_setuid_root_or_a_file_capability_gives_an_ordinary_user_a_raw_socket(table, file):
    row = table[file, "no"]
    assert (row["raw"], row["packet"]) == ("yes", "yes")


@pytest.mark.parametrize("file", ["plain file", "setuid root", "file capability", "setgid pingers"])
def test_under_no_new_privs_no_file_gives_anything(table, file):
    row = table[file, "yes"]
    assert (row["raw"], row["packet"], row["ping_socket"]) == ("EPERM", "EPERM", "EACCES")


def test_a_ping_socket_is_open_to_the_groups_of_the_hosts_range_only(lab, rawlab, table):
    assert rawlab.run(["cat", "/proc/sys/net/ipv4/ping_group_range"]).text.split() == ["2000", "2000"]
    assert {file: row["ping_socket"] for (file, closed), row in table.items() if closed == "no"} == {
        "plain file": "EACCES",
        "setuid root": "EACCES",
        "file capability": "EACCES",
        "setgid pingers": "yes",
    }
    assert table["setgid pingers", "no"]["raw"] == "EPERM"  # pinging, and no more than that
    for groups, outcome in {"1 0": "EACCES", "0 2147483647": "yes"}.items():
        with lab.container(
            "datagram-lab/rawlab",
            cap_add=RIGHTS,
            sysctls={"net.ipv4.ping_group_range": groups},
            command=["sleep", "60"],
        ) as host:
            assert {row["ping_socket"] for row in tried(host).values()} == {outcome}


# What remains after the drop


def test_a_setuid_program_that_becomes_its_user_has_nothing_left_but_the_socket(table):
    row = table["setuid root", "no"]
    assert row["become_user"] == "yes"
    assert (row["left"], row["another_raw"]) == ("0", "EPERM")
    assert row["first_still_pings"] == "yes"


def test_a_file_capability_outlives_the_way_back_to_the_user_and_has_to_be_given_up_by_name(table):
    row = table["file capability", "no"]
    assert row["become_user"] == "yes"
    assert (row["left"], row["another_raw"]) == (NET_RAW, "yes")
    assert (row["capset"], row["another_raw_after_capset"]) == ("yes", "EPERM")
    assert row["first_still_pings"] == "yes"


def test_with_all_capabilities_dropped_a_file_that_asks_for_one_cannot_start(lab):
    with lab.container("datagram-lab/rawlab", command=["sleep", "60"]) as host:
        rows = tried(host)
        assert host.run(["privileges"], timeout=30).text.count("cannot start") == 2
    assert rows["file capability", "no"] == {
        "file": "file capability cap_net_raw+ep",
        "no_new_privs": "no",
        "start": "EPERM",
    }
    assert (rows["setuid root", "no"]["raw"], rows["setuid root", "no"]["become_user"]) == ("EPERM", "EPERM")


def test_without_setgid_a_setuid_program_cannot_leave_roots_groups(lab):
    with lab.container("datagram-lab/rawlab", cap_add=["NET_RAW"], command=["sleep", "60"]) as host:
        row = tried(host)["setuid root", "no"]
    assert (row["raw"], row["become_user"], row["left"]) == ("yes", "EPERM", NET_RAW)


def test_the_table_says_what_the_attempts_found(rawlab):
    lines = rawlab.run(["privileges"], timeout=30).check().text.splitlines()
    assert lines[0].startswith("uid 1000; CAP_NET_RAW obtainable in this container: yes;")
    row = next(line for line in lines if re.match(r"file capability \S+ +no ", line))
    assert row.split()[4:] == ["yes", "yes", "EACCES", "yes", NET_RAW, "yes", "EPERM", "yes"]
    assert "/bin/ping (inetutils, setuid root): yes; under no_new_privs: ping: Lacking privilege" in "\n".join(lines)


def test_the_articles_ping_is_setuid_root(rawlab):
    assert re.match(r"-rwsr-xr-x 1 root root \d+ .* /bin/ping\n", rawlab.run(["ls", "-l", "/bin/ping"]).check().text)
    assert rawlab.run(["ping", "-c", "1", "-w", "2", "router"]).exit == 0


# What it sees


def test_a_raw_socket_overhears_other_users_conversations(rawlab, client):
    """Another user's TCP conversation, both directions of it, read by an ordinary user's sniffer."""
    with rawlab.start(["python3", "-u", "-c", ANSWER_ONCE], user="root") as server:
        server.expect(rb"listening")
        with rawlab.start(["sniffer", "8080"]) as sniffer:
            sniffer.expect(rb"ready: .* seen by uid 1000\n")
            assert client.run(["python3", "-c", ASK, rawlab.address]).check().text == "the answer\n"
            there, here = re.escape(client.address).encode(), re.escape(rawlab.address).encode()
            sniffer.expect(rb'to us +%s:\d+ > %s:8080 tcp 8 bytes "a secret"' % (there, here))
            sniffer.expect(rb'from us +%s:8080 > %s:\d+ tcp 10 bytes "the answer"' % (here, there))


def test_the_sniffer_keeps_no_privilege_and_without_the_bit_it_is_refused(rawlab):
    refused = rawlab.run(["sniffer-plain", "-c", "1"])
    assert refused.exit == 100
    assert b"this takes CAP_NET_RAW" in refused.stderr
    assert refused.stderr.endswith(b"Operation not permitted\n")
    with rawlab.start(["sniffer"]) as sniffer:
        sniffer.expect(rb"ready")
        status = rawlab.run(["cat", f"/proc/{sniffer.pid}/status"]).check().text
    assert re.search(r"^Uid:\s+1000\s+1000\s+1000\s+1000$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)


def test_a_switched_network_shows_a_sniffer_broadcasts_and_not_its_neighbours_conversations(lab, rawlab, client):
    server = lab.host("peer69").address
    client.run(["ping", "-c", "1", "-w", "2", server]).check()  # from now on the switch knows both addresses
    talk = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1);"
        "s.sendto(b'between us', (sys.argv[1], 8080)); s.sendto(b'to everyone', ('255.255.255.255', 8080))"
    )
    with rawlab.start(["sniffer", "8080"]) as sniffer:
        sniffer.expect(rb"ready")
        client.run(["python3", "-c", talk, server]).check()
        sniffer.expect(rb'to all .* udp 11 bytes "to everyone"')
        assert b"between us" not in sniffer.stdout


def test_a_raw_icmp_socket_sees_icmp_only_and_a_packet_socket_sees_all(lab):
    with lab.container("datagram-lab/rawlab", user="root", cap_add=["NET_RAW"], command=["sleep", "60"]) as host:
        done = host.run(["python3", "-c", BOTH_KINDS]).check()
    assert done.text.splitlines() == ["icmp ICMP", "packet ICMP UDP"]
