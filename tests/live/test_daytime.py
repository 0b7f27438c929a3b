"""Debian's xinetd telling the time, the client that asks it, and the article's edit of its configuration."""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from scapy.layers.inet import IP, UDP

from lab.waiting import Deadline, poll

LINE = rb"\d\d [A-Z]{3} \d{4} \d\d:\d\d:\d\d (?:BST|GMT)"
UDP_STANZA = "/^# This is the udp version/,/^}/"

# Asks again and again, at most 200 times, until 80 answers are in; prints their number and the seconds it took.
EIGHTY_ANSWERS = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("daytime", 13))
s.settimeout(0.05)
answers, start = 0, time.monotonic()
for _ in range(200):
    s.send(b"")
    try:
        answers += bool(s.recv(100))
    except TimeoutError:
        continue
    if answers == 80:
        break
print(answers, time.monotonic() - start)
"""


@pytest.fixture
def daytime(lab):
    return lab.host("daytime")


def clock(line: bytes) -> datetime:
    """The time that a daytime line tells, without its zone."""
    return datetime.strptime(line.decode().strip().rsplit(" ", 1)[0].title(), "%d %b %Y %H:%M:%S")


def now(daytime) -> datetime:
    return clock(daytime.run(["date", "+%d %b %Y %H:%M:%S %Z"]).check().stdout)


def test_a_blank_line_by_nc_gets_the_time(client, daytime):
    before = now(daytime)
    done = client.run(["nc", "-u", "-w1", "daytime", "daytime"], input=b"\n")
    assert re.fullmatch(LINE + rb"\r\n", done.stdout)
    assert before <= clock(done.stdout) <= before + timedelta(seconds=5)


def test_tcp_gets_the_time_and_the_end(client, daytime):
    before = now(daytime)
    done = client.run(["nc", "-w3", "daytime", "13"])
    assert re.fullmatch(LINE + rb"\r\n", done.stdout)
    assert before <= clock(done.stdout) <= before + timedelta(seconds=5)
    assert done.elapsed < 3, "xinetd closes the connection; nc must not have waited for its own time-out"


@pytest.mark.parametrize("size", [0, 1, 2000])
def test_a_datagram_of_any_size_wakes_the_server(client, daytime, size):
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)\n"
        f"s.sendto(bytes({size}), ('daytime', 13)); print(s.recvfrom(100))"
    )
    done = client.run(["python3", "-c", program]).check()
    assert re.fullmatch(rb"\(b'" + LINE + rb"\\r\\n', \('" + daytime.address.encode() + rb"', 13\)\)\n", done.stdout)


def test_the_client_prints_the_articles_line(client, daytime):
    done = client.run(["daytimeclient", "daytime"]).check()
    assert re.fullmatch(rb"time from \('" + daytime.address.encode() + rb"', 13\)  is  " + LINE + rb"\n", done.stdout)


def test_the_client_on_the_servers_own_machine_says_localhost(lab, daytime):
    with lab.container("datagram-lab/client", network_of=daytime) as beside:
        done = beside.run(["daytimeclient", "localhost"]).check()
    assert re.fullmatch(rb"time from \('127\.0\.0\.1', 13\)  is  " + LINE + rb"\n", done.stdout)


def test_lsof_shows_the_socket_as_in_the_article(daytime):
    done = daytime.run(["sh", "-c", "lsof -i | grep daytime"]).check()
    assert re.search(r"^xinetd +\d+ +root +\d+u +IPv4 +\d+ +0t0 +UDP \*:daytime *$", done.text, re.MULTILINE)
    assert re.search(r"^xinetd +\d+ +root +\d+u +IPv4 +\d+ +0t0 +TCP \*:daytime \(LISTEN\)$", done.text, re.MULTILINE)


def test_root_there_has_no_capability_at_all(daytime):
    status = daytime.run(["sh", "-c", "cat /proc/$(pidof xinetd)/status"]).check().text
    assert re.search(r"^Uid:\t0\t", status, re.MULTILINE)
    assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 3


def test_ten_clients_at_once_all_get_the_time(client, daytime):
    """xinetd throws away what arrives while it answers, so it takes their retries."""
    with ExitStack() as stack:
        clients = [stack.enter_context(client.start(["daytimeclient", "daytime"])) for _ in range(10)]
        ended = [process.wait(15) for process in clients]
    assert [done.exit for done in ended] == [0] * 10
    assert all(re.search(LINE, done.stdout) for done in ended)


def test_a_request_without_an_answer_is_repeated(client, daytime):
    with client.capture("udp port 13") as wire:
        daytime.pause()
        try:
            asking = client.start(["daytimeclient", "daytime"])
            first = wire.wait_for(lambda p: p[UDP].dport == 13)
            again = wire.wait_for(lambda p: p[UDP].dport == 13 and p.time > first.time)
        finally:
            daytime.unpause()
        with asking:
            done = asking.wait(10)
    assert done.exit == 0
    assert 0.9 < again.time - first.time < 2
    assert not [p for p in wire.packets if p[UDP].sport == 13 and p.time < again.time]


def test_more_than_fifty_requests_do_not_switch_the_service_off(client, daytime):
    """xinetd's own `cps = 50 10` would: the 52nd in a second, for everybody, for ten seconds."""
    since = daytime.mark_log()
    answers, seconds = client.run(["python3", "-c", EIGHTY_ANSWERS], timeout=20).check().text.split()
    assert int(answers) == 80
    assert float(seconds) < 10, "so slow that the fuse would never have blown: this proves nothing"
    assert "deactivat" not in daytime.logs(since)
    client.run(["daytimeclient", "daytime"]).check()


