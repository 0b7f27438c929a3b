"""The pinger: an ordinary user's way to a raw socket, and what is left of root's rights while it pings."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

OUTSIDE = "203.0.113.1"  # RFC 5737
RIGHTS = ["NET_RAW", "SETGID"]


@pytest.fixture
def pinger(lab):
    return lab.host("pinger")


def gateway(host) -> str:
    return re.sub(r"\d+$", "1", host.address)


@pytest.fixture
def silent(lab):
    """A host beyond the router that answers no ping."""
    with lab.container(
        "datagram-lab/base",
        networks=["far"],
        sysctls={"net.ipv4.icmp_echo_ignore_all": "1"},
        command=["sleep", "60"],
    ) as host:
        yield host


def status_of(host, pid: int) -> dict[str, str]:
    text = host.run(["cat", f"/proc/{pid}/status"]).check().text
    return dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))


def raw_sockets(host) -> int:
    return len(host.run(["cat", "/proc/net/raw"]).check().text.splitlines()) - 1


# Pinging


def test_the_far_peer_answers_with_ttl_63_and_the_router_with_64(lab, pinger):
    far = lab.host("farpeer").address
    done = pinger.run(["pinger", "-c", "3", "-i", "0.2", "farpeer"]).check()
    for number in (1, 2, 3):
        assert re.search(
            rf"^64 bytes from {re.escape(far)}: seq={number} ttl=63 time=\d+\.\d{{3}} ms$", done.text, re.M
        )
    assert re.search(
        r"^3 sent, 3 answered, 0 reported undeliverable, 0% lost, rtt min/avg/max [\d.]+/[\d.]+/[\d.]+ ms$",
        done.text,
        re.MULTILINE,
    )
    assert "ttl=64" in pinger.run(["pinger", "-c", "1", "router"]).check().text


def test_time_to_live_exceeded_names_the_router_that_reports_it(pinger):
    done = pinger.run(["pinger", "-c", "1", "-t", "1", "farpeer"])
    assert f"Time to live exceeded: seq=1, reported by {gateway(pinger)}\n" in done.text
    assert "1 sent, 0 answered, 1 reported undeliverable, 100% lost\n" in done.text
    assert done.exit == 111


def test_net_unreachable_names_the_router_that_reports_it(pinger):
    """Three times: a Linux router tells one peer once a second that a network is unreachable, after a first few."""
    done = pinger.run(["pinger", "-c", "3", OUTSIDE])
    assert re.search(
        rf"^Destination net unreachable: seq=\d, reported by {re.escape(gateway(pinger))}$", done.text, re.MULTILINE
    )
    assert "3 sent, 0 answered" in done.text
    assert done.exit == 111


def test_a_silent_host_is_reported_as_lost(pinger, silent):
    done = pinger.run(["pinger", "-c", "2", "-i", "0.2", "-W", "0.3", silent.address])
    assert done.text.count("no answer: seq=") == 2
    assert "2 sent, 0 answered, 0 reported undeliverable, 100% lost\n" in done.text
    assert done.exit == 111


@pytest.mark.parametrize("name", ["0.0.0.0", "0"])
def test_the_address_zero_is_the_host_itself(pinger, name):
    """As ping(8) has it; RFC 1122, 3.2.1.3: this host on this network."""
    done = pinger.run(["pinger", "-c", "1", "-W", "1", name]).check()
    assert "64 bytes from 127.0.0.1: seq=1 ttl=64 " in done.text


@pytest.fixture(scope="module")
def two_who_answer_broadcasts(lab):
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                lab.container(
                    "datagram-lab/base",
                    networks=["lan"],
                    sysctls={"net.ipv4.icmp_echo_ignore_broadcasts": "0"},
                    command=["sleep", "120"],
                )
            )
            for _ in range(2)
        ]


@pytest.mark.parametrize("of_the_network", [True, False])
def test_a_broadcast_takes_b_and_then_anybodys_reply_counts(pinger, two_who_answer_broadcasts, of_the_network):
    everybody = re.sub(r"\d+$", "255", pinger.address) if of_the_network else "255.255.255.255"
    refused = pinger.run(["pinger", "-c", "1", "-W", "1", everybody])
    assert refused.exit == 100
    assert f"{everybody} is a broadcast address: -b " in refused.stderr.decode()
    done = pinger.run(["pinger", "-b", "-c", "2", "-W", "0.5", everybody]).check()
    for host in two_who_answer_broadcasts:
        for number in (1, 2):
            assert f"64 bytes from {host.address}: seq={number} ttl=64 " in done.text
    assert "2 sent, 2 answered, 0 reported undeliverable, 0% lost" in done.text


def test_a_multicast_address_needs_no_b(pinger, two_who_answer_broadcasts):
    done = pinger.run(["pinger", "-c", "1", "-W", "0.5", "224.0.0.1"]).check()
    for host in two_who_answer_broadcasts:
        assert f"64 bytes from {host.address}: seq=1 " in done.text


@pytest.mark.parametrize("words", [["-b", "255.255.255.255"], ["224.0.0.1"]])
def test_many_hosts_are_not_pinged_in_quick_succession(pinger, words):
    done = pinger.run(["pinger", "-i", "0.5", *words])
    assert (done.exit, done.stderr) == (100, f"pinger: {words[-1]} may be many hosts: -i takes 1 s or more\n".encode())


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 65507])
def test_any_payload_that_fits_comes_back(pinger, size):
    done = pinger.run(["pinger", "-c", "1", "-s", str(size), "farpeer"]).check()
    assert f"\n{size + 8} bytes from " in done.text


@contextmanager
def awaited(pinger, silent):
    """A ping that nobody answers, with its request as it was on the wire."""
    with (
        pinger.capture(f"icmp and dst host {silent.address}") as wire,
        pinger.start(["pinger", "-c", "1", "-W", "1.5", silent.address]) as process,
    ):
        yield process, wire.wait_for(lambda p: p[ICMP].type == 8)


def reply(request, **changes) -> IP:
    """The echo reply to a request, or what differs from it."""
    told = {"src": request[IP].dst, "id": request[ICMP].id, "seq": request[ICMP].seq, "payload": b"forged", **changes}
    return IP(src=told["src"], dst=request[IP].src) / ICMP(type=0, id=told["id"], seq=told["seq"]) / told["payload"]


def exceeded(request, by: str, **changes) -> IP:
    """The router's report that a request's time to live has run out, or what differs from it."""
    quoted = {"dst": request[IP].dst, "id": request[ICMP].id, "seq": request[ICMP].seq, **changes}
    quote = IP(src=request[IP].src, dst=quoted["dst"]) / ICMP(type=8, id=quoted["id"], seq=quoted["seq"])
    return IP(src=by, dst=request[IP].src) / ICMP(type=11, code=0) / quote


def test_a_reply_counts_only_with_its_identifier_sequence_and_source(pinger, silent, client):
    with awaited(pinger, silent) as (process, request):
        icmp = request[ICMP]
        broken = reply(request)
        broken[ICMP].chksum = 0x1234
        client.inject(
            [
                reply(request, id=icmp.id ^ 1),
                reply(request, seq=icmp.seq + 1),
                reply(request, src=client.address),
                broken,
                exceeded(request, gateway(pinger), id=icmp.id ^ 1),
                exceeded(request, gateway(pinger), seq=icmp.seq + 1),
                exceeded(request, gateway(pinger), dst=client.address),
                IP(src=request[IP].dst, dst=request[IP].src) / ICMP(type=11, code=0) / Raw(b"short"),
            ]
        )
        done = process.wait(5)
    assert "no answer: seq=1" in done.text
    assert "1 sent, 0 answered, 0 reported undeliverable" in done.text


@pytest.mark.parametrize("genuine", ["reply", "error"])
def test_an_answer_that_fits_is_taken(pinger, silent, client, genuine):
    """The control of the test above: the same path, and nothing wrong with the packet."""
    with awaited(pinger, silent) as (process, request):
        client.inject([reply(request) if genuine == "reply" else exceeded(request, gateway(pinger))])
        process.expect(rb" seq=1 ttl=64 " if genuine == "reply" else rb"Time to live exceeded: seq=1", timeout=1.4)


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_a_signal_ends_it_with_a_summary_and_exit_code_0(pinger, signal):
    with pinger.start(["pinger", "router"]) as process:
        process.expect(rb"seq=1 ttl=64")
        process.signal(signal)
        done = process.wait(2)
    assert done.exit == 0
    assert "1 sent, 1 answered" in done.text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], b"usage: pinger "),
        (["-i", "0.1", "router"], b"-i takes a number from 0.2 to 3600"),
        (["-t", "256", "router"], b"-t takes a number from 1 to 255"),
        (["-c", "x", "router"], b'-c takes a number from 1 to 1e+09, not "x"'),
    ],
)
def test_wrong_usage_is_refused_with_exit_code_100(pinger, words, reason):
    done = pinger.run(["pinger", *words])
    assert done.exit == 100
    assert reason in done.stderr


# Privilege


def test_while_it_pings_no_privilege_is_left_and_the_socket_is_still_there(lab):
    with lab.container("datagram-lab/pinger", networks=["lan"], cap_add=RIGHTS, command=["sleep", "60"]) as host:
        assert raw_sockets(host) == 0
        with host.start(["pinger", "-i", "0.2", "router"]) as process:
            process.expect(rb"ready.* privileges dropped, uid 1000\n")
            process.expect(rb"seq=1 ttl=64")
            status = status_of(host, process.pid)
            assert status["Name"] == "pinger"
            assert status["Uid"].split() == ["1000"] * 4
            assert status["Gid"].split() == ["1000"] * 4
            assert status["Groups"] == ""
            assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
            assert status["NoNewPrivs"] == "1"
            assert raw_sockets(host) == 1
            process.expect(rb"seq=\d+ ttl=64")


def test_the_hosts_own_pinger_runs_without_privilege(pinger):
    own = pinger.run(["sh", "-c", "grep -lx pinger /proc/[1-9]*/comm"]).check().text.split()
    status = status_of(pinger, int(own[0].split("/")[2]))
    assert status["Uid"].split() == ["1000"] * 4
    assert int(status["CapPrm"], 16) == 0
    assert raw_sockets(pinger) >= 1


def test_run_by_root_it_becomes_nobody(lab):
    rights = [*RIGHTS, "SETUID"]
    with lab.container("datagram-lab/pinger", cap_add=rights, user="root", command=["sleep", "60"]) as host:
        assert "uid 65534\n" in host.run(["pinger", "-c", "1", "127.0.0.1"]).check().text


def test_without_the_setuid_bit_it_fails_with_the_reason(pinger):
    assert pinger.run(["stat", "-c", "%A %U", "/usr/local/bin/pinger"]).text == "-rwsr-xr-x root\n"
    assert pinger.run(["stat", "-c", "%A", "/usr/local/bin/pinger-plain"]).text == "-rwxr-xr-x\n"
    pinger.run(["cmp", "/usr/local/bin/pinger", "/usr/local/bin/pinger-plain"]).check()  # but for the bit, the same
    done = pinger.run(["pinger-plain", "-c", "1", "router"])
    assert (done.exit, done.stdout) == (100, b"")
    assert b"Operation not permitted: its file is not setuid root" in done.stderr


def test_under_no_new_privs_the_bit_counts_for_nothing(pinger):
    done = pinger.run(["setpriv", "--no-new-privs", "pinger", "-c", "1", "router"])
    assert done.exit == 100
    assert b"no_new_privs is set, so that its setuid bit counts for nothing" in done.stderr


@pytest.mark.parametrize(
    ("user", "rights", "reason"),
    [
        ("lab", [], b"it runs as root, but this container's root lacks CAP_NET_RAW"),
        ("lab", ["NET_RAW"], b"cannot leave root's groups (CAP_SETGID?): Operation not permitted; nothing was sent"),
        # The way back to oneself is free; to become somebody else takes a capability.
        ("root", RIGHTS, b"cannot leave root (CAP_SETUID?): Operation not permitted; nothing was sent"),
    ],
)
def test_each_missing_capability_is_named(lab, user, rights, reason):
    with lab.container("datagram-lab/pinger", cap_add=rights, user=user, command=["sleep", "60"]) as host:
        done = host.run(["pinger", "-c", "1", "127.0.0.1"])
        counters = host.run(["grep", "IcmpMsg", "/proc/net/snmp"]).text
    assert done.exit == 100
    assert reason in done.stderr
    assert "OutType8" not in counters  # no echo request has left


def test_the_lesson_is_real_no_ping_socket_is_open_to_anybody(pinger):
    assert pinger.run(["cat", "/proc/sys/net/ipv4/ping_group_range"]).text.split() == ["1", "0"]
