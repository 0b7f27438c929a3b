"""Two servers that keep state for each client, one protocol: the suite runs against both.

tests/unit/services/tally asks much more of the same programs, on loopback; here are the network and nc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP

from lab import Host, Lab
from lab.waiting import Deadline, poll

PORT = 4446
MEMORY = r"""
for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' <$process/cmdline) in
        *--check*) ;;
        python3*/[t]ally_*.py*) grep ^Private_Dirty: $process/smaps_rollup ;;
    esac
done 2>/dev/null
"""


@pytest.fixture(params=["tallytable", "tallychild"])
def server(request: pytest.FixtureRequest, lab: Lab) -> Host:
    return lab.host(request.param)


@pytest.fixture
def table(lab: Lab) -> Host:
    return lab.host("tallytable")


@pytest.fixture
def child(lab: Lab) -> Host:
    return lab.host("tallychild")


def nc(client: Host, server: Host, source: int, port: int = PORT):
    return client.start(["nc", "-u", "-p", str(source), server.name, str(port)])


def ask(client: Host, server: Host, source: int, line: bytes, answer: bytes, port: int = PORT) -> re.Match[bytes]:
    """One line said by an nc of its own, which is the same client each time, since its source port is the same."""
    with nc(client, server, source, port) as session:
        session.write(line)
        return session.expect(answer, timeout=5)


def hello(client: Host, server: Host, source: int) -> int:
    """The hand-over: the port that the answer names is the one to use from then on."""
    return int(ask(client, server, source, b"hello\n", rb"\+port (\d+)\n")[1])


def bye(client: Host, server: Host, source: int, port: int) -> None:
    ask(client, server, source, b"bye\n", rb"\+bye, .*\n", port)


def restart(server: Host) -> None:
    mark = server.mark_log()
    server.restart()
    server.wait_for_log(rf"ready on UDP port {PORT}", timeout=10, since=mark)


@pytest.fixture
def afterwards_empty(server: Host) -> Iterator[None]:
    """Ends what a flood leaves behind."""
    yield
    restart(server)


def near(server: Host, last: int) -> str:
    """Another address of the server's network."""
    return f"{server.address.rpartition('.')[0]}.{last}"


def memory_kib(server: Host) -> list[int]:
    """What each of the server's processes holds for itself alone; shared pages come and go with who shares them."""
    return [int(kib) for kib in re.findall(r"Private_Dirty:\s+(\d+)", server.run(["sh", "-c", MEMORY]).check().text)]


def test_the_readme_by_hand_with_nc(client, server):
    port = hello(client, server, 5000)
    with nc(client, server, 5000, port) as session:
        session.write(b"three words here\n")
        session.expect(rb"\+1 line, 3 words\n")
        session.write(b"two more\n")
        session.expect(rb"\+2 lines, 5 words\n")
        session.write(b"bye\n")
        session.expect(rb"\+bye, 2 lines, 5 words\n")


def test_two_clients_never_see_each_others_count(client, server):
    """Also: the same address with another port is another client."""
    ports = {source: hello(client, server, source) for source in (5001, 5002)}
    with nc(client, server, 5001, ports[5001]) as one, nc(client, server, 5002, ports[5002]) as two:
        for turn in range(1, 4):
            one.write(b"a\n")
            two.write(b"a b c\n")
            one.expect(rb"\+%d lines?, %d words?\n" % (turn, turn))
            two.expect(rb"\+%d lines?, %d words\n" % (turn, 3 * turn))
    for source, port in ports.items():
        bye(client, server, source, port)


def test_server_restart_forgets_all(client, server):
    port = hello(client, server, 5003)
    ask(client, server, 5003, b"a b\n", rb"\+1 line, 2 words\n", port)
    restart(server)
    ask(client, server, 5003, b"c\n", rb"-unknown, say hello first\n")
    port = hello(client, server, 5003)
    ask(client, server, 5003, b"c\n", rb"\+1 line, 1 word\n", port)
    bye(client, server, 5003, port)


def test_one_client_program_serves_both_servers(table, server):
    done = table.run(["tally_client.py", server.name], input=b"one two\n\nthree\n+four\n\xff five\n").check()
    port, *counts = done.text.splitlines()
    assert re.fullmatch(rf"{server.name} wants us on port \d+", port)
    assert counts == ["1 line, 2 words", "1 line, 2 words", "2 lines, 3 words", "3 lines, 4 words", "4 lines, 6 words"]


def test_table_answers_from_one_port_and_children_each_from_their_own(client, server):
    with server.capture(f"udp and src host {server.address}") as wire:
        ports = []
        for source in (5004, 5005):
            ports.append(hello(client, server, source))
            ask(client, server, source, b"a\n", rb"\+1 line, 1 word\n", ports[-1])
            bye(client, server, source, ports[-1])
    answers = [(packet[UDP].sport, bytes(packet[UDP].payload)[:2]) for packet in wire.packets]
    assert answers == [
        (PORT, b"+p"),
        (ports[0], b"+1"),
        (ports[0], b"+b"),
        (PORT, b"+p"),
        (ports[1], b"+1"),
        (ports[1], b"+b"),
    ]
    assert (set(ports) == {PORT}) == (server.name == "tallytable")
    assert len(set(ports)) == (1 if server.name == "tallytable" else 2)