def test_requests_beyond_twenty_a_second_are_counted_in_the_log_not_listed(client, daytime):
    since = daytime.mark_log()
    client.run(["python3", "-c", EIGHTY_ANSWERS], timeout=20).check()

    def told() -> object:
        client.run(["daytimeclient", "daytime"]).check()  # the first request of a later second tells the count
        return re.search(r"^\d+ requests more in that second$", daytime.logs(since), re.MULTILINE)

    assert poll(told, Deadline.after(5), every=0.2)
    seconds = re.findall(r"^(\S+): START: daytime-dgram", daytime.logs(since), re.MULTILINE)
    assert seconds
    assert max(map(seconds.count, seconds)) <= 40, (
        "twice the limit: a second of xinetd's stamps can touch two of the log's"
    )


def test_a_request_is_one_line_of_the_log(client, daytime):
    since = daytime.mark_log()

    def listed() -> object:
        client.run(["daytimeclient", "daytime"]).check()  # not listed in a second that had twenty before it
        return re.search(rf"START: daytime-dgram from={re.escape(client.address)}$", daytime.logs(since), re.MULTILINE)

    assert poll(listed, Deadline.after(5), every=0.3)


def test_the_health_checks_own_requests_are_not_in_the_log(client, daytime):
    before = client.mark_log()
    daytime.run(["healthy"]).check()
    listed = re.compile(rf"START: daytime-stream from={re.escape(client.address)}$", re.MULTILINE)

    def asked_and_listed() -> bool:
        """Again in the next second, should a flood have used this one's lines up."""
        client.run(["nc", "-w3", "daytime", "13"]).check()
        return bool(listed.search(daytime.logs(before)))

    assert poll(asked_and_listed, Deadline.after(5), every=0.2)
    assert f"from={daytime.address}" not in daytime.logs(before)


