"""The upper-case server on the loopback interface: what it answers, bounds, logs and exits with."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from lab.waiting import Deadline, poll

FOLDER = Path(__file__).parents[3] / "services" / "ucserver"
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
PATIENCE = 5.0  # seconds for what should take milliseconds
IP_PKTINFO = 8  # linux/in.h; Python has no name for it before 3.14


class Server:
    """A running program of the folder; its log is a file, so that nothing has to be drained."""

    def __init__(self, log: Path, *words: str, files: int | None = None) -> None:
        self.log_file = log

        def limit() -> None:
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        # -B in place of the program's own first line (-E), which would not heed PYTHONDONTWRITEBYTECODE.
        argv = [sys.executable, "-B", "-S", str(FOLDER / words[0]), *words[1:]]
        with log.open("w") as output:
            self.process = subprocess.Popen(argv, stdout=output, stderr=output, env=ENVIRONMENT, preexec_fn=limit)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        def seen() -> re.Match[str] | None:
            return re.search(pattern, self.log, re.MULTILINE)

        match = poll(seen, Deadline.after(PATIENCE))
        assert match, f"no {pattern!r} in: {self.log}"
        return match

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", int(self.wait_for_log(r"^ready: UDP and TCP at [\d.]+:(\d+)$")[1]))

    def resident_kib(self) -> int:
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])  # type: ignore[index]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running(log: Path, *options: str, files: int | None = None) -> Iterator[Server]:
    server = Server(log, "ucserver.py", "--port", "0", "--address", "127.0.0.1", *options, files=files)
    try:
        assert server.address
        yield server
        assert server.process.poll() is None, f"it died: {server.log}"
    finally:
        server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "log") as server:
        yield server


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that no other test's client disturbs."""
    with running(tmp_path_factory.mktemp("ucserver") / "log") as server:
        yield server


@contextmanager
def udp(server: Server, source: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(source)
        client.connect(server.address)
        yield client


def tcp(server: Server) -> socket.socket:
    return socket.create_connection(server.address, PATIENCE)


def ask(client: socket.socket, data: bytes) -> bytes:
    client.send(data)
    return client.recv(65535)


def processor_share(server: Server, client: socket.socket) -> float:
    """How much of a processor the server uses, measured over the second between two of its summaries."""

    def next_summary() -> tuple[float, float]:
        lines = server.log.count("udp answered=")
        assert ask(client, b"tick") == b"TICK"
        assert poll(lambda: server.log.count("udp answered=") > lines, Deadline.after(PATIENCE)), server.log
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()  # user, system: proc(5)

    (used, began), (used_then, ended) = next_summary(), next_summary()
    return (used_then - used) / (ended - began)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ucserver_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


# UDP


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 65_507])
def test_datagram_of_any_size_comes_back_whole(standing: Server, size: int) -> None:
    data = os.urandom(size)
    with udp(standing) as client:
        assert ask(client, data) == data.upper()


@pytest.mark.parametrize("data", [bytes(range(256)), "straße é".encode(), b"IT WORKS!"])
def test_only_ascii_letters_change(standing: Server, data: bytes) -> None:
    expected = bytes(byte - 32 if ord("a") <= byte <= ord("z") else byte for byte in data)
    with udp(standing) as client:
        assert ask(client, data) == expected
    with tcp(standing) as connection:
        assert ask(connection, data) == expected


