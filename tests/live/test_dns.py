"""The miniature Internet answers dig as the article says, at each run, and survives what strangers send."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from lab.waiting import Deadline, poll
from tests.live.proc import processes

if TYPE_CHECKING:
    from lab.hosts.host import Host
    from lab.lab import Lab

RESOLVER, ROOT, TLD, NAMESERVER = "8.8.8.8", "198.41.0.4", "192.5.6.30", "213.138.96.53"
SERVERS = {"resolver": RESOLVER, "rootserver": ROOT, "tldserver": TLD, "nameserver": NAMESERVER}
ZONES = [
    pytest.param(file.parent.name, "." if file.stem == "root" else file.stem, file.name, id=file.stem)
    for file in sorted((Path(__file__).parents[2] / "services" / "nsd").glob("*/*.zone"))
]
"""Host, zone and file of each; who adds a zone has it checked."""
ROOT_NAMES = "".join(f"{letter}.root-servers.net.\n" for letter in "abcdefghijklm")


def dig(client: Host, words: str, timeout: float = 20.0) -> str:
    return client.run(["dig", *words.split()], timeout=timeout).check().text


def records(text: str) -> list[str]:
    """The lines of dig's output that are neither comment nor empty, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines() if line and not line.startswith(";")]


def fresh(zone: str = "linuxvoice.com") -> str:
    """A name that nobody has asked for, and no cache can know."""
    return f"x{random.SystemRandom().getrandbits(48):012x}.{zone}"


def server_processes(host: Host) -> set[tuple[str, str]]:
    """The server's processes by name and number, so that one that died and was replaced is seen."""
    return {(one["Name"], one["Pid"]) for one in processes(host) if "nsd" in one["Name"] or "unbound" in one["Name"]}


# --- the article's commands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("+short linuxvoice.com", "213.138.101.172\n"),
        ("+short linuxvoice.com mx", "10 smtp.linuxvoice.com.\n"),
        ("+short smtp.linuxvoice.com", "213.138.101.172\n"),
        ("+short 172.101.138.213.in-addr.arpa ptr", "mainsite.default.linuxvoice.uk0.bigv.io.\n"),
        ("+short -x 213.138.101.172", "mainsite.default.linuxvoice.uk0.bigv.io.\n"),
        ("+short . ns", ROOT_NAMES),
        ("@8.8.8.8 +short jamieoliver.com", "85.233.160.22\n"),
        ("ubuntu.com +noall +answer", "ubuntu.com.\t\t577\tIN\tA\t91.189.94.156\n"),
    ],
)
def test_article_answer_is_the_same_at_each_run(client: Host, words: str, answer: str) -> None:
    assert [dig(client, words) for _ in range(3)] == [answer] * 3


def test_website_is_an_alias_with_its_address(client: Host) -> None:
    text = dig(client, "www.linuxvoice.com")
    assert records(text) == [
        "www.linuxvoice.com. 600 IN CNAME linuxvoice.com.",
        "linuxvoice.com. 600 IN A 213.138.101.172",
    ]
    assert ";www.linuxvoice.com.\t\tIN\tA\n" in text
    assert "ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 1" in text  # the one is EDNS, no record
    assert "SERVER: 8.8.8.8#53(8.8.8.8) (UDP)" in text


def test_options_of_the_article_turn_sections_off(client: Host) -> None:
    whole = dig(client, "linuxvoice.com mx")
    assert all(f";; {section} SECTION:" in whole for section in ("QUESTION", "ANSWER", "ADDITIONAL"))
    for section in ("question", "answer", "additional"):
        assert f";; {section.upper()} SECTION:" not in dig(client, f"linuxvoice.com mx +no{section}")
    assert ";; AUTHORITY SECTION:" in dig(client, f"@{TLD} linuxvoice.com")
    assert ";; AUTHORITY SECTION:" not in dig(client, f"@{TLD} linuxvoice.com +noauthority")
    assert "->>HEADER<<-" in whole
    assert "->>HEADER<<-" not in dig(client, "linuxvoice.com mx +nocomments")


def test_digrc_is_read(client: Host) -> None:
    script = "cd /dev/shm && echo '+noall +answer' >.digrc && HOME=$PWD dig ubuntu.com; rm .digrc"
    assert client.run(["sh", "-c", script]).text == "ubuntu.com.\t\t577\tIN\tA\t91.189.94.156\n"


# --- down from the root -----------------------------------------------------------------------------------------------


