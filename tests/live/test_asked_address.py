"""A host on two networks answers from the address that was asked, whichever is nearer (RFC 1123, 2.3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from lab.hosts.host import Host
    from lab.lab import Lab

ASK = """
import ast, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(ast.literal_eval(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
data, (source, port) = s.recvfrom(65535)
print(source, data)
"""
"""Sends one datagram from a socket that hears everybody; prints who answers, and what."""


class Service(NamedTuple):
    image: str
    port: int
    request: bytes
    answer: str
    command: list[str] | None = None
    cap_add: tuple[str, ...] = ()


SERVICES = {
    "ucserver": Service("ucserver", 4444, b"asked\n", r"b'ASKED\n'"),
    "tallytable": Service("tally", 4446, b"hello\n", r"b'+port 4446\n'", ["tally_table.py"]),
    "tallychild": Service("tally", 4446, b"hello\n", "b'+port ", ["tally_child.py"]),
    "daytime": Service("daytime", 13, b"\n", "b'"),
    "tftp": Service(
        "tftp", 69, b"\0\1hello.txt\0octet\0", r"b'\x00\x03\x00\x01Hello", None, ("SETUID", "SETGID", "SYS_CHROOT")
    ),
}


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


@pytest.fixture(scope="module")
def server(lab: Lab, service: Service) -> Iterator[Host]:
    with lab.container(
        f"datagram-lab/{service.image}",
        networks={"lan": None, "far": None},
        command=service.command,
        cap_add=service.cap_add,
    ) as made:
        made.wait_for_log("^ready", since=1)
        yield made


@pytest.mark.parametrize("asker", ["client", "unixclient"])
@pytest.mark.parametrize("network", ["lan", "far"])
def test_answer_comes_from_the_address_that_was_asked(
    lab: Lab, server: Host, service: Service, network: str, asker: str
) -> None:
    asked = server.addresses[network]
    words = ["python3", "-c", ASK, asked, str(service.port), repr(service.request)]
    assert lab.host(asker).run(words).check().text.startswith(f"{asked} {service.answer}")


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "tftp"], indirect=True)
@pytest.mark.parametrize("network", ["lan", "far"])
def test_nc_prints_the_answer(client: Host, server: Host, service: Service, network: str) -> None:
    """nc connects its socket, so that it hears nobody but whom it asked; a TFTP transfer has a port of its own."""
    words = ["nc", "-u", "-w1", server.addresses[network], str(service.port)]
    assert client.run(words, input=service.request).stdout


def test_the_hand_over_leads_to_the_same_address(lab: Lab, client: Host) -> None:
    with lab.container("datagram-lab/tally", networks={"lan": None, "far": None}, command=["tally_child.py"]) as server:
        server.wait_for_log("^ready", since=1)
        for address in server.addresses.values():
            done = lab.host("tallytable").run(["tally_client.py", address], input=b"two words\n").check()
            assert done.text.endswith("1 line, 2 words\n")


def test_broadcast_is_answered_from_an_address_of_the_host_or_not_at_all(lab: Lab, client: Host) -> None:
    ask = ASK.replace("s.settimeout(5)", "s.settimeout(1); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)")
    broadcast = f"{client.address.rpartition('.')[0]}.255"
    for port, request, answered in ((4444, b"x", False), (4446, b"hello\n", True)):
        done = client.run(["python3", "-c", ask, broadcast, str(port), repr(request)])
        assert bool(done.text) == answered
        # Of those of this file's own server, too, which hears it like the lab's.
        everybody = [address for container in lab.engine.containers() for address in container.addresses.values()]
        assert not answered or done.text.split(" ")[0] in everybody