def test_answer_leaves_from_the_address_that_was_asked(tmp_path: Path) -> None:
    """RFC 1123, 2.3: a connected client hears nobody else. The kernel's own choice for loopback is 127.0.0.1."""
    with running(tmp_path / "log", "--address", "0.0.0.0") as server:
        for asked in ("127.0.0.1", "127.0.0.77", "127.0.0.78", "127.0.0.77"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.connect((asked, server.address[1]))
                assert ask(client, b"from you?") == b"FROM YOU?"


def test_what_the_kernel_would_choose_is_believed_for_that_client_and_address_only(tmp_path: Path) -> None:
    with running(tmp_path / "log", "--address", "0.0.0.0") as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(("127.0.0.1", 0))
        for last in [1, 1, 1, 77, 1, 77, 77, 77, 1, 1]:  # from 127.0.0.1 the kernel answers of itself
            there = (f"127.0.0.{last}", server.address[1])
            client.sendto(b"x", there)
            assert client.recvfrom(10) == (b"X", there)


def test_its_own_port_as_the_source_is_refused(server: Server) -> None:
    with udp(server, ("127.0.0.3", server.address[1])) as mirror, udp(server) as control:
        mirror.send(b"who is there?")
        assert ask(control, b"control") == b"CONTROL"
        mirror.setblocking(False)
        with pytest.raises(BlockingIOError):
            mirror.recv(100)
    server.wait_for_log(r"^udp 127\.0\.0\.3:\d+ refused: ")
    server.wait_for_log(r"^udp answered=1 refused=1 failed=0 dropped=0$")


class ScriptedSocket:
    """Hands out the given datagrams, then raises KeyError; sending to the ports in `failures` fails with that errno."""

    def __init__(self, datagrams: list[tuple[bytes, tuple[str, int]]], failures: dict[int, int]) -> None:
        self.datagrams = list(datagrams)
        self.failures = failures
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.dropped = 0

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return struct.pack("=9I", *[7] * 8, self.dropped)

    def getsockname(self) -> tuple[str, int]:
        return ("0.0.0.0", 4444)

    def recvmsg(self, size: int, room: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int]]:
        if not self.datagrams:
            raise KeyError
        data, sender = self.datagrams.pop(0)
        return data[:size], [(socket.IPPROTO_IP, IP_PKTINFO, b"\7\0\0\0ownsaddr"[:room])], 0, sender

    def sendmsg(
        self, data: tuple[bytes], ancillary: list[tuple[int, int, bytes]], flags: int, address: tuple[str, int]
    ) -> None:
        assert flags & socket.MSG_DONTWAIT, "it would wait for room to send"
        assert ancillary == [(socket.IPPROTO_IP, IP_PKTINFO, b"\0\0\0\0ownsaddr")], "not by the way it came"
        if code := self.failures.get(address[1]):
            raise OSError(code, os.strerror(code))
        self.sent.append((data[0], address))

    def sendto(self, *_: object) -> None:
        raise AssertionError("the kernel would not send from an address that this host does not have")


FAILURES = [
    errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAGAIN,
    errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.ECONNREFUSED,
]  # fmt: skip


@pytest.mark.parametrize("code", FAILURES, ids=errno.errorcode.get)
def test_answer_that_cannot_be_sent_is_logged_and_survived(capfd: pytest.CaptureFixture[str], code: int) -> None:
    datagrams, eventlog = load("datagrams"), load("eventlog")
    scripted = ScriptedSocket([(b"a", ("192.0.2.1", 5000)), (b"b", ("192.0.2.2", 5001))], {5000: code})
    served = datagrams.Datagrams(scripted, eventlog.EventLog())
    with pytest.raises(KeyError):
        served.serve()
    assert scripted.sent == [(b"B", ("192.0.2.2", 5001))]
    assert (served.answered, served.refused, served.failed) == (1, 0, 1)
    assert capfd.readouterr().out == f"udp 192.0.2.1:5000 not answered: {os.strerror(code)}\n"


def test_ports_below_1024_and_its_own_are_refused_and_no_others() -> None:
    datagrams, eventlog = load("datagrams"), load("eventlog")
    ports = [0, 1, 7, 13, 1023, 1024, 4443, 4444, 4445, 65535]
    scripted = ScriptedSocket([(b"x", ("192.0.2.1", port)) for port in ports], {})
    served = datagrams.Datagrams(scripted, eventlog.EventLog(output=os.open(os.devnull, os.O_WRONLY)))
    with pytest.raises(KeyError):
        served.serve()
    assert [address[1] for _, address in scripted.sent] == [1024, 4443, 4445, 65535]


def test_summary_tells_of_one_second_and_only_if_something_happened(capfd: pytest.CaptureFixture[str]) -> None:
    datagrams, eventlog = load("datagrams"), load("eventlog")
    scripted = ScriptedSocket([(b"a", ("192.0.2.1", 5000))] * 3, {})
    served = datagrams.Datagrams(scripted, eventlog.EventLog())
    with pytest.raises(KeyError):
        served.serve()
    served.report()
    assert capfd.readouterr().out == "udp answered=3 refused=0 failed=0 dropped=0\n"
    served.report()
    assert capfd.readouterr().out == ""
    scripted.dropped += 5
    served.report()
    assert capfd.readouterr().out == "udp answered=0 refused=0 failed=0 dropped=5\n"