def test_trace_goes_down_from_the_root(client: Host) -> None:
    text = dig(client, "+trace www.linuxvoice.com")
    asked = re.findall(r"Received \d+ bytes from (\S+)#53\((\S+)\)", text)
    assert [address for address, _ in asked] == [RESOLVER, ROOT, TLD, NAMESERVER]
    assert asked[1][1] in ROOT_NAMES.replace("net.", "net").split()
    lines = records(text)
    assert "com. 172800 IN NS a.gtld-servers.net." in lines
    assert "linuxvoice.com. 172800 IN NS ns.linuxvoice.com." in lines
    assert "linuxvoice.com. 600 IN A 213.138.101.172" in lines


@pytest.mark.parametrize(
    ("server", "cut", "next_server", "glue"),
    [
        (ROOT, "com.", "a.gtld-servers.net.", TLD),
        (TLD, "linuxvoice.com.", "ns.linuxvoice.com.", NAMESERVER),
    ],
)
def test_parent_refers_and_does_not_answer(client: Host, server: str, cut: str, next_server: str, glue: str) -> None:
    text = dig(client, f"@{server} +norecurse www.linuxvoice.com")
    assert re.search(r"flags: qr; QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 2", text)
    assert records(text) == [f"{cut} 172800 IN NS {next_server}", f"{next_server} 172800 IN A {glue}"]


def test_authority_answers_with_aa_and_the_resolver_without(client: Host) -> None:
    assert "flags: qr aa; QUERY" in dig(client, f"@{NAMESERVER} +norecurse linuxvoice.com")
    assert "flags: qr rd ra; QUERY" in dig(client, "linuxvoice.com")


def test_authority_refuses_what_is_not_its_own(client: Host) -> None:
    assert "status: REFUSED" in dig(client, f"@{NAMESERVER} example.org")
    assert "Transfer failed" in client.run(["dig", f"@{NAMESERVER}", "linuxvoice.com", "axfr"]).text


def test_resolver_walks_the_delegations_and_then_remembers(lab: Lab, client: Host) -> None:
    resolver = lab.host("resolver")
    resolver.restart()
    resolver.wait_healthy()
    own = f"src host {RESOLVER} and dst port 53 and not dst host {RESOLVER}"
    with resolver.capture(own) as wire:
        assert dig(client, "+short linuxvoice.com") == "213.138.101.172\n"
        wire.wait_for(lambda p: p[IP].dst == NAMESERVER)
        asked = [packet[IP].dst for packet in wire.packets]
        assert asked.index(TLD) < asked.index(NAMESERVER)
        before = len(wire.packets)
        assert dig(client, "+short linuxvoice.com") == "213.138.101.172\n"
        dig(client, fresh())  # the control: a name out of no cache is asked for, on the same wire
        wire.wait_for(lambda p: b"linuxvoice" in bytes(p) and p in wire.packets[before:])
        new = [packet[DNS].qd[0].qname for packet in wire.packets[before:]]
        assert b"linuxvoice.com." not in new
    assert "ANSWER: 1" in dig(client, "+norecurse linuxvoice.com")


# --- other questions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["example.org", "www.google.com", "nothing.linuxvoice.com", "nothing.lab", "com.invalid"]
)
def test_other_names_do_not_exist(client: Host, name: str) -> None:
    text = dig(client, name)
    assert "status: NXDOMAIN" in text
    assert records(text)[0].split()[3] == "SOA"


def test_question_about_another_name_stays_in_the_lab(lab: Lab, client: Host) -> None:
    name = fresh("example")
    with lab.host("resolver").capture(f"src host {RESOLVER} and dst port 53 and not dst host {RESOLVER}") as wire:
        dig(client, name)
        dig(client, fresh())  # the control: this one must leave the resolver, for the name server
        wire.wait_for(lambda p: p[IP].dst == NAMESERVER)
    assert {packet[IP].dst for packet in wire.packets} <= {ROOT, TLD, NAMESERVER}


@pytest.mark.parametrize("name", ["linuxvoice.com", "www.linuxvoice.com", "ubuntu.com", "a.root-servers.net"])
def test_there_is_no_ipv6_address(client: Host, name: str) -> None:
    text = dig(client, f"{name} aaaa")
    assert "status: NOERROR" in text
    assert not [line for line in records(text) if line.split()[3] == "AAAA"]
    assert [line for line in records(text) if line.split()[3] == "SOA"]


