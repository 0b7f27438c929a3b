"""The two tally servers on loopback: one suite for both, then what each way alone has to prove."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.waiting import Deadline, poll

PROGRAMS = Path(__file__).parents[3] / "services" / "tally"
IP_PKTINFO = 8  # <linux/in.h>; Python has no name for it
PATIENCE = 5.0  # seconds for what should take milliseconds
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


class Server:
    """A running server program; its log is a file, so that nothing has to be drained."""

    def __init__(self, way: str, log: Path, *options: str) -> None:
        self.way = way
        self.path = log
        with log.open("w") as out:
            self.process = subprocess.Popen([program(way), *options], stdout=out, env=ENVIRONMENT)
        self.port = int(self.wait_for_log(r"^ready on UDP port (\d+)")[1])

    def log(self) -> str:
        return self.path.read_text()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        found = poll(lambda: re.search(pattern, self.log(), re.MULTILINE), Deadline.after(PATIENCE))
        assert found, f"no line matches {pattern!r} in:\n{self.log()}"
        return found

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def child_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"new, child (\d+)", self.log())]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


class Client:
    """One (address, port), speaking to a server datagram by datagram."""

    def __init__(self, server: Server, address: str = "127.0.0.2") -> None:
        self.server = server
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind((address, 0))

    def send(self, request: bytes) -> None:
        self.sock.send(request)

    def ask(self, request: bytes) -> bytes:
        self.sock.send(request)
        return self.sock.recv(65_535)

    def knock(self, request: bytes = b"hello\n") -> bytes:
        """Speaks to the well-known port and stays there."""
        self.sock.connect(("127.0.0.1", self.server.port))
        return self.ask(request)

    def hello(self) -> int:
        """The hand-over, the same with both servers: go on with the port that the answer names."""
        port = int(re.fullmatch(rb"\+port (\d+)\n", self.knock())[1])  # type: ignore[index]
        self.sock.connect(("127.0.0.1", port))
        return port

    def is_welcome(self) -> bool:
        """Whether a hello brings a port; it does not when refused, or unanswered because too many are refused."""
        self.sock.settimeout(0.2)
        try:
            return self.knock().startswith(b"+port")
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(PATIENCE)

    def is_forgotten(self) -> bool:
        """The clear answer to a stale client: a line that says so, or that nobody is on the port any more."""
        self.sock.settimeout(0.2)
        try:
            return self.ask(b"still there?\n") == b"-unknown, say hello first\n"
        except ConnectionRefusedError:
            return True
        except TimeoutError:  # a child that was just about to end has taken the question with it
            return False
        finally:
            self.sock.settimeout(PATIENCE)


def program(way: str) -> str:
    return str(PROGRAMS / f"tally_{way}.py")


@pytest.fixture
def modules(monkeypatch):
    """The programs' own modules can be imported."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def start_one(way: str, *options: str) -> Server:
        words = options if "--port" in options else (*options, "--port", "0")
        servers.append(Server(way, tmp_path / f"{len(servers)}.log", *words))
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture
def new_client() -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:

        def make(server: Server, address: str = "127.0.0.2") -> Client:
            made = Client(server, address)
            stack.callback(made.sock.close)
            return made

        yield make


both = pytest.mark.parametrize("way", ["table", "child"])


@both
def test_words_are_counted_from_hello_to_bye(way, start, new_client):
    one = new_client(start(way))
    one.hello()
    assert one.ask(b"three words here\n") == b"+1 line, 3 words\n"
    assert one.ask(b"two more\n") == b"+2 lines, 5 words\n"
    assert one.ask(b"bye\n") == b"+bye, 2 lines, 5 words\n"
    assert poll(one.is_forgotten, Deadline.after(PATIENCE))


@both
def test_two_clients_never_see_each_others_count(way, start, new_client):
    server = start(way)
    one, two = new_client(server), new_client(server, "127.0.0.3")
    one.hello()
    two.hello()
    for turn in range(1, 6):
        one.send(b"a\n")
        two.send(b"a b c\n")
        assert two.sock.recv(100).endswith(b", %d words\n" % (3 * turn))
        assert one.sock.recv(100).endswith((b", %d word\n" if turn == 1 else b", %d words\n") % turn)