# TCP


def test_half_closed_client_gets_all_of_its_answer(standing: Server) -> None:
    data = b"the quick brown fox\n" * 10_000
    with tcp(standing) as client, client.makefile("rb") as answer:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert answer.read() == data.upper()
    standing.wait_for_log(rf"^tcp .* closed after {len(data)} bytes: end of stream$")


def test_reset_connection_is_logged_and_survived(standing: Server) -> None:
    with tcp(standing) as client:
        assert ask(client, b"x") == b"X"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    standing.wait_for_log(r"^tcp .* closed after 1 bytes: Connection reset by peer$")
    with tcp(standing) as client:
        assert ask(client, b"x") == b"X"


def test_silent_client_holds_up_nobody(standing: Server) -> None:
    with tcp(standing), tcp(standing) as other:
        assert ask(other, b"x") == b"X"


def send_until_stuck(client: socket.socket, most: int = 1 << 26) -> int:
    """How many bytes the client could send before half a second passed in which it could not."""
    client.settimeout(0.5)
    sent = 0
    try:
        while sent < most:
            sent += client.send(b"x" * 65536)
    except TimeoutError:
        return sent
    raise AssertionError(f"the server took all of {most} bytes")


def test_client_that_never_reads_is_stopped_holds_up_nobody_and_loses_nothing(server: Server) -> None:
    with tcp(server) as other:
        assert ask(other, b"warm") == b"WARM"
        before = server.resident_kib()
        with tcp(server) as hoarder:
            sent = send_until_stuck(hoarder)
            assert server.resident_kib() < before + 1024
            assert ask(other, b"x") == b"X"
            with udp(server) as client:
                assert processor_share(server, client) < 0.2
            hoarder.settimeout(PATIENCE)
            while sent:
                data = hoarder.recv(65536)
                assert data == b"X" * len(data) != b""
                sent -= len(data)


def test_client_beyond_the_bound_takes_the_place_of_the_longest_silent(tmp_path: Path) -> None:
    with running(tmp_path / "log", "--max-clients", "3") as server, ExitStack() as stack:
        first, second, third = (stack.enter_context(tcp(server)) for _ in range(3))
        for client in (first, second, third, first):
            assert ask(client, b"x") == b"X"
        fourth = stack.enter_context(tcp(server))
        assert ask(fourth, b"x") == b"X"
        assert second.recv(1) == b""
        assert [ask(client, b"y") for client in (first, third, fourth)] == [b"Y"] * 3
        server.wait_for_log(r"^tcp .* closed after 1 bytes: made room: 3 clients$")


def test_idle_client_is_closed_and_busy_one_is_not(tmp_path: Path) -> None:
    with running(tmp_path / "log", "--idle-limit", "1") as server, tcp(server) as idle, tcp(server) as busy:
        idle.settimeout(0.1)

        def closed() -> bool:
            assert ask(busy, b"x") == b"X"
            try:
                return idle.recv(1) == b""
            except TimeoutError:
                return False

        assert poll(closed, Deadline.after(PATIENCE))
        server.wait_for_log(r"^tcp .* closed after 0 bytes: idle for 1 s$")


def test_listener_is_heard_from_the_first_round_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datagrams", load("datagrams"))
    connections, eventlog = load("connections"), load("eventlog")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = connections.Connections(listener, eventlog.EventLog(), most=1, idle_limit=1)
        heard = []

        def select(timeout: float) -> None:
            heard.extend(key.fileobj for key in served._selector.get_map().values())
            raise KeyError

        served._selector.select = select
        with pytest.raises(KeyError):
            served.serve()
    assert heard == [listener]


def test_no_descriptor_left_is_survived(tmp_path: Path) -> None:
    with running(tmp_path / "log", files=12) as server, ExitStack() as stack:
        clients = [stack.enter_context(tcp(server)) for _ in range(30)]
        assert ask(clients[-1], b"last") == b"LAST"
        with udp(server) as client:
            assert ask(client, b"x") == b"X"
        server.wait_for_log(r"^tcp connection not accepted: Too many open files$")


