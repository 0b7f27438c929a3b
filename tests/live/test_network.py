"""The network of the lab: its router, what it does not pass, and the machine outside that nothing can reach."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPerror
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from lab.waiting import Deadline, poll

OUTSIDE = "203.0.113.1"  # RFC 5737: an address for documentation, nobody's

# Sends a datagram to each "ADDRESS PORT" of its input, over whichever IP version, and prints what came of it.
SEND_EACH = """
import socket, sys
for line in sys.stdin:
    host, port = line.split()
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as s:
            s.sendto(b"anyone there?", address)
        print(host, "sent")
    except OSError as error:
        print(host, error.strerror)
"""


def lab_networks(lab) -> list[ipaddress.IPv4Network]:
    """Every network that the router is on."""
    routes = lab.host("router").run(["ip", "-4", "-o", "route", "show", "proto", "kernel"]).check().text
    return [ipaddress.ip_network(line.split()[0]) for line in routes.splitlines()]


def gateway(host) -> str:
    """The router's address on the network of a host that has one."""
    return re.sub(r"\d+$", "1", host.address)


def spare(host) -> str:
    """An address on the host's network that nobody has."""
    return re.sub(r"\d+$", "99", host.address)


# The router


def test_a_datagram_crosses_the_router_with_ttl_63(lab, client):
    far = lab.host("farpeer")
    with far.capture("udp port 7777") as wire:
        client.inject([IP(src=client.address, dst=far.address, ttl=64) / UDP(sport=5555, dport=7777) / b"hello"])
        packet = wire.wait_for(lambda p: p[UDP].dport == 7777)
    assert (packet[IP].src, packet[IP].ttl, bytes(packet[Raw])) == (client.address, 63, b"hello")


def test_within_one_network_the_ttl_stays_64(lab, client):
    server = lab.host("ucserver")
    with server.capture("udp port 7777") as wire:
        client.inject([IP(src=client.address, dst=server.address, ttl=64) / UDP(sport=5555, dport=7777) / b"hello"])
        packet = wire.wait_for(lambda p: p[UDP].dport == 7777)
    assert packet[IP].ttl == 64


def test_traceroute_shows_the_gateway_and_then_the_far_host(lab, client):
    far = lab.host("farpeer").address
    hops = client.run(["traceroute", "-n", far], timeout=20).check().text.splitlines()[1:]
    assert [re.match(r" *(\d+)  (\S+)", hop).groups() for hop in hops] == [("1", gateway(client)), ("2", far)]


def test_a_packet_to_the_outside_comes_back_net_unreachable_from_the_gateway(client):
    """The kernel tells one peer five times at once and then once a second, so this asks until it is told."""
    packet = IP(src=client.address, dst=OUTSIDE) / UDP(sport=5555, dport=53) / b"let me out"
    with client.capture("icmp[0] == 3") as wire:

        def told() -> list:
            client.inject([packet])
            return [p for p in wire.packets if p[IPerror].dst == OUTSIDE]

        errors = poll(told, Deadline.after(10), every=0.5)
    assert errors
    assert {(p[IP].src, p[ICMP].code) for p in errors} == {(gateway(client), 0)}


def test_ping_says_who_could_not_deliver(client):
    # Should the last answer get lost, ping waits ten seconds for it, whatever -w says.
    done = client.run(["ping", "-c3", "-W2", OUTSIDE])
    said_by = re.findall(r"bytes from (?:\S+ )?\(?([\d.]+)\)?: Destination Net Unreachable$", done.text, re.MULTILINE)
    assert set(said_by) == {gateway(client)}
    assert done.exit != 0


def test_every_packet_whose_time_is_up_is_told(lab, client):
    """By default the kernel tells one peer once a second, and a traceroute of many probes is full of stars."""
    far = lab.host("farpeer").address
    packets = [IP(src=client.address, dst=far, ttl=1) / UDP(sport=6000 + n, dport=7777) for n in range(20)]
    with client.capture("icmp[0] == 11") as wire:
        client.inject(packets)
        for n in range(20):
            wire.wait_for(lambda p, n=n: p["UDPerror"].sport == 6000 + n)
    assert {p[IP].src for p in wire.packets} == {gateway(client)}


def test_a_far_host_that_is_off_is_host_unreachable(lab, client):
    absent = spare(lab.host("farpeer"))
    with client.capture("icmp[0] == 3") as wire:
        client.inject([IP(src=client.address, dst=absent) / UDP(sport=5555, dport=7777) / b"knock"])
        error = wire.wait_for(lambda p: p[IPerror].dst == absent, timeout=8)
    assert (error[IP].src, error[ICMP].code) == (gateway(client), 1)