@both
def test_another_port_of_the_same_address_is_another_client(way, start, new_client):
    server = start(way)
    one, two = new_client(server), new_client(server)
    one.hello()
    two.hello()
    assert one.ask(b"a b c\n") == b"+1 line, 3 words\n"
    assert two.ask(b"a\n") == b"+1 line, 1 word\n"


@both
def test_repeated_hello_keeps_port_and_count(way, start, new_client):
    one = new_client(start(way))
    port = one.hello()
    one.ask(b"a b\n")
    assert one.knock() == b"+port %d\n" % port
    assert one.hello() == port
    assert one.ask(b"hello") == b"+port %d\n" % port, "also on the port itself"
    assert one.ask(b"c\n") == b"+2 lines, 3 words\n"


@both
def test_empty_line_tells_the_count_and_leaves_it_alone(way, start, new_client):
    one = new_client(start(way))
    one.hello()
    one.ask(b"a b\n")
    for nothing in (b"", b"\n", b" \t\r\n"):
        assert one.ask(nothing) == b"+1 line, 2 words\n"


@both
def test_restart_forgets_all(way, start, new_client):
    server = start(way)
    one = new_client(server)
    one.hello()
    one.ask(b"a b\n")
    server.stop()
    start(way, "--port", str(server.port))
    assert poll(one.is_forgotten, Deadline.after(PATIENCE))
    one.hello()
    assert one.ask(b"a\n") == b"+1 line, 1 word\n"


@both
def test_client_that_never_said_hello_is_told_so(way, start, new_client):
    assert new_client(start(way)).knock(b"some words\n") == b"-unknown, say hello first\n"


@both
def test_silent_client_expires_and_an_active_one_stays(way, start, new_client):
    server = start(way, "--idle", "0.3")
    silent, active = new_client(server), new_client(server, "127.0.0.3")
    silent.hello()
    silent.ask(b"one line\n")
    active.hello()

    def expired_while_active_speaks() -> bool:
        active.ask(b"word\n")
        return "127.0.0.2" in "".join(re.findall(r".* expired after 0.3 s of silence: 1 line, 2 words", server.log()))

    assert poll(expired_while_active_speaks, Deadline.after(PATIENCE))
    assert poll(silent.is_forgotten, Deadline.after(PATIENCE))
    assert not active.is_forgotten()


@both
def test_session_is_bounded(way, start, new_client):
    one = new_client(start(way, "--lines", "2"))
    one.hello()
    one.ask(b"a\n")
    assert one.ask(b"b\n") == b"+2 lines, 2 words\n"
    assert one.ask(b"c\n") == b"-full, 2 lines, say hello again\n"
    assert poll(one.is_forgotten, Deadline.after(PATIENCE))


@both
@pytest.mark.parametrize(("last", "answer"), [(b"bye\n", b"+bye, "), (b"c\n", b"-full, ")])
def test_client_that_comes_back_at_once_is_served_anew(way, last, answer, start, new_client):
    """Its hello may be there before the child that has said goodbye is gone."""
    one = new_client(start(way, "--lines", "1", "--clients", "100"))
    for _ in range(100):
        one.hello()
        assert one.ask(b"a b\n") == b"+1 line, 2 words\n"
        assert one.ask(last).startswith(answer)


@both
def test_what_looks_like_an_answer_is_not_answered(way, start, new_client):
    """Else one spoofed datagram sets two servers talking for ever."""
    one = new_client(start(way))
    one.sock.connect(("127.0.0.1", one.server.port))
    one.send(b"-unknown, say hello first\n")
    one.send(b"+PORT 4446\n")
    one.hello()
    one.send(b"+3 lines, 17 words\n")
    assert one.ask(b"a\n") == b"+1 line, 1 word\n", "the first answer to arrive is that to the last datagram"


@both
def test_any_bytes_of_any_size_are_one_line(way, start, new_client):
    one = new_client(start(way))
    one.hello()
    assert one.ask(b"\x00\xff\xfe \x80\n\xc3") == b"+1 line, 3 words\n"
    assert one.ask(b"a " * 32_753) == b"+2 lines, 32756 words\n"


@both
def test_refusals_are_bounded_in_rate(way, start, new_client):
    server = start(way)
    strangers = [new_client(server) for _ in range(20)]
    for stranger in strangers:
        stranger.sock.connect(("127.0.0.1", server.port))
        for _ in range(10):
            stranger.send(b"x\n")
    new_client(server).hello()  # the answer shows that all of those were heard
    assert 20 <= sum(map(refusals_waiting, strangers)) < 100


