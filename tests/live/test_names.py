"""Every name that `lab status` shows is known in the hosts: by getaddrinfo and by dig, with .lab and without.

But for scaled peers: the engine draws their addresses (docs/dns.md).
"""

from __future__ import annotations

import pytest

from lab import Lab


def addresses(lab: Lab) -> dict[str, set[str]]:
    """Host by host what its name may stand for; the router's is the address that everybody's packets go to."""
    drawn = {host.name for host in lab.hosts() if host.container.service == "peer"}
    known = {row.name: set(row.addresses.values()) for row in lab.status() if row.name not in drawn}
    known["router"] = {f"{lab.host('client').address.rpartition('.')[0]}.1"}
    return known


def asked(lab: Lab, host: str, command: str, names: list[str]) -> dict[str, str]:
    """The first word that a command in a host prints for each name, all in one go."""
    script = f'for name; do echo "$name $({command} | head -n 1)"; done'
    lines = lab.host(host).run(["sh", "-c", script, "sh", *names], timeout=60).check().text.splitlines()
    return {line.split()[0]: " ".join(line.split()[1:2]) for line in lines}


def unknown(found: dict[str, str], known: dict[str, set[str]]) -> dict[str, str]:
    """The names that led elsewhere or nowhere."""
    return {name: address for name, address in found.items() if address not in known[name.removesuffix(".lab")]}


HOSTS = ["client", "unixclient", "farpeer", "mainsite", "nameserver"]


@pytest.mark.parametrize(
    ("host", "suffix"), [*((host, suffix) for host in HOSTS for suffix in ("", ".lab")), ("daytime", "")]
)
def test_every_name_of_the_table_is_known_to_getaddrinfo(lab: Lab, host: str, suffix: str) -> None:
    known = addresses(lab)
    found = asked(lab, host, 'getent ahostsv4 "$name"', [name + suffix for name in known])
    assert not unknown(found, known)


@pytest.mark.parametrize(("options", "suffix"), [("+short", ".lab"), ("+short +search", "")])
def test_every_name_of_the_table_is_known_to_dig(lab: Lab, options: str, suffix: str) -> None:
    known = addresses(lab)
    found = asked(lab, "client", f'dig {options} "$name"', [name + suffix for name in known])
    assert not unknown(found, known)


def test_a_name_that_nobody_has_stays_unknown(lab: Lab) -> None:
    for name in ("nobody", "nobody.lab", "client.example"):
        assert lab.host("client").run(["getent", "hosts", name]).exit == 2


def test_an_address_leads_to_the_name_that_its_zone_gives(lab: Lab) -> None:
    done = lab.host("client").run(["dig", "+short", "-x", "213.138.101.172"]).check()
    assert done.text == "mainsite.default.linuxvoice.uk0.bigv.io.\n"
