"""nmap's scans from the workstation: what it concludes, and the TCP flags that it really sent."""

from __future__ import annotations

import re

import pytest
from scapy.layers.inet import TCP

OPEN, CLOSED = 4444, 4445


def states(text: str) -> dict[str, str]:
    """State by "port/protocol", from nmap's own table."""
    return dict(re.findall(r"^(\d+/\w+)\s+(\S+)", text, re.MULTILINE))


@pytest.fixture
def server(lab):
    return lab.host("ucserver")


@pytest.mark.parametrize(
    ("scan", "flags", "open_state"),
    [
        ("-sN", "", "open|filtered"),
        ("-sF", "F", "open|filtered"),
        ("-sX", "FPU", "open|filtered"),
        ("-sS", "S", "open"),
    ],
    ids=["NULL", "FIN", "Xmas", "SYN"],
)
def test_a_scan_tells_open_from_closed_by_odd_flags(client, server, scan, flags, open_state):
    with server.capture(f"tcp port {OPEN} or tcp port {CLOSED}") as wire:
        done = client.run(["nmap", "-n", "-Pn", scan, "-p", f"{OPEN},{CLOSED}", server.address], timeout=20).check()
    assert states(done.text) == {f"{OPEN}/tcp": open_state, f"{CLOSED}/tcp": "closed"}

    probes = {port: [str(p[TCP].flags) for p in wire.packets if p[TCP].dport == port] for port in (OPEN, CLOSED)}
    answers = {port: {str(p[TCP].flags) for p in wire.packets if p[TCP].sport == port} for port in (OPEN, CLOSED)}
    assert probes[CLOSED] == [flags]
    assert answers[CLOSED] == {"RA"}
    if scan == "-sS":
        assert probes[OPEN] == ["S", "R"], "half open: the kernel, which knows of no connection, resets it"
        assert answers[OPEN] == {"SA"}
    else:
        assert probes[OPEN] == [flags, flags], "no answer, so nmap asks once more"
        assert answers[OPEN] == set()


def test_a_plain_connect_scan_needs_no_raw_socket(client, server):
    scan = ["nmap", "--unprivileged", "-n", "-Pn", "-sT", "-p", f"{OPEN},{CLOSED}", server.address]
    assert states(client.run(scan, timeout=20).check().text) == {f"{OPEN}/tcp": "open", f"{CLOSED}/tcp": "closed"}


def test_a_udp_scan_finds_daytime_open_and_a_port_without_server_closed(lab, client):
    daytime = lab.host("daytime").address
    with client.capture(f"icmp or udp port 13 and host {daytime}") as wire:
        done = client.run(["nmap", "-n", "-Pn", "-sU", "-p", f"13,{CLOSED}", daytime], timeout=20).check()
    assert states(done.text) == {"13/udp": "open", f"{CLOSED}/udp": "closed"}
    assert re.search(r"^13/udp +open +daytime$", done.text, re.MULTILINE)
    assert [p for p in wire.packets if p.haslayer("ICMP") and (p["ICMP"].type, p["ICMP"].code) == (3, 3)]


def test_who_may_not_open_raw_sockets_is_told_so(client, server):
    """The article's rule, from nmap's mouth."""
    done = client.run(["nmap", "--unprivileged", "-n", "-sX", "-p", str(OPEN), server.address])
    assert done.exit != 0
    assert "requires root privileges" in done.text + done.stderr.decode()


def test_without_net_raw_in_the_container_nmap_cannot_even_be_executed(lab):
    with lab.container("datagram-lab/client", networks=["lan"]) as weak:
        done = weak.run(["nmap", "--version"])
    assert done.exit in (126, 127)
    assert b"not permitted" in done.stderr


def test_the_server_is_not_impressed_by_scans(client, server):
    for scan in ("-sN", "-sF", "-sX", "-sS", "-sT"):
        client.run(["nmap", "-n", "-Pn", scan, "--max-retries", "0", "-p", str(OPEN), server.address]).check()
    assert client.run(["nc", "-u", "-w1", "ucserver", str(OPEN)], input=b"still here\n").stdout == b"STILL HERE\n"
    assert client.run(["nc", "-N", "-w2", "ucserver", str(OPEN)], input=b"still here\n").stdout == b"STILL HERE\n"