def test_the_router_has_no_way_out_and_sits_at_every_gateway(lab):
    router = lab.host("router")
    assert router.run(["ip", "-4", "route", "show", "default"]).check().stdout == b""
    for network in lab_networks(lab):
        first = network.network_address + 1
        assert f" {first}/" in router.run(["ip", "-4", "-o", "address"]).check().text
    router.run(["healthy"]).check()


def test_the_router_takes_its_gateways_again_after_a_restart(lab, client):
    router = lab.host("router")
    router.restart()
    router.wait_healthy()
    client.run(["ping", "-c1", "-w3", lab.host("farpeer").address]).check()


def test_the_router_takes_a_lost_gateway_back(lab, client):
    router, far = lab.host("router"), lab.host("farpeer")
    line = router.run(["ip", "-4", "-o", "address", "show", "to", gateway(far)]).check().text
    _, interface, _, address = line.split()[:4]
    router.run(["ip", "address", "del", address, "dev", interface], user="root").check()
    assert poll(lambda: router.run(["healthy"]).exit == 0, Deadline.after(5), every=0.1)
    client.run(["ping", "-c1", "-w3", far.address]).check()


def test_the_routers_check_fails_when_a_gateway_is_lost_or_a_way_out_appears(lab, client):
    router = lab.host("router")
    far = gateway(lab.host("farpeer"))
    sick = router.run(["env", f"GATEWAYS={far}/24 {OUTSIDE}/24", "healthy"])
    assert (sick.exit, sick.text) == (1, f"gateway {OUTSIDE} is not ours\n")


def test_a_gateway_without_a_prefix_is_refused_by_name(lab):
    with lab.container("datagram-lab/router", networks=["lan"], cap_add=["NET_ADMIN"], command=["sleep", "60"]) as r:
        done = r.run(["env", "GATEWAYS=192.168.1.1", "router"])
    assert done.exit == 100
    assert done.stderr.startswith(b"router: gateway '192.168.1.1': expected an address with its prefix length")


# Broadcasts


@pytest.mark.parametrize("target", ["255.255.255.255", "own network", "far network"])
def test_a_broadcast_does_not_cross_the_router(lab, client, target):
    """Neither the limited one, nor that of the sender's own network, nor one directed at the far network."""
    far, near = lab.host("farpeer"), lab.host("ucserver")
    address = {
        "255.255.255.255": target,
        "own network": re.sub(r"\d+$", "255", client.address),
        "far network": re.sub(r"\d+$", "255", far.address),
    }[target]
    broadcast = IP(src=client.address, dst=address) / UDP(sport=5555, dport=7777) / b"everybody"
    last = IP(src=client.address, dst=far.address) / UDP(sport=5555, dport=7777) / b"only you"
    with near.capture("udp port 7777") as here, far.capture("udp port 7777") as there:
        client.inject([broadcast, last])
        there.wait_for(lambda p: bytes(p[Raw]) == b"only you")  # the control: same path, sent after it
        if target != "far network":
            here.wait_for(lambda p: p[IP].dst == address)
    assert [p[IP].dst for p in there.packets] == [far.address]


# IPv6


def test_no_host_has_an_ipv6_address(lab):
    seen = {host.name: host.run(["cat", "/proc/net/if_inet6"]).text for host in lab.hosts()}
    assert {name: text for name, text in seen.items() if text} == {}
    assert len(seen) > 5


def test_no_host_reaches_the_machine_over_ipv6_link_local(lab):
    """Bridges keep a link-local address on the machine; only hosts without IPv6 cannot reach it."""
    table = Path("/proc/net/if_inet6").read_text().split()[::6]
    machine = {ipaddress.IPv6Address(int(digits, 16)) for digits in table} - {ipaddress.IPv6Address("::1")}
    machine |= {ipaddress.IPv6Address("ff02::1")}  # every host on the link: the machine's bridge, too
    targets = [f"{one}%eth0 13" if one.is_link_local or one.is_multicast else f"{one} 13" for one in machine]
    for host in (lab.host("client"), lab.host("ucserver")):
        control = lab.host("daytime").address
        done = host.run(["python3", "-c", SEND_EACH], input="\n".join([*targets, f"{control} 13", ""]).encode())
        answers = dict(line.split(" ", 1) for line in done.check().text.splitlines())
        assert answers.pop(control) == "sent"
        assert len(answers) == len(targets)
        assert set(answers.values()) <= {"Cannot assign requested address", "Network is unreachable", "No such device"}