def test_servers_say_who_they_are(client: Host) -> None:
    for host, address in SERVERS.items():
        assert dig(client, f"@{address} +short chaos txt id.server") == f'"{host}"\n'


def test_names_of_the_labs_own_hosts(client: Host) -> None:
    assert dig(client, "+short mainsite.lab") == "213.138.101.172\n"
    assert dig(client, "+short -x 8.8.8.8") == "resolver.lab.\n"
    assert dig(client, "+short -x 198.41.0.4") == "a.root-servers.net.\n"


def test_resolver_logs_each_question(lab: Lab, client: Host) -> None:
    resolver, name = lab.host("resolver"), fresh()
    mark = resolver.mark_log()
    dig(client, name)
    resolver.wait_for_log(rf"{re.escape(client.address)} {name}\. A IN NXDOMAIN", since=mark)


# --- over TCP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_tcp_gives_the_same_answer(client: Host, server: str) -> None:
    question = f"@{server} +noall +answer +authority +additional +norecurse linuxvoice.com"
    dig(client, f"@{server} linuxvoice.com")  # the resolver has it in its cache now
    over_udp = dig(client, question)
    assert dig(client, f"{question} +tcp") == over_udp != ""
    assert f"SERVER: {server}#53({server}) (TCP)" in dig(client, f"@{server} +tcp linuxvoice.com")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (RESOLVER, "big.lab txt"),
        (RESOLVER, "+bufsize=4096 big.lab txt"),
        (NAMESERVER, "big.lab txt"),
        (RESOLVER, "+noedns medium.lab txt"),
    ],
)
def test_large_answer_is_truncated_and_asked_again_over_tcp(client: Host, server: str, words: str) -> None:
    with client.capture(f"host {server} and port 53") as wire:
        text = dig(client, f"@{server} {words}")
        reply = wire.wait_for(lambda p: p[UDP].sport == 53)
        wire.wait_for(lambda p: TCP in p and p[TCP].sport == 53 and len(p[TCP].payload) > 100)
    assert reply[DNS].tc == 1
    assert "Truncated, retrying in TCP mode." in text
    assert "(TCP)" in text
    name, count = ("big", 16) if "big" in words else ("medium", 4)
    assert re.findall(rf"{name}\.lab, string (\d+) of {count}: -+\"", text) == [str(n + 1) for n in range(count)]
    assert "flags: qr tc" in dig(client, f"@{RESOLVER} +ignore {words}")


def test_answer_that_fits_is_not_asked_again(client: Host) -> None:
    text = dig(client, "medium.lab txt")
    assert "Truncated" not in text
    assert "(UDP)" in text
    assert int(re.search(r"MSG SIZE  rcvd: (\d+)", text)[1]) > 512


# --- servers that are away --------------------------------------------------------------------------------------------


def test_dead_name_server_is_a_timeout_a_servfail_and_soon_forgotten(lab: Lab, client: Host) -> None:
    nameserver = lab.host("nameserver")
    dig(client, "linuxvoice.com")
    nameserver.pause()
    try:
        direct = client.run(["dig", f"@{NAMESERVER}", "+tries=1", "+time=1", "linuxvoice.com"])
        assert direct.exit == 9
        assert f"communications error to {NAMESERVER}#53: timed out" in direct.text
        assert "no servers could be reached" in direct.text
        unknown = dig(client, f"{fresh()} +time=15 +tries=1")
        assert "status: SERVFAIL" in unknown
        assert dig(client, "+short linuxvoice.com") == "213.138.101.172\n"  # from the cache
    finally:
        nameserver.unpause()

    def forgotten() -> bool:
        """New names are asked for again, and so is the server's own: what failed is kept for five seconds."""
        return "status: NXDOMAIN" in dig(client, f"{fresh()} +time=15 +tries=1") and (
            dig(client, "+short ns.linuxvoice.com +time=15 +tries=1") == f"{NAMESERVER}\n"
        )

    assert poll(forgotten, Deadline.after(10), every=0.2), "the resolver still takes the name server for dead"


def test_resolver_that_is_away_is_a_timeout(lab: Lab, client: Host) -> None:
    resolver = lab.host("resolver")
    resolver.pause()
    try:
        done = client.run(["dig", "+time=1", "+tries=2", "linuxvoice.com"], timeout=10)
    finally:
        resolver.unpause()
    assert done.exit == 9
    assert done.text.count("communications error to 8.8.8.8#53: timed out") == 2
    assert 2 <= done.elapsed < 5
    assert dig(client, "+short linuxvoice.com") == "213.138.101.172\n"