def test_no_descriptor_from_the_start_costs_no_processor_time(tmp_path: Path) -> None:
    """With none left for even one TCP client it waits, and does not ask again and again; UDP goes on."""
    with running(tmp_path / "log") as server:
        used = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    with running(tmp_path / "log", files=used) as server, tcp(server), udp(server) as client:
        server.wait_for_log(r"^tcp connection not accepted: Too many open files$")
        assert processor_share(server, client) < 0.2


# Log


def test_lines_that_strangers_cause_are_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    log = load("eventlog").EventLog()
    for number in range(100):
        log.stranger("line {}", number)
    log.report()
    log.stranger("line {}", "after")
    lines = capfd.readouterr().out.splitlines()
    assert lines == [*(f"line {number}" for number in range(20)), "log: 80 more lines in that second", "line after"]


def test_log_that_nobody_takes_is_no_reason_to_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    load("eventlog").EventLog(output=writer).event("into the void")
    os.close(writer)


# The program


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_ends_it_at_once_with_0_even_with_clients(server: Server, name: str) -> None:
    with tcp(server) as client:
        assert ask(client, b"x") == b"X"
        began = time.monotonic()
        process = server.process
        process.send_signal(signal.Signals[name])
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 1
        server.wait_for_log(rf"^ended by {name}$")
    # the fixture wants a live server
    server.process = subprocess.Popen(["sleep", "60"])


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-B", "-S", str(FOLDER / words[0]), *words[1:]]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT, check=False)


@pytest.mark.parametrize(
    "words",
    [["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["--max-clients", "0"], ["--what"], ["word"],
     ["--address", "no.such.name.invalid"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_100(words: list[str]) -> None:
    done = run("ucserver.py", *words)
    assert done.returncode == 100
    assert done.stderr.startswith("ucserver: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_port_in_use_is_111(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = run("ucserver.py", "--address", "127.0.0.1", "--port", str(port))
    assert done.returncode == 111
    assert re.fullmatch(rf"ucserver: cannot serve at 127\.0\.0\.1:{port}: Address already in use; .+\n", done.stderr)


def test_health_check_asks_both_and_leaves_no_trace_in_the_log(server: Server) -> None:
    for _ in range(3):
        done = run("healthcheck.py", str(server.address[1]))
        assert (done.returncode, done.stdout) == (0, "")
    with udp(server) as client:
        assert ask(client, b"x") == b"X"
    server.wait_for_log(r"^udp answered=1 ")
    assert "tcp" not in server.log


@pytest.mark.parametrize("serves", ["nothing", "UDP only", "the wrong answer"])
def test_health_check_fails_when_an_answer_is_missing_or_wrong(tmp_path: Path, serves: str) -> None:
    with ExitStack() as stack:
        port = 0
        if serves == "nothing":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        else:
            listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            change = "request.upper()" if serves == "UDP only" else "request"
            program = (
                "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); request, client = s.recvfrom(1024); "
                f"s.sendto({change}, client); s.recvfrom(1024)"
            )
            answering = subprocess.Popen(
                [sys.executable, "-c", program, str(listener.fileno())], pass_fds=[listener.fileno()]
            )
            stack.callback(answering.wait)
            stack.callback(answering.kill)
        done = run("healthcheck.py", str(port))
    assert done.returncode == 111
    assert re.match(rf"{'TCP' if serves == 'UDP only' else 'UDP'} \('127\.0\.0\.1', {port}\): ", done.stdout)


# The shortest servers, for the honest client they are made for


@pytest.mark.parametrize("program", ["minimal_udp.py", "minimal_tcp.py"])
def test_shortest_server_answers_in_upper_case(tmp_path: Path, program: str) -> None:
    kind = socket.SOCK_DGRAM if "udp" in program else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shortest = Server(tmp_path / "log", program, str(port))
    try:
        shortest.wait_for_log(r"^ready$")
        with socket.socket(socket.AF_INET, kind) as client:
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", port))
            assert ask(client, b"it works!") == b"IT WORKS!"
    finally:
        shortest.close()
