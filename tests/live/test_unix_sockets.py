"""Unix-domain sockets between hosts: the same kernel is what counts, not the network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import Host, Lab

CLIENT = "unixclient"
NAMED = ["stream:/run/lab/stream", "dgram:/run/lab/dgram", "seqpacket:/run/lab/seqpacket"]
ABSTRACT = "stream:@datagram-lab"


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("unixsock")


@pytest.fixture
def far(lab: Lab) -> Host:
    """On the other network, with the same directory mounted."""
    return lab.host("unixclient")


@contextmanager
def paused(host: Host) -> Iterator[None]:
    host.pause()
    try:
        yield
    finally:
        host.unpause()


# The article's claims


@pytest.mark.parametrize("socket", NAMED)
def test_no_name_of_one_machine_reaches_a_process_of_another(lab: Lab, server: Host, far: Host, socket: str) -> None:
    with server.capture(f"ip host {far.address}") as wire:
        assert far.run([CLIENT, socket, "same kernel"]).check().text == "SAME KERNEL\n"
        # The control: what does cross the router is seen.
        far.run(["python3", "-c", f"import socket; socket.socket().connect_ex(({server.address!r}, 9))"]).check()
        wire.wait_for(lambda packet: packet["TCP"].dport == 9)
    assert {packet["TCP"].dport for packet in wire.packets} - {9} <= {
        packet["TCP"].sport for packet in wire.packets if packet["TCP"].dport == 9
    }, "the exchange over the Unix-domain socket was on the wire"

    # A host of the very same network that does not have the directory: the name means nothing there.
    with lab.container("datagram-lab/unixsock", networks=["lan"], command=["sleep", "60"]) as neighbour:
        refused = neighbour.run([CLIENT, socket, "over the network?"])
    assert refused.exit == 111
    assert b"No such file or directory" in refused.stderr


def test_a_path_is_not_an_address(server: Host, far: Host) -> None:
    refused = far.run([CLIENT, f"stream:{server.address}:/run/lab/stream", "x"])
    assert b"No such file or directory" in refused.stderr


@pytest.mark.parametrize("user", ["root", None], ids=["as root, as in the article", "as the ordinary user"])
def test_find_lists_every_named_socket(server: Host, user: str | None) -> None:
    found = set(server.run(["find", "/", "-type", "s"], user=user).text.split())
    assert {"/run/lab/stream", "/run/lab/dgram", "/run/lab/seqpacket", "/run/lab/log"} <= found
    assert server.run(["readlink", "-f", "/dev/log"]).text.strip() in found
    assert "/dev/log" in server.run(["find", "/dev", "-xtype", "s"]).text.split()


def test_find_that_stays_on_one_filesystem_misses_them(server: Host) -> None:
    assert server.run(["find", "/", "-xdev", "-type", "s"]).text == ""


def test_dev_log_is_a_named_socket(far: Host) -> None:
    assert far.run(["test", "-S", "/dev/log"]).exit == 0
    assert far.run(["find", "-L", "/dev/log", "-type", "s"]).text == "/dev/log\n"


def test_a_socketpair_carries_both_ways_and_a_pipe_one(server: Host) -> None:
    findings = json.loads(server.run(["socketpairs", "--json"]).check().stdout)
    assert {pair["kind"]: pair["both_ways"] for pair in findings["pairs"]} == {
        "stream": True,
        "datagram": True,
        "seqpacket": True,
        "pipe": False,
    }


def test_a_pair_keeps_datagrams_apart_or_not_and_a_pipe_never_does(server: Host) -> None:
    table = server.run(["socketpairs"]).check().text
    rows = {cells[0]: cells[2] for line in table.splitlines() if len(cells := re.split(r"\s{2,}", line)) == 5}
    assert rows.items() >= {"stream": "onetwo, EAGAIN", "datagram": "one, two", "pipe": "onetwo, EAGAIN"}.items()


def test_the_name_is_there_once_a_server_has_bound_it_and_is_all_that_a_client_needs(server: Host, far: Host) -> None:
    own = "stream:/run/lab/own"
    assert b"No such file or directory" in far.run([CLIENT, own, "x"]).stderr
    with server.start(["unixserver", own]) as second:
        second.expect(rb"ready stream:/run/lab/own .*\n", timeout=5)
        assert far.run([CLIENT, own, "known"]).text == "KNOWN\n"
        second.signal("TERM")
        assert second.wait(5).exit == 0
    assert far.run(["test", "-e", "/run/lab/own"]).exit == 1


# Names


def test_an_abstract_name_is_bound_to_the_network_namespace(lab: Lab, server: Host, far: Host) -> None:
    assert server.run([CLIENT, ABSTRACT, "same namespace"]).text == "SAME NAMESPACE\n"
    refused = far.run([CLIENT, ABSTRACT, "other namespace"])
    assert refused.exit == 111
    assert b"Connection refused" in refused.stderr
    with lab.container("datagram-lab/unixsock", command=["sleep", "60"], network_of=server) as lodger:
        assert lodger.run([CLIENT, ABSTRACT, "same namespace"]).text == "SAME NAMESPACE\n"
        assert b"No such file" in lodger.run([CLIENT, NAMED[0], "x"]).stderr, "it should have the network and no volume"


def test_an_abstract_name_is_in_proc_net_unix_and_in_no_directory(server: Host, far: Host) -> None:
    listed = r" @datagram-lab$"
    assert re.search(listed, server.run(["cat", "/proc/net/unix"]).text, re.M)
    assert not re.search(listed, far.run(["cat", "/proc/net/unix"]).text, re.M)
    assert "datagram-lab" not in server.run(["find", "/", "-type", "s"]).text


def test_a_second_server_of_the_same_name_is_refused_from_another_host_too(server: Host, far: Host) -> None:
    for host in (server, far):
        second = host.run(["unixserver", NAMED[0]])
        assert second.exit == 111
        assert b"Address already in use" in second.stderr
    assert far.run([CLIENT, NAMED[0], "still there"]).text == "STILL THERE\n"


def test_a_server_killed_outright_leaves_names_that_refuse_until_it_is_back(server: Host, far: Host) -> None:
    stale = "stream:/run/lab/stale"
    with server.start(["unixserver", stale]) as victim:
        victim.expect(rb"ready .*\n", timeout=5)
        victim.signal("KILL")
        victim.wait(5)
    refused = far.run([CLIENT, stale, "x"])
    assert refused.exit == 111
    assert b"Connection refused" in refused.stderr
    with far.start(["unixserver", stale]) as heir:
        heir.expect(rb"ready .*\n", timeout=5)
        assert server.run([CLIENT, stale, "back"]).text == "BACK\n"
        heir.signal("TERM")
        heir.wait(5)


def test_a_restarted_server_takes_its_names_again(server: Host, far: Host) -> None:
    server.restart()
    server.wait_healthy()
    for socket in NAMED:
        assert far.run([CLIENT, socket, "again"]).text == "AGAIN\n"


def test_connecting_needs_the_right_to_write(server: Host, far: Host) -> None:
    own = "stream:/run/lab/own-mode"
    with server.start(["unixserver", "--mode", "444", own]) as second:
        second.expect(rb"ready .*\n", timeout=5)
        refused = far.run([CLIENT, own, "x"])
        assert refused.exit == 100
        assert b"Permission denied" in refused.stderr
        server.run(["chmod", "222", "/run/lab/own-mode"]).check()
        assert far.run([CLIENT, own, "x"]).text == "X\n"
        second.signal("TERM")
        second.wait(5)


# Many at once


def test_newcomer_finds_a_place_among_silent_connections(server: Host, far: Host) -> None:
    hold = (
        "import socket, sys\n"
        "held = [socket.socket(socket.AF_UNIX) for _ in range(10)]\n"  # as many as there are places
        "for client in held: client.connect('/run/lab/stream')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    mark = server.mark_log()
    with far.start(["python3", "-c", hold]) as holder:
        holder.expect(rb"held\n", timeout=15)
        assert far.run([CLIENT, NAMED[0], "newcomer"]).text == "NEWCOMER\n"
        server.wait_for_log(r"bytes=0 \(made room: 10 clients\)", since=mark)


# Who is there


def test_the_kernel_tells_who_the_client_is_and_its_pid_only_within_a_pid_namespace(server: Host, far: Host) -> None:
    mark = server.mark_log()
    server.run([CLIENT, NAMED[0], "x"]).check()
    server.wait_for_log(r"connected uid=1000 gid=1000 pid=[1-9]\d*\n", since=mark)
    mark = server.mark_log()
    told = far.run([CLIENT, "-v", NAMED[0], "x"]).check()
    assert b"server uid=1000 gid=1000 pid=0\n" in told.stderr
    server.wait_for_log(r"connected uid=1000 gid=1000 pid=0 \(another pid namespace\)", since=mark)


def test_another_user_is_told_as_such(server: Host, far: Host) -> None:
    mark = server.mark_log()
    assert far.run([CLIENT, NAMED[0], "x"], user="root").text == "X\n"
    server.wait_for_log(r"connected uid=0 gid=0 pid=0", since=mark)


# Datagrams


def test_a_datagram_client_without_a_name_cannot_be_answered(server: Host, far: Host) -> None:
    mark = server.mark_log()
    far.run([CLIENT, "--from", "nobody", NAMED[1], "x"]).check()
    server.wait_for_log(r"bytes=1 not answered: the sender has no name", since=mark)


def test_a_name_given_by_the_kernel_is_abstract_and_cannot_be_answered_from_another_namespace(
    server: Host, far: Host
) -> None:
    ask = [CLIENT, "-v", "-w", "0.5", "--from", "auto", NAMED[1], "x"]
    near = server.run(ask)
    assert re.search(rb"our name: @[0-9a-f]{5}\n", near.stderr)
    assert near.stdout == b"X\n"
    mark = server.mark_log()
    assert far.run(ask).exit == 111
    server.wait_for_log(r"not answered: @[0-9a-f]{5}: Connection refused", since=mark)


def test_a_slow_reader_makes_the_sender_wait_after_one_more_than_the_queue_length(server: Host, far: Host) -> None:
    queue = int(server.run(["cat", "/proc/sys/net/unix/max_dgram_qlen"]).text)
    with paused(server):
        assert far.run([CLIENT, "--from", "nobody", "--fill", NAMED[1], "x"]).text == f"{queue + 1}\n"
    assert far.run([CLIENT, NAMED[1], "and nothing is lost"]).text == "AND NOTHING IS LOST\n"


# What the hosts may do


def test_the_server_and_its_neighbours_hold_no_capability(server: Host, far: Host) -> None:
    for host, word in ((server, "/usr/local/bin/[u]nixserver"), (far, "[s]leep")):
        own = f"$(grep -lsxz '{word}' /proc/[0-9]*/cmdline | head -1)"  # of the words of each command line, one is this
        status = host.run(["sh", "-c", f"cat $(dirname {own})/status"]).text
        assert re.search(r"^Uid:\t1000\t1000\t1000\t1000$", status, re.M), status
        assert re.search(r"^CapEff:\t0{16}$", status, re.M)
        assert re.search(r"^CapBnd:\t0{16}$", status, re.M)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M)


def test_devlog_is_the_only_setuid_program_and_leaves_no_way_to_root(server: Host) -> None:
    setuid = server.run(["find", "/", "-xdev", "-type", "f", "-perm", "/6000"]).text
    assert setuid == "/usr/local/bin/devlog\n"
    assert server.run(["devlog", "id", "-u"]).text == "1000\n"
    attempt = "import os\ntry: os.setuid(0)\nexcept PermissionError: print('refused')"
    assert server.run(["devlog", "python3", "-c", attempt]).text == "refused\n"