# --- strangers --------------------------------------------------------------------------------------------------------


def question(name: str, number: int) -> DNS:
    return DNS(id=number, rd=1, qd=DNSQR(qname=name))


def junk() -> list[bytes]:
    """Messages that no client sends; the same ones at each run."""
    noise = random.Random(53)
    proper = bytes(question("linuxvoice.com", 7))
    header = bytes.fromhex("0007 0100 0001 0000 0000 0000")
    return [
        b"",
        b"\0",
        proper[:11],
        header,
        header[:4] + b"\xff" * 8,
        header + b"\xc0\x0c" + b"\0\1\0\1",  # a name that points at itself
        header + b"\x3fshort",  # a label longer than the packet
        header + b"\1a" * 200 + b"\0\0\1\0\1",  # a name longer than 255 octets
        header + b"\x40a\0\0\1\0\1",  # a label type that was never defined
        proper + b"\0" * 400,
        *(header[:2] + bytes([opcode << 3, 0]) + proper[4:] for opcode in range(1, 16)),  # NOTIFY, UPDATE and others
        proper[:-4] + b"\0\xfc\0\1",  # AXFR over UDP
        proper[:-4] + b"\0\xff\0\xff",
        header[:11] + b"\1" + proper[12:] + b"\0\0\x29\x04\xd0\0\xc8\0\0\0\0",  # EDNS version 200
        header[:11] + b"\2" + proper[12:] + b"\0\0\x29\x04\xd0\0\0\0\0\0\0" * 2,  # EDNS twice
        *(noise.randbytes(noise.randrange(1400)) for _ in range(300)),
        *(header + noise.randbytes(noise.randrange(200)) for _ in range(300)),
    ]


@pytest.mark.parametrize("name", SERVERS)
def test_server_survives_junk(lab: Lab, client: Host, name: str) -> None:
    server, before = lab.host(name), server_processes(lab.host(name))
    assert before
    to = IP(src=client.address, dst=server.address)
    last = to / UDP(sport=40001, dport=53) / question("linuxvoice.com", 4242)
    with client.capture(f"udp and src host {server.address}") as wire:
        client.inject([to / UDP(sport=sport, dport=53) / Raw(load) for load in junk() for sport in (0, 53, 40000)])
        client.inject([last])
        wire.wait_for(lambda p: p[UDP].dport == 40001 and p[DNS].id == 4242, timeout=10)
    assert server_processes(server) == before
    server.wait_healthy()


@pytest.mark.parametrize("name", SERVERS)
def test_answer_is_not_answered(lab: Lab, client: Host, name: str) -> None:
    """One forged answer to each of two servers must not set them talking for ever."""
    server = lab.host(name)
    to = IP(src=client.address, dst=server.address)
    answer = question("linuxvoice.com", 5000)
    answer.qr = 1
    with client.capture(f"udp and src host {server.address}") as wire:
        client.inject([to / UDP(sport=40010, dport=53) / answer] * 5)
        client.inject([to / UDP(sport=40011, dport=53) / question("linuxvoice.com", 5001)])  # the control
        wire.wait_for(lambda p: p[UDP].dport == 40011 and p[DNS].id == 5001)
    assert not [packet for packet in wire.packets if packet[UDP].dport == 40010]


FORGER = """
import socket, struct, sys
wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
print("listening", flush=True)
while True:
    packet, (resolver, _) = wire.recvfrom(2048)
    udp = packet[(packet[0] & 15) * 4 :]
    port, to = struct.unpack_from("!HH", udp)
    number, question = int.from_bytes(udp[8:10], "big"), udp[20:].partition(b"\\0")[0]
    if to != 53 or sys.argv[1].encode() not in question.lower():
        continue
    for guess, last in [*((number + n, 66) for n in range(1, 21)), (number, 1)]:
        reply = struct.pack("!6H", guess % 65536, 0x8400, 1, 1, 0, 0) + question + b"\\0\\0\\1\\0\\1"
        reply += b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + bytes([203, 0, 113, last])
        wire.sendto(struct.pack("!4H", 53, port, 8 + len(reply), 0) + reply, (resolver, 0))
"""