# The machine outside, which is only read


def little_endian(word: str) -> int:
    """An address as /proc/net/route prints it, on the little-endian machines that there are."""
    return int.from_bytes(bytes.fromhex(word), "little")


def uplinks() -> set[str]:
    """The machine's interfaces with a default route."""
    lines = Path("/proc/net/route").read_text().splitlines()[1:]
    return {name for name, destination, *_ in map(str.split, lines) if destination == "00000000"}


class Lines:
    """What a container prints, read by a thread."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._text = ""
        self._told = 0
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Iterator[bytes]) -> None:
        for chunk in stream:
            with self._news:
                self._text += chunk.decode()
                self._news.notify_all()

    def until(self, text: str, deadline: Deadline) -> list[str]:
        """The lines not yet told, up to the one with that text in it."""
        line = re.compile(re.escape(text) + ".*\n")
        with self._news:
            found = self._news.wait_for(lambda: line.search(self._text, self._told), deadline.remaining)
            assert found, f"no {text!r} among the lines; the last were {self._text[-500:]!r}"
            told, self._told = self._told, found.end()
            return self._text[told : self._told].splitlines()


@contextlib.contextmanager
def machine_capture(lab, packets: str) -> Iterator[Lines]:
    """The lines of a tcpdump in the machine's own network namespace; each starts with the interface's name.

    Only the heads of packets (-s): with its default of 256 KiB a packet, tcpdump's buffer holds eight of them.
    """
    engine = docker.from_env()
    container = engine.containers.create(
        "datagram-lab/client",
        ["tcpdump", "-i", "any", "-n", "-t", "-l", "-s", "128", "--immediate-mode", packets],
        network_mode="host",
        cap_drop=["ALL"],
        cap_add=["NET_RAW"],
        labels={"lab.temporary": lab.project},
    )
    try:
        container.start()
        with contextlib.closing(lab.engine.logs(container.id, follow=True)) as output:
            lines = Lines(output)
            lines.until("listening on any", Deadline.after(10))
            yield lines
    finally:
        container.remove(force=True)
        engine.close()


def test_the_machine_has_no_route_to_the_labs_networks(lab):
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    known = [
        ipaddress.ip_network((little_endian(destination), bin(int(mask, 16)).count("1")))
        for _, destination, _, _, _, _, _, mask, *_ in routes
    ]
    ours = lab_networks(lab)
    assert len(ours) >= 2
    assert known, "no route at all: this file is not the machine's"
    assert [route for route in known if route.prefixlen and any(route.overlaps(own) for own in ours)] == []


def test_the_machine_has_no_address_on_the_labs_networks(lab):
    trie = Path("/proc/net/fib_trie").read_text()
    addresses = {ipaddress.ip_address(found) for found in re.findall(r"\|-- (\S+)\n +/32 host LOCAL", trie)}
    assert ipaddress.ip_address("127.0.0.1") in addresses
    assert [address for address in addresses if any(address in own for own in lab_networks(lab))] == []


def test_nothing_of_the_lab_appears_on_the_machines_uplink(lab, client):
    """One tcpdump on all of the machine's interfaces: it sees our packets on the lab's bridges, and nowhere else."""
    last = "203.0.113.254"
    with machine_capture(lab, "udp and (dst net 203.0.113.0/24 or port 2066)") as seen:
        targets = [OUTSIDE] * 20 + [last]
        client.inject([IP(src=client.address, dst=to) / UDP(sport=5555, dport=7777) / b"let me out" for to in targets])
        lines = seen.until(f"> {last}.7777", Deadline.after(10))
    interfaces = {line.split()[0] for line in lines}
    assert sum(f"> {OUTSIDE}.7777" in line for line in lines) >= 20, "the observer missed what it had to see"
    assert all(name.startswith(("veth", "br-")) for name in interfaces), interfaces
    assert interfaces.isdisjoint(uplinks())


def test_only_the_router_answers_for_the_gateways_address(lab, client):
    own = client.run(["cat", "/sys/class/net/eth0/address"]).check().text.strip()
    question = Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=own, psrc=client.address, pdst=gateway(client))
    with client.capture("arp") as wire:
        client.inject([question])
        wire.wait_for(lambda p: p["ARP"].op == 2 and p["ARP"].psrc == gateway(client))
    owners = {p["ARP"].hwsrc for p in wire.packets if p["ARP"].op == 2 and p["ARP"].psrc == gateway(client)}
    links = lab.host("router").run(["ip", "-o", "link"]).check().text
    assert len(owners) == 1
    assert owners.pop() in links
