"""The zone files hang together: from the root hints, every name of the lab is found, and no address leads out of it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import dns.name
import dns.rdataset
import dns.rdatatype
import dns.reversename
import dns.zone
import pytest
from dns.name import Name
from dns.rdatatype import CNAME, NS, PTR, SOA, A
from dns.zone import Zone

SERVICES = Path(__file__).resolve().parents[2] / "services"
NSD = SERVICES / "nsd"
ADDRESSES = {"rootserver": "198.41.0.4", "tldserver": "192.5.6.30", "nameserver": "213.138.96.53"}
SUBNETS = [ipaddress.ip_network(net) for net in ("8.8.8.0/24", "198.41.0.0/24", "192.5.6.0/24", "213.138.96.0/19")]
OUTSIDE = {"91.189.94.156", "85.233.160.22"}  # ubuntu.com and jamieoliver.com, which the article asks for


def zone_name(file: Path) -> Name:
    return dns.name.from_text("." if file.stem == "root" else file.stem)


def read(file: Path, origin: Name, *, complete: bool = True) -> Zone:
    return dns.zone.from_file(str(file), origin, relativize=False, check_origin=complete)


ZONES: dict[str, dict[Name, Zone]] = {
    host: {zone_name(file): read(file, zone_name(file)) for file in sorted((NSD / host).glob("*.zone"))}
    for host in ADDRESSES
}
EACH_ZONE = [pytest.param(host, name, id=str(name)) for host, zones in ZONES.items() for name in zones]


def rdata(zone: Zone, name: Name, kind: dns.rdatatype.RdataType) -> list[str]:
    found = zone.get_rdataset(name, kind)
    return [record.to_text() for record in found] if found else []


def delegations(zone: Zone) -> Iterator[tuple[Name, dns.rdataset.Rdataset]]:
    return ((name, rdataset) for name, rdataset in zone.iterate_rdatasets(NS) if name != zone.origin)


def resolve(
    name: Name, kind: dns.rdatatype.RdataType, server: str | None = None, depth: int = 0
) -> dns.rdataset.Rdataset:
    """What a resolver finds that knows the root hints alone; every step takes only what that server would answer."""
    assert depth < 20, f"{name}: the delegations run in a circle"
    if server is None:
        server = next(iter(read(SERVICES / "resolver/root.hints", dns.name.root, complete=False).iterate_rdatas(A)))[2]
        server = server.address
    host = next(host for host, address in ADDRESSES.items() if address == server)
    owners = [origin for origin in ZONES[host] if name.is_subdomain(origin)]
    assert owners, f"{host} was asked for {name} and has no zone for it"
    zone = ZONES[host][max(owners, key=len)]
    for cut, servers in delegations(zone):
        if name.is_subdomain(cut):
            target = servers[0].target
            glue = rdata(zone, target, A) if target.is_subdomain(zone.origin) else []
            address = glue[0] if glue else resolve(target, A, None, depth + 1)[0].address
            return resolve(name, kind, address, depth + 1)
    alias = zone.get_rdataset(name, CNAME)
    if alias and kind != CNAME:
        return resolve(alias[0].target, kind, None, depth + 1)
    found = zone.get_rdataset(name, kind)
    assert found, f"{host} has no {dns.rdatatype.to_text(kind)} for {name}"
    return found


@pytest.mark.parametrize(("host", "name"), EACH_ZONE)
def test_zone_is_reached_from_the_root_and_by_its_own_host(host: str, name: Name) -> None:
    assert resolve(name, SOA) is ZONES[host][name].get_rdataset(name, SOA)


@pytest.mark.parametrize(("host", "name"), EACH_ZONE)
def test_servers_that_a_zone_names_lead_to_the_host_that_serves_it(host: str, name: Name) -> None:
    for server in ZONES[host][name].get_rdataset(name, NS):
        assert resolve(server.target, A)[0].address == ADDRESSES[host], f"{name} NS {server}"


@pytest.mark.parametrize(("host", "name"), EACH_ZONE)
def test_delegation_has_glue_and_agrees_with_the_child(host: str, name: Name) -> None:
    zone = ZONES[host][name]
    children = {origin: child for zones in ZONES.values() for origin, child in zones.items()}
    for cut, servers in delegations(zone):
        assert cut in children, f"{name} delegates {cut}, which no host serves"
        assert set(servers) == set(children[cut].get_rdataset(cut, NS)), f"{cut}: parent and child name other servers"
        for server in servers:
            if server.target.is_subdomain(cut):
                glue = rdata(zone, server.target, A)
                assert glue == rdata(children[cut], server.target, A), f"{cut}: glue of {server.target}"


@pytest.mark.parametrize(("host", "name"), EACH_ZONE)
def test_every_address_is_the_labs_or_named_by_the_article(host: str, name: Name) -> None:
    for owner, _, record in ZONES[host][name].iterate_rdatas(A):
        address = ipaddress.ip_address(record.address)
        inside = any(address in subnet for subnet in SUBNETS)
        assert inside or record.address in OUTSIDE, f"{owner} has {address}, which is no host of the lab"


@pytest.mark.parametrize(("host", "name"), EACH_ZONE)
def test_reverse_names_lead_back(host: str, name: Name) -> None:
    for owner, _, record in ZONES[host][name].iterate_rdatas(PTR):
        forward = resolve(record.target, A)
        assert owner == dns.reversename.from_address(forward[0].address), f"{owner} PTR {record}"


@pytest.mark.parametrize(
    ("name", "kind", "ttl", "answer"),
    [
        ("linuxvoice.com.", "A", 600, "213.138.101.172"),
        ("www.linuxvoice.com.", "CNAME", 600, "linuxvoice.com."),
        ("www.linuxvoice.com.", "A", 600, "213.138.101.172"),
        ("linuxvoice.com.", "MX", 600, "10 smtp.linuxvoice.com."),
        ("smtp.linuxvoice.com.", "A", 600, "213.138.101.172"),
        ("ubuntu.com.", "A", 577, "91.189.94.156"),
        ("jamieoliver.com.", "A", 600, "85.233.160.22"),
        ("172.101.138.213.in-addr.arpa.", "PTR", 600, "mainsite.default.linuxvoice.uk0.bigv.io."),
    ],
)
def test_walk_from_the_root_ends_at_the_articles_answer(name: str, kind: str, ttl: int, answer: str) -> None:
    found = resolve(dns.name.from_text(name), dns.rdatatype.from_text(kind))
    assert (found.ttl, [record.to_text() for record in found]) == (ttl, [answer])


def test_root_has_its_thirteen_names() -> None:
    root = ZONES["rootserver"][dns.name.root]
    assert rdata(root, dns.name.root, NS) == [f"{letter}.root-servers.net." for letter in "abcdefghijklm"]


def test_large_answers_are_as_large_as_their_zone_says() -> None:
    """`medium` fits an EDNS answer and not a plain one, `big` neither; headers and question take some 40 octets."""
    zone = ZONES["nameserver"][dns.name.from_text("lab.")]

    def octets(name: str) -> int:
        found = zone.get_rdataset(dns.name.from_text(name), "TXT")
        return sum(1 + len(string) for record in found for string in record.strings)

    limit = int(re.search(r"max-udp-size: (\d+)", (SERVICES / "resolver/unbound.conf").read_text())[1])
    assert 512 < octets("medium.lab.") < limit - 100
    assert octets("big.lab.") > limit