def test_a_childs_state_dies_with_it(client, child):
    mark = child.mark_log()
    port = hello(client, child, 5006)
    ask(client, child, 5006, b"a b\n", rb"\+1 line, 2 words\n", port)
    pid = child.wait_for_log(rf":5006 new, child (\d+) on port {port}", since=mark)[1]
    child.run(["sh", "-c", f"kill -9 {pid}"]).check()
    child.wait_for_log(rf":5006 child {pid} died \(-9\) and its count with it", since=mark)
    again = hello(client, child, 5006)
    assert again != port
    ask(client, child, 5006, b"c\n", rb"\+1 line, 1 word\n", again)
    bye(client, child, 5006, again)


def test_a_strangers_datagram_does_not_reach_a_child(client, child, lab):
    stranger = lab.host("ucserver").address
    port = hello(client, child, 5007)
    with child.capture("icmp or udp") as wire:
        client.inject([IP(src=stranger, dst=child.address) / UDP(sport=5007, dport=port) / b"not mine\n"])
        wire.wait_for(lambda packet: packet["ICMP"].type == 3 and packet["ICMP"].code == 3)  # port unreachable
    ask(client, child, 5007, b"\n", rb"\+0 lines, 0 words\n", port)
    bye(client, child, 5007, port)


@pytest.mark.usefixtures("afterwards_empty")
def test_server_survives_sources_that_cannot_be_answered(client, server):
    """Port 0, a service's port, its own port, a broadcast address, no route, a neighbour that is not there."""
    sources = [(client.address, port) for port in (0, 7, 13, 1023, PORT)]
    sources += [(address, 6000) for address in (near(server, 255), "255.255.255.255", "203.0.113.7", near(server, 99))]
    address = server.address
    with server.capture(f"udp and src host {address}") as wire:
        client.inject(
            IP(src=source, dst=address) / UDP(sport=port, dport=PORT) / text
            for source, port in sources
            for text in (b"hello\n", b"words\n", b"")
        )
        bye(client, server, 5008, hello(client, server, 5008))
    for packet in wire.packets:
        assert packet[UDP].dport >= 1024
        assert packet[UDP].dport != PORT
    assert any(packet[UDP].dport == 5008 for packet in wire.packets), "the control was seen"


@pytest.mark.usefixtures("afterwards_empty")
@pytest.mark.parametrize("text", [b"hello\n", b"words\n"])
def test_one_spoofed_datagram_sets_no_two_servers_talking(client, server, lab, text):
    """The upper-case server answers anything, so it is the worst partner; its answers end the talk."""
    partner = lab.host("ucserver")
    with server.capture(f"udp and host {partner.address}") as wire:
        client.inject([IP(src=partner.address, dst=server.address) / UDP(sport=4444, dport=PORT) / text])
        wire.wait_for(lambda packet: packet[IP].src == server.address)
        wire.wait_for(lambda packet: packet[UDP].sport == 4444 and bytes(packet[UDP].payload)[:1] in b"+-")
        bye(client, server, 5009, hello(client, server, 5009))  # time enough for an answer, were there one
    assert len(wire.packets) == 3, [packet.summary() for packet in wire.packets]


@pytest.mark.usefixtures("afterwards_empty")
def test_flood_of_spoofed_clients_exhausts_neither(client, server):
    """1500 sources greet. The table lets its oldest go, the children stop at their number; an active client stays."""
    port = hello(client, server, 5010)
    ask(client, server, 5010, b"I was first\n", rb"\+1 line, 3 words\n", port)
    before = memory_kib(server)
    address = server.address
    for burst in range(10):
        client.inject(
            IP(src=f"203.0.113.{number + 1}", dst=address)
            / UDP(sport=10_000 + 150 * burst + number, dport=PORT)
            / b"hello\n"
            for number in range(150)
        )
        ask(client, server, 5010, b"\n", rb"\+1 line, 3 words\n", port)
    after = memory_kib(server)
    if server.name == "tallytable":
        assert len(after) == 1
        assert after[0] - before[0] < 2048, (before, after)
        assert "evicted, the table is full" in server.logs()
    else:
        assert len(before) == 2
        assert len(after) == 1 + 8, "the parent and as many children as may live"
        assert "refused, 8 children live" in server.logs()
    assert sum(after) < 64 * 1024
    bye(client, server, 5010, port)


def test_one_client_too_many_gets_a_clear_answer_until_another_leaves(client, child):
    restart(child)
    ports = {source: hello(client, child, source) for source in range(5020, 5028)}
    ask(client, child, 5028, b"hello\n", rb"-busy, 8 clients, try later\n")
    bye(client, child, 5020, ports[5020])
    assert poll(lambda: ask(client, child, 5028, b"hello\n", rb"(\+port|-busy).*\n")[1] == b"+port", Deadline.after(5))
    restart(child)