def refusals_waiting(stranger: Client) -> int:
    stranger.sock.setblocking(False)
    refusals = 0
    with suppress(BlockingIOError):
        while stranger.sock.recv(100).startswith(b"-"):
            refusals += 1
    return refusals


@both
@pytest.mark.parametrize("says", [b"x\n", b"", b"hello\n", b"bye\n"])
def test_partner_that_answers_anything_hears_no_more_in_the_end(way, says, start, new_client):
    """As if somebody had spoofed the hello of a server that gives the same answer always."""
    partner = new_client(start(way, "--lines", "50"))
    partner.sock.settimeout(0.3)
    partner.sock.sendto(b"hello\n", ("127.0.0.1", partner.server.port))
    heard = 0
    with suppress(TimeoutError):
        while heard < 500:
            _, source = partner.sock.recvfrom(100)
            heard += 1
            partner.sock.sendto(says, source)
    assert 1 < heard <= 1 + 50 + 1 + 20, "a port, the lines, one too many, refusals"


@both
def test_questions_of_a_session_are_bounded(way, start, new_client):
    one = new_client(start(way, "--lines", "50"))
    one.hello()
    for _ in range(100):
        one.send(b"\n")
    one.send(b"bye\n")
    answers = []
    while not (answers and answers[-1].startswith(b"+bye")):
        answers.append(one.sock.recv(100))
    assert len(answers) - 1 in (49, 50), "in the table, the hello is one of them"


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_at_once_with_0(way, number, start, new_client):
    server = start(way)
    new_client(server).hello()
    server.process.send_signal(number)
    assert server.process.wait(PATIENCE) == 0


@both
@pytest.mark.parametrize("words", [["--port", "65536"], ["--clients", "0"], ["--idle", "nan"], ["--what"], ["word"]])
def test_wrong_usage_exits_with_100(way, words):
    done = subprocess.run([program(way), *words], capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (100, "")
    assert "--help" in done.stderr or "expected" in done.stderr
    assert done.stderr.count("\n") == 1


@both
def test_port_in_use_exits_with_111_and_says_what_to_do(way, start):
    port = str(start(way).port)
    again = subprocess.run([program(way), "--port", port], capture_output=True, text=True, timeout=5, env=ENVIRONMENT)
    assert again.returncode == 111
    assert f"cannot bind UDP port {port}: Address already in use; end what holds it" in again.stderr


def check(way: str, port: int) -> subprocess.CompletedProcess[str]:
    words = [program(way), "--check", "--port", str(port)]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT)


@both
def test_check_holds_a_session_and_leaves_no_line_in_the_log(way, start):
    server = start(way)
    assert check(way, server.port).returncode == 0
    assert server.log().count("\n") == 1


def test_check_of_a_server_that_is_full_and_says_so_passes(start, new_client):
    server = start("child", "--clients", "1")
    new_client(server).hello()
    assert check("child", server.port).returncode == 0


@both
def test_check_fails_without_a_server_and_with_a_wrong_one(way):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.close()
        assert check(way, port).returncode == 111
    for wrong in (bytes.upper, lambda _: b"+port 65536\n"):
        with scripted_server(wrong) as (port, _):
            assert "expected a session" in check(way, port).stderr
    wrong = {b"bye\n": b"+bye\n", b"one two\n": b"+2 lines, 9 words\n"}
    with scripted_server(lambda request: wrong.get(request, b"+port %d\n" % port)) as (port, _):
        assert "counted as (2, 9)" in check(way, port).stderr


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
            one, two = (new_client(SimpleNamespace(port=port), f"127.0.0.{n}") for n in (2, 99))  # 99 is not logged
            one.hello()
            fill(logged)
            assert one.ask(b"bye\n") == b"+bye, 0 lines, 0 words\n"
            assert two.knock() == b"-busy, 1 client, try later\n"
            os.close(logged)
            os.read(log, 1 << 20)
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


# --- the client ---


