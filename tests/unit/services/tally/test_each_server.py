"""What each way alone has to prove: the table, and the children."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.waiting import Deadline, poll
from tests.unit.services.tally.loopback import (
    ENVIRONMENT,
    PATIENCE,
    Client,
    Server,
    program,
)

LARGEST = 65_535
IP_PKTINFO = 8  # <linux/in.h>; Python has no name for it

# --- the table alone ---


def test_table_lets_the_one_unused_longest_go(start, new_client):
    server = start("table", "--clients", "2")
    first, second, third = (new_client(server, f"127.0.0.{n}") for n in (2, 3, 4))
    first.hello()
    second.hello()
    first.ask(b"a b\n")
    third.hello()
    server.wait_for_log(r"^127\.0\.0\.3:\d+ evicted, the table is full: 0 lines, 0 words$")
    assert first.ask(b"") == b"+1 line, 2 words\n"
    assert third.ask(b"") == b"+0 lines, 0 words\n"
    assert second.is_forgotten()


def flood(server: Server, honest: Client, count: int) -> None:
    """`count` greetings, each from another address of 127.0.0.0/8, in bursts that the receive buffer holds.

    After each burst the honest client repeats its hello: the answer shows that the server has taken the burst in.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoofer:
        spoofer.bind(("", 0))
        for number in range(count):
            source = struct.pack("!I", (127 << 24) + 0x010000 + number)
            info = struct.pack("@I4s4s", 0, source, b"\0\0\0\0")
            spoofer.sendmsg([b"hello\n"], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, ("127.0.0.1", server.port))
            if number % 64 == 63:
                honest.hello()


def test_flood_of_sources_leaves_the_tables_memory_flat(start, new_client):
    server = start("table")
    honest = new_client(server)
    honest.hello()
    honest.ask(b"I was first\n")
    before = server.resident_kib()
    flood(server, honest, 20_000)
    grown = server.resident_kib() - before
    assert grown < 1024, f"{before} KiB before, {grown} more after"
    assert honest.ask(b"") == b"+1 line, 3 words\n"
    server.wait_for_log(r"evicted, the table is full")
    assert server.log().count("\n") < 1000, "the log is bounded in rate"


def test_without_a_bound_the_same_flood_is_seen_in_memory(start, new_client):
    server = start("table", "--clients", "1000000")
    honest = new_client(server)
    honest.hello()
    honest.ask(b"I was first\n")
    before = server.resident_kib()
    flood(server, honest, 20_000)
    assert server.resident_kib() - before > 2048


# --- the children alone ---


def test_each_client_gets_a_port_of_its_own(start, new_client):
    server = start("child")
    ports = {new_client(server).hello() for _ in range(5)}
    assert len(ports) == 5
    assert server.port not in ports


def test_a_childs_state_dies_with_it(start, new_client):
    server = start("child")
    one = new_client(server)
    port = one.hello()
    one.ask(b"a b\n")
    os.kill(server.child_pids()[0], signal.SIGKILL)
    server.wait_for_log(r"child \d+ died \(-9\) and its count with it")
    with pytest.raises(ConnectionRefusedError):
        one.ask(b"c\n")
    assert one.hello() != port
    assert one.ask(b"c\n") == b"+1 line, 1 word\n"


def test_a_child_hears_its_own_client_only(start, new_client):
    server = start("child")
    one, stranger = new_client(server), new_client(server, "127.0.0.3")
    port = one.hello()
    stranger.sock.connect(("127.0.0.1", port))
    stranger.send(b"words that must not count\n")
    with pytest.raises(ConnectionRefusedError):
        stranger.sock.recv(100)
    assert one.ask(b"") == b"+0 lines, 0 words\n"


def test_flood_makes_no_more_children_than_the_cap(start, new_client):
    server = start("child", "--clients", "4", "--first", "0.5", "--idle", "60")
    honest, late = new_client(server), new_client(server, "127.0.0.3")
    honest.hello()
    honest.ask(b"I was first\n")
    for _ in range(10):
        flood(server, honest, 100)
        assert sum(map(alive, server.child_pids())) <= 4
    server.wait_for_log(r"refused, 4 children live")
    assert poll(late.is_welcome, Deadline.after(PATIENCE)), "the spoofed clients' places are free again"
    assert honest.ask(b"") == b"+1 line, 3 words\n"


def test_one_client_too_many_is_refused_until_another_leaves(start, new_client):
    server = start("child", "--clients", "1")
    one, two = new_client(server), new_client(server, "127.0.0.3")
    one.hello()
    assert two.knock() == b"-busy, 1 client, try later\n"
    one.ask(b"bye\n")
    assert poll(two.is_welcome, Deadline.after(PATIENCE))


def test_a_child_counts_until_it_is_gone(new_client):
    """Not only until it has said goodbye. One stays in between when nobody reads what it logs."""
    log, logged = os.pipe()
    words = [program("child"), "--port", "0", "--clients", "1"]
    with subprocess.Popen(words, stdout=logged, env=ENVIRONMENT) as process:
        try:
            port = int(re.search(rb"ready on UDP port (\d+)", os.read(log, 100))[1])  # type: ignore[index]
            one, two = (new_client(SimpleNamespace(port=port), f"127.0.0.{n}") for n in (2, 3))
            one.hello()
            fill(logged)
            assert one.ask(b"bye\n") == b"+bye, 0 lines, 0 words\n"
            two.sock.connect(("127.0.0.1", port))
            two.send(b"hello\n")
            # It is refused, which the parent cannot log before somebody reads what was logged so far.
            assert poll(lambda: is_writing_to_a_pipe(process.pid), Deadline.after(PATIENCE))
            os.close(logged)
            os.read(log, 1 << 20)
            assert two.sock.recv(LARGEST) == b"-busy, 1 client, try later\n"
            assert poll(two.is_welcome, Deadline.after(PATIENCE))
        finally:
            process.terminate()
            os.close(log)


def fill(pipe: int) -> None:
    own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)  # opened anew: the programs' own writes wait
    with suppress(BlockingIOError):
        while True:
            os.write(own, bytes(4096))
    with suppress(BlockingIOError):
        while True:
            os.write(own, b"\0")
    os.close(own)


def is_writing_to_a_pipe(pid: int) -> bool:
    return "pipe_write" in Path(f"/proc/{pid}/wchan").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_parent(number, start, new_client):
    server = start("child")
    clients = [new_client(server) for _ in range(3)]
    for one in clients:
        one.hello()
    pids = server.child_pids()
    assert all(alive(pid) for pid in pids)
    server.process.send_signal(number)
    server.process.wait(PATIENCE)
    assert poll(lambda: not any(alive(pid) for pid in pids), Deadline.after(PATIENCE))
    assert all(poll(one.is_forgotten, Deadline.after(PATIENCE)) for one in clients)