def test_the_articles_edit_and_reload_work_inside_the_host(client, daytime):
    def edit(old: str, new: str) -> None:
        script = f"{UDP_STANZA}s/\\(disable[[:space:]]*= \\){old}/\\1{new}/"
        daytime.run(["sed", "-i", script, "/etc/xinetd.d/daytime"]).check()

    since = daytime.mark_log()
    edit("no", "yes")
    try:
        done = daytime.run(["invoke-rc.d", "xinetd", "reload"]).check()
        assert done.stderr == b""
        daytime.wait_for_log(r"Reconfigured: new=0 old=1 dropped=1", since=since)
        refused = client.run(["daytimeclient", "daytime"])
        assert refused.exit == 111
        assert b"refused" in refused.stderr
        assert re.fullmatch(LINE + rb"\r\n", client.run(["nc", "-w3", "daytime", "13"]).stdout), "TCP is left alone"
    finally:
        since = daytime.mark_log()
        edit("yes", "no")
        daytime.run(["sh", "-c", "kill -HUP $(pidof xinetd)"]).check()
        daytime.wait_for_log(r"Reconfigured: new=1 old=1 dropped=0", since=since)
    client.run(["daytimeclient", "daytime"]).check()
    daytime.wait_healthy()


def test_the_health_check_fails_while_the_service_is_disabled(lab, client):
    before = client.mark_log()
    with lab.container("datagram-lab/daytime", networks=["lan"]) as other:
        other.wait_for_log("^ready", since=before)
        assert other.run(["healthy"]).exit == 0
        other.run(["sed", "-i", f"{UDP_STANZA}s/= no/= yes/", "/etc/xinetd.d/daytime"]).check()
        since = other.mark_log()
        other.run(["invoke-rc.d", "xinetd", "reload"]).check()
        other.wait_for_log("Reconfigured", since=since)
        sick = other.run(["healthy"])
    assert (sick.exit, sick.text) == (1, "UDP: 'nothing' is not a daytime line\n")


def test_the_clock_can_stand_at_the_articles_moment(lab, client):
    before = client.mark_log()
    with lab.container("datagram-lab/daytime", networks=["lan"], env={"FAKETIME": "2014-07-01 10:26:42"}) as then:
        then.wait_for_log("^ready", since=before)
        address = then.address
        answer = client.run(["daytimeclient", address]).check()
    assert answer.text == f"time from ('{address}', 13)  is  01 JUL 2014 10:26:42 BST\n"


def test_a_spoofed_datagram_starts_no_loop_with_the_upper_case_server(lab, client, daytime):
    """xinetd answers any port, a server's too; the loop needs a partner who does the same, and ours does not."""
    partner = lab.host("ucserver")
    spoofed = IP(src=partner.address, dst=daytime.address) / UDP(sport=4444, dport=13) / b"x"
    with daytime.capture(f"udp port 13 and host {partner.address}") as wire:
        client.inject([spoofed])
        wire.wait_for(lambda p: (p[IP].dst, p[UDP].dport) == (partner.address, 4444))
        # The partner has handled the answer once it has handled what was sent after it.
        assert client.run(["nc", "-u", "-w1", "ucserver", "4444"], input=b"next").stdout == b"NEXT"
    assert [(p[IP].src, p[IP].dst) for p in wire.packets] == [
        (partner.address, daytime.address),
        (daytime.address, partner.address),
    ]


def test_a_request_from_port_zero_is_survived(client, daytime):
    client.inject([IP(dst=daytime.address) / UDP(sport=0, dport=13) / b"x"])
    client.run(["daytimeclient", "daytime"]).check()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["daytime", "14"], 111, r"daytimeclient: \S+ port 14: refused, nothing listens on that UDP port;.*"),
        (["daytime", "99999"], 100, r"daytimeclient: port '99999': expected a number from 1 to 65535"),
        (["nosuch.invalid"], None, r"daytimeclient: 'nosuch\.invalid': .*"),
        (["203.0.113.1"], 111, r"daytimeclient: 203\.0\.113\.1 port 13: Network is unreachable"),
        ([], 100, r"usage: daytimeclient HOST \[PORT\]"),
    ],
)
def test_the_client_says_what_is_wrong_in_one_line(client, words, code, message):
    done = client.run(["daytimeclient", *words], timeout=20)
    assert re.fullmatch(message + r"\n", done.stderr.decode())
    assert done.stdout == b""
    assert done.exit in ((100, 111) if code is None else (code,))  # a name: is there a name server, or not