@contextmanager
def scripted_server(answer: Callable[[bytes], bytes | list[bytes] | None]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers as told, None being silence; yields its port and the requests it has heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                request, client = sock.recvfrom(65_535)
                if request == b"end of test":
                    return
                heard.append(request)
                answers = answer(request) or []
                for text in [answers] if isinstance(answers, bytes) else answers:
                    sock.sendto(text, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1], heard
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
                ender.sendto(b"end of test", sock.getsockname())
            thread.join()


@pytest.mark.usefixtures("modules")
def test_may_answer():
    from tally_protocol import may_answer

    assert may_answer(b"hello\n", ("192.168.1.10", 5000), 4446)
    assert may_answer(b"", ("192.168.1.10", 1024), 4446)
    for port in (0, 1, 7, 13, 19, 1023, 4446):
        assert not may_answer(b"hello\n", ("192.168.1.10", port), 4446)


class Outbox(list):
    """Stands for a socket: keeps what is sent, as (client, text)."""

    def sendto(self, text: bytes, _flags: int, client: tuple[str, int]) -> None:
        self.append((client, text))


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("pause", [0, 0.06, 3, 3600])
def test_partner_is_refused_so_often_in_a_row_and_no_more_however_slow_it_is(pause, monkeypatch):
    import tally_protocol

    clock = count(step=pause)
    monkeypatch.setattr(tally_protocol, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    partner, sent = ("192.168.1.20", 4444), Outbox()
    answerer = tally_protocol.Answerer(sent, lambda *_: None)
    for _ in range(1000):
        answerer.refuse(partner, "-unknown")
    assert sent == 20 * [(partner, b"-unknown\n")]
    if pause:
        answerer.refuse(("192.168.1.20", 4445), "-unknown")
        assert len(sent) == 21, "another client is not concerned"
        answerer.answer(partner, "+port 4446")
        answerer.refuse(partner, "-unknown")
        assert len(sent) == 23, "after a hello the client is refused as before"


@pytest.mark.usefixtures("modules")
def test_what_is_kept_of_refused_clients_is_bounded(monkeypatch):
    import tally_protocol

    clock = count()
    monkeypatch.setattr(tally_protocol, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    answerer = tally_protocol.Answerer(Outbox(), lambda *_: None)
    for port in range(1024, 5000):
        answerer.refuse(("192.168.1.20", port), "-unknown")
    assert len(answerer.refused) == 1024
    assert next(reversed(answerer.refused)) == ("192.168.1.20", 4999)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("lost", ["the line", "the answer"])
def test_client_has_a_line_counted_once_whatever_is_lost(lost):
    from tally_client import Tally

    counted: list[bytes] = []
    dropped: list[bytes] = []

    def answer(request: bytes) -> bytes | None:
        if request == b"hello\n":
            return b"+port %d\n" % port
        lose = request != b"\n" and not dropped
        if lose:
            dropped.append(request)
        if request != b"\n" and not (lose and lost == "the line"):
            counted.append(request)
        return None if lose else b"+%d lines, %d words\n" % (len(counted), 2 * len(counted))

    with scripted_server(answer) as (port, _), Tally("127.0.0.1", port, patience=0.1) as tally:
        assert tally.say("two words") == (1, 2)
        assert tally.say("two more") == (2, 4)
    assert counted == [b"two words\n", b"two more\n"]
    assert dropped == [b"two words\n"]


class LateServer:
    """Counts as a server does, but from the request `first` on it is `behind` by so many answers.

    When the client has repeated itself so often, all leave at once; or, if it stays late, the oldest only, and each
    further request sets one more free.
    """

    def __init__(self, first: bytes, behind: int, *, stays: bool) -> None:
        self.first, self.behind, self.stays = first, behind, stays
        self.late = False
        self.counted: list[bytes] = []
        self.held: list[bytes] = []
        self.port = 0

    def answer(self, request: bytes) -> bytes:
        if request == b"hello\n":
            return b"+port %d\n" % self.port
        if request == b"bye\n":
            return b"+bye\n"
        if request != b"\n":
            self.counted.append(request)
        return b"+%d lines, %d words\n" % (len(self.counted), 2 * len(self.counted))

    def __call__(self, request: bytes) -> list[bytes]:
        self.held.append(self.answer(request))
        self.late = self.late or request == self.first
        if self.late and len(self.held) <= self.behind:
            return []
        if self.late and self.stays:
            return [self.held.pop(0)]
        answers, self.held, self.behind = self.held, [], 0 if self.late else self.behind
        return answers


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("first", [b"hello\n", b"one two\n", b"three four\n"])
@pytest.mark.parametrize("behind", [1, 2])
@pytest.mark.parametrize("stays", [False, True])
def test_client_has_a_line_counted_once_however_late_the_answers_are(first, behind, stays):
    from tally_client import Tally

    lines = ["one two", "three four", "five six", "seven eight"]
    server = LateServer(first, behind, stays=stays)
    with scripted_server(server) as (server.port, _), Tally("127.0.0.1", server.port, patience=0.1) as tally:
        assert [tally.say(line) for line in lines] == [(1, 2), (2, 4), (3, 6), (4, 8)]
        assert tally.say("") == (4, 8)
        tally.bye()
    assert server.counted == [line.encode() + b"\n" for line in lines]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("first", "behind", "stays"), [(b"one two\n", 1, False), (b"\n", 2, True)])
def test_client_sends_a_line_again_that_was_lost_among_late_answers(first, behind, stays):
    """The count that an answer to an earlier question tells proves nothing; that of a later one does."""
    from tally_client import Tally

    server = LateServer(first, behind, stays=stays)
    lost: list[bytes] = []

    def lose_one(request: bytes) -> list[bytes]:
        if request == b"three four\n" and not lost:
            return lost.append(request) or []
        return server(request)

    with scripted_server(lose_one) as (server.port, _), Tally("127.0.0.1", server.port, patience=0.1) as tally:
        assert tally.say("one two") == (1, 2)
        assert tally.say("three four") == (2, 4)
    assert server.counted == [b"one two\n", b"three four\n"]


@pytest.mark.usefixtures("modules")
def test_client_has_a_line_counted_once_when_answers_come_twice():
    from tally_client import Tally

    server = LateServer(b"", 0, stays=False)
    with (
        scripted_server(lambda request: 2 * server(request)) as (server.port, _),
        Tally("127.0.0.1", server.port, patience=0.1) as tally,
    ):
        assert [tally.say("one two"), tally.say("three four")] == [(1, 2), (2, 4)]
    assert server.counted == [b"one two\n", b"three four\n"]


@pytest.mark.usefixtures("modules")
def test_client_gives_up_on_silence_and_says_so():
    from tally_client import Tally

    answers = {b"hello\n": b"+port %d\n"}
    with (
        scripted_server(lambda request: answers[request] % port if request in answers else None) as (port, heard),
        Tally("127.0.0.1", port, patience=0.05) as tally,
    ):
        with pytest.raises(TimeoutError, match="no answer to the line after 4 tries"):
            tally.say("one two")
        assert heard.count(b"one two\n") == 1


def typed(port: int, data: bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    words = [program("client"), "127.0.0.1", str(port)]
    return subprocess.run(words, input=data, capture_output=True, timeout=20, env=ENVIRONMENT | environment)


@both
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_client_has_any_line_counted(way, locale, start):
    data = b"+5 apples\n-1\n\xff\xfe \x80\n\xc2\xa0\na\rb\n \x00\n"
    done = typed(start(way).port, data, LC_ALL=locale)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines()[1:] == [
        "1 line, 2 words",
        "2 lines, 3 words",
        "3 lines, 5 words",
        "4 lines, 6 words",
        "5 lines, 8 words",
        "6 lines, 9 words",
    ]


@both
@pytest.mark.parametrize("word", ["hello", "bye"])
def test_client_says_why_a_line_cannot_be_counted(way, word, start):
    done = typed(start(way).port, f"one\n {word} \ntwo\n".encode())
    assert done.returncode == 100
    assert done.stdout.endswith(b"\n1 line, 1 word\n")
    why = f"a lone '{word}' is a request, so never counted; add a word, or end with Ctrl-D"
    assert done.stderr.decode() == f"tally_client.py: {why}\n"


def test_client_exits_with_111_and_the_reason_when_nobody_answers():
    with scripted_server(lambda _: None) as (port, heard):
        done = typed(port, b"one\n")
    assert done.returncode == 111
    assert done.stderr.decode() == "tally_client.py: 127.0.0.1: no answer after 3 tries\n"
    assert heard == 3 * [b"hello\n"]


@pytest.mark.parametrize("words", [[], ["a", "b", "c"], ["127.0.0.1", "x"], ["127.0.0.1", "0"], ["127.0.0.1", "65536"]])
def test_clients_wrong_usage_exits_with_100(words):
    done = subprocess.run([program("client"), *words], capture_output=True, text=True, timeout=5, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (100, "")
    assert "usage: HOST [PORT]" in done.stderr
    assert done.stderr.count("\n") == 1
