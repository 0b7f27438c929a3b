"""The workstation: its tools, what its ordinary user may do with them, and what not."""

from __future__ import annotations

import re
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from lab.waiting import Deadline, poll

TOOLS = [
    "nc",
    "dig",
    "lsof",
    "nmap",
    "tcpdump",
    "traceroute",
    "ping",
    "gcc",
    "python3",
    "tftp",
    "logger",
    "less",
    "nano",
]
OWN = ["daytimeclient", "inject"]
RAW_SOCKET = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); print('opened')"
QUICK_DIG = ["dig", "+time=1", "+tries=1"]


def test_every_tool_is_there(client):
    done = client.run(
        ["sh", "-c", f"for tool in {' '.join([*TOOLS, *OWN])}; do command -v $tool || echo $tool missing; done"]
    )
    assert re.findall(r"^(\S+) missing$", done.text, re.MULTILINE) == []
    assert len(done.text.splitlines()) == len(TOOLS) + len(OWN)


def test_the_user_is_an_ordinary_one_without_a_capability(client):
    assert client.run(["id", "-un"]).text == "lab\n"
    status = client.run(["cat", "/proc/self/status"]).text
    assert re.search(r"^CapEff:\t0{16}$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0{12}2000$", status, re.MULTILINE), (
        "NET_RAW and nothing else, even for setuid programs"
    )


def test_the_root_file_system_is_read_only_but_home_and_tmp_are_not(client):
    done = client.run(["sh", "-c", "touch ~/mine /tmp/mine && rm ~/mine /tmp/mine && echo written; touch /usr/mine"])
    assert done.stdout == b"written\n"
    assert b"Read-only file system" in done.stderr or b"Permission denied" in done.stderr
    assert b"Read-only" in client.run(["touch", "/etc/mine"], user="root").stderr


# Raw sockets


def test_ping_is_setuid_root_as_in_the_article(client):
    assert re.fullmatch(r"-rwsr-xr-x 1 root root \d+ .* /bin/ping\n", client.run(["ls", "-l", "/bin/ping"]).text)


def test_ping_gets_an_answer(client):
    done = client.run(["ping", "-c2", "-w5", "ucserver"]).check()
    assert re.search(r"2 packets transmitted, 2 packets received, 0% packet loss", done.text)


def test_an_unnamed_program_is_refused_a_raw_socket(client):
    refused = client.run(["python3", "-c", RAW_SOCKET])
    assert refused.exit == 1
    assert refused.stderr.endswith(b"PermissionError: [Errno 1] Operation not permitted\n")
    assert client.run(["python3", "-c", RAW_SOCKET], user="root").text == "opened\n", (
        "the control: it is the right, not the lab"
    )


def test_a_copy_of_a_privileged_program_is_not_privileged(client):
    """The right belongs to the file, not to its contents."""
    done = client.run(["sh", "-c", "cp /bin/ping /tmp/myping && /tmp/myping -c1 -w1 ucserver; rm /tmp/myping"])
    assert b"64 bytes from" not in done.stdout
    assert b"not permitted" in done.stderr.lower() or b"privilege" in done.stderr.lower()


def test_the_ordinary_user_watches_the_wire_with_tcpdump(client):
    with client.start(["sh", "-c", "exec tcpdump -n -l --immediate-mode -i eth0 icmp 2>&1"]) as tcpdump:
        tcpdump.expect("listening on eth0", timeout=5)
        client.run(["ping", "-c1", "-w3", "ucserver"]).check()
        tcpdump.expect("ICMP echo request", timeout=5)
        tcpdump.expect("ICMP echo reply", timeout=5)


# Asking servers that are not there


def test_dig_to_a_server_beyond_the_router_that_is_not_there_times_out_clearly(client):
    done = client.run([*QUICK_DIG, "@203.0.113.53", "www.linuxvoice.com"])
    assert done.exit == 9
    assert ";; communications error to 203.0.113.53#53: timed out" in done.text
    assert ";; no servers could be reached" in done.text
    assert done.elapsed >= 0.9


def test_dig_to_a_silent_address_of_the_lan_times_out_clearly(client):
    silent = re.sub(r"\d+$", "99", client.address)
    done = client.run([*QUICK_DIG, f"@{silent}", "www.linuxvoice.com"])
    assert done.exit == 9
    assert f";; communications error to {silent}#53: timed out" in done.text
    assert ";; no servers could be reached" in done.text


def test_dig_to_a_host_without_a_name_server_is_refused_at_once(lab, client):
    server = lab.host("ucserver").address
    done = client.run([*QUICK_DIG, f"@{server}", "www.linuxvoice.com"])
    assert done.exit == 9
    assert f";; communications error to {server}#53: connection refused" in done.text
    assert done.elapsed < 0.9