def test_forged_answer_needs_the_number_of_the_question(lab: Lab, client: Host) -> None:
    """A forger at the name server's address answers each question with 20 wrong numbers, then with the right one.

    The right one carries another address and is believed: that is the control.
    """
    nameserver, name = lab.host("nameserver"), fresh()
    dig(client, "linuxvoice.com ns")
    with (
        lab.container("datagram-lab/client", network_of=nameserver, user="root", cap_add=["NET_RAW"]) as thief,
        nameserver.capture("udp src port 53") as wire,
        thief.start(["python3", "-c", FORGER, name.partition(".")[0]]) as forger,
    ):
        forger.expect(rb"listening", timeout=15)
        nameserver.pause()
        try:
            found = dig(client, f"+short {name}")
        finally:
            nameserver.unpause()
        assert found == "203.0.113.1\n"
        wire.wait_for(lambda p: bytes(p).endswith(bytes([203, 0, 113, 1])))
    assert sum(bytes(packet).endswith(bytes([203, 0, 113, 66])) for packet in wire.packets) >= 20


def test_two_clients_in_one_burst_are_answered_independently(lab: Lab, client: Host) -> None:
    to = IP(src=client.address, dst=NAMESERVER)
    with client.capture(f"udp and src host {NAMESERVER}") as wire:
        client.inject(
            [
                to / UDP(sport=40020, dport=53) / question("linuxvoice.com", 1),
                to / UDP(sport=40021, dport=53) / question("ubuntu.com", 1),
            ]
        )
        first = wire.wait_for(lambda p: p[UDP].dport == 40020)
        second = wire.wait_for(lambda p: p[UDP].dport == 40021)
    assert (first[DNS].an[0].rdata, second[DNS].an[0].rdata) == ("213.138.101.172", "91.189.94.156")


@pytest.mark.parametrize("name", SERVERS)
def test_idle_tcp_clients_do_not_keep_others_out(lab: Lab, client: Host, name: str) -> None:
    address = lab.host(name).address
    hold = (
        "import socket, sys\n"
        f"held = [socket.create_connection(('{address}', 53), 5) for _ in range(50)]\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with client.start(["python3", "-c", hold]) as holder:
        holder.expect(rb"held\n", timeout=15)
        assert "status: NOERROR" in dig(client, f"@{address} +time=2 +tries=1 linuxvoice.com")
        assert "status: NOERROR" in dig(client, f"@{address} +tcp +time=12 +tries=1 linuxvoice.com")


# --- what they are made of --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "zone", "file"), ZONES)
def test_nsd_checkzone_finds_the_zone_right(lab: Lab, host: str, zone: str, file: str) -> None:
    done = lab.host(host).run(["nsd-checkzone", zone, f"/etc/nsd/{host}/{file}"])
    assert done.text == f"zone {zone} is ok\n"


def test_the_image_has_the_zones_that_are_here(lab: Lab) -> None:
    found = lab.host("rootserver").run(["sh", "-c", "cd /etc/nsd && ls -d */*.zone"]).check().text.split()
    assert found == sorted(f"{zone.values[0]}/{zone.values[2]}" for zone in ZONES)


@pytest.mark.parametrize(
    "mistake",
    ["www A 213.138.101.300", "other.example. A 213.138.101.172", "www CNAME linuxvoice.com.\nwww A 192.0.2.1"],
)
def test_zone_with_a_mistake_does_not_pass_the_build(lab: Lab, mistake: str) -> None:
    script = (
        "cp -r /etc/nsd /dev/shm/try && cd /dev/shm/try && cat >>nameserver/jamieoliver.com.zone;"
        "sh ./with-zones nameserver 2>&1; code=$?; rm -r /dev/shm/try; exit $code"
    )
    nameserver = lab.host("nameserver")
    assert nameserver.run(["sh", "-c", script], input=b"\n").exit == 0  # the control: as it is, it passes
    done = nameserver.run(["sh", "-c", script], input=f"{mistake}\n".encode())
    assert done.exit != 0
    assert "jamieoliver.com.zone" in done.text


@pytest.mark.parametrize("name", [*SERVERS, "mainsite"])
def test_server_has_no_privilege(lab: Lab, name: str) -> None:
    script = "cat /proc/[0-9]*/status | grep -E '^(Uid|CapPrm|CapBnd|NoNewPrivs)' | sort -u; touch /etc/x 2>&1"
    lines = " ".join(lab.host(name).run(["sh", "-c", script]).text.split())
    assert "CapBnd: 0000000000000000 CapPrm: 0000000000000000 NoNewPrivs: 1 Uid: 1000 1000 1000 1000" in lines
    assert lines.count("Uid:") == 1
    assert "Read-only file system" in lines