def test_dig_reads_the_users_digrc(lab, client):
    server = lab.host("ucserver").address
    assert "; <<>> DiG" in client.run([*QUICK_DIG, f"@{server}", "x.example"]).text
    client.run(["sh", "-c", "echo +nocmd > ~/.digrc"]).check()
    try:
        assert "; <<>> DiG" not in client.run([*QUICK_DIG, f"@{server}", "x.example"]).text
    finally:
        client.run(["sh", "-c", "rm ~/.digrc"]).check()


# Tools at work


def test_lsof_shows_a_udp_socket_and_whose_it_is(client):
    with client.start(["nc", "-4", "-u", "-l", "2013"]) as listener:
        line = poll(
            lambda: re.search(r"^nc .*:2013.*$", client.run(["lsof", "-nP", "-i"]).text, re.M), Deadline.after(5)
        )
        assert line
        assert re.fullmatch(rf"nc +{listener.pid} +lab +3u +IPv4 +\d+ +0t0 +UDP \*:2013 *", line[0])


@pytest.mark.parametrize("folder", ["/tmp", "/home/lab"])
def test_a_program_of_ones_own_is_compiled_and_run(client, folder):
    source = b"""
        #include <stdio.h>
        #include <arpa/inet.h>
        int main(void) { printf("%d\\n", ntohs(htons(4444))); return 7; }
    """
    script = (
        "cat >own.c && gcc -std=c17 -Wall -Wextra -Werror own.c -o own && ./own; code=$?; rm -f own own.c; exit $code"
    )
    done = client.run(["sh", "-c", script], input=source, cwd=folder, timeout=20)
    assert (done.exit, done.stdout, done.stderr) == (7, b"4444\n", b"")


# Hand-made packets


def test_inject_sends_a_spoofed_source_and_port_zero(lab, client):
    server = lab.host("ucserver")
    stranger = re.sub(r"\d+$", "99", client.address)
    with server.capture("udp port 7777") as wire:
        client.inject([IP(src=stranger, dst=server.address) / UDP(sport=0, dport=7777) / b"who am I?"])
        packet = wire.wait_for(lambda p: p[UDP].dport == 7777)
    assert (packet[IP].src, packet[UDP].sport, bytes(packet[Raw])) == (stranger, 0, b"who am I?")


def test_inject_leaves_wrong_lengths_alone(lab, client):
    server = lab.host("ucserver")
    with server.capture("udp port 7777") as wire:
        client.inject([IP(src=client.address, dst=server.address) / UDP(sport=7, dport=7777, len=4000) / b"short"])
        packet = wire.wait_for(lambda p: p[UDP].dport == 7777)
    assert packet[UDP].len == 4000


def test_inject_sends_whole_frames_that_the_kernel_would_not(lab, client):
    """A forged link address, to an address that nobody has and no ARP would find."""
    nobody = re.sub(r"\d+$", "99", client.address)
    forged = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / IP(src=client.address, dst=nobody, ttl=3)
    with lab.host("ucserver").capture("udp port 7777") as wire:
        client.inject([forged / UDP(sport=7, dport=7777) / b"to whom it may concern"])
        packet = wire.wait_for(lambda p: p[UDP].dport == 7777)
    assert (packet.src, packet[IP].dst, packet[IP].ttl) == ("02:00:00:00:00:01", nobody, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0", "packet 1: input ends inside the 4-byte length, after 2 bytes"),
        (struct.pack("!I", 40) + b"E" * 10, "packet 1: input ends after 10 of 40 bytes"),
        (struct.pack("!I", 0), "packet 1: a length of 0; an IPv4 packet has 20 to 65535 bytes"),
        (struct.pack("!I", 1 << 31), "packet 1: a length of 2147483648; an IPv4 packet has 20 to 65535 bytes"),
        (struct.pack("!I", 20) + b"\x60" * 20, "packet 1: starts with 0x60, not with IP version 4"),
    ],
)
def test_inject_refuses_what_is_not_framed(client, data, message):
    done = client.run(["inject"], input=data, user="root")
    assert (done.exit, done.stdout, done.stderr.decode()) == (100, b"", f"inject: {message}\n")


def test_inject_counts_what_it_sent(lab, client):
    packet = bytes(IP(src=client.address, dst=lab.host("ucserver").address) / UDP(sport=7, dport=7777) / b"x")
    done = client.run(["inject"], input=(struct.pack("!I", len(packet)) + packet) * 3, user="root")
    assert (done.exit, done.stdout) == (0, b"sent 3\n")


def test_inject_is_for_root_only(client):
    done = client.run(["inject"])
    assert done.exit == 100
    assert done.stderr.startswith(b"inject: a raw socket is refused")
