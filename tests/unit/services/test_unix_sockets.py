"""The programs of services/unixsock, and what the article says of Unix-domain sockets, on this machine's own kernel."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import ModuleType

import pytest

from lab.waiting import Deadline, poll

PROGRAMS = Path(__file__).parents[3] / "services" / "unixsock"
SECONDS = 10
PLACES = 10  # of each listening socket

Serve = Callable[..., subprocess.Popen[str]]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


socketpairs, unixname, bounds = load("socketpairs"), load("unixname"), load("bounds")


def finished(program: str, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAMS / f"{program}.py", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def ask(address: str, *words: str) -> subprocess.CompletedProcess[str]:
    return finished("unixclient", address, *words)


def next_line(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().rstrip()


def line_of_who_made_room(server: subprocess.Popen[str]) -> str:
    return next(line for line in iter(lambda: next_line(server), "") if "made room" in line)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, and returns each when it is ready."""
    with contextlib.ExitStack() as on_exit:

        def start(*words: str) -> subprocess.Popen[str]:
            server = subprocess.Popen(
                [sys.executable, PROGRAMS / "unixserver.py", *words], stdout=subprocess.PIPE, text=True
            )
            on_exit.enter_context(server)
            on_exit.callback(server.kill)
            assert next_line(server).startswith("ready ")
            return server

        yield start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A free name for a socket."""
    return tmp_path / "s"


def connected(address: str, on_exit: contextlib.ExitStack) -> socket.socket:
    kind, _, name = address.partition(":")
    client = on_exit.enter_context(socket.socket(socket.AF_UNIX, unixname.TYPES[kind]))
    client.bind("")  # a datagram could not be answered otherwise
    client.connect(name)
    client.settimeout(SECONDS)
    return client


def stale(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Leave behind what a killed server leaves."""
    with socket.socket(socket.AF_UNIX, kind) as gone:
        gone.bind(str(path))


# The article's claims


def test_a_socketpair_carries_both_ways_and_a_pipe_one() -> None:
    both_ways = {kind: socketpairs.examine(kind).both_ways for kind in socketpairs.KINDS}
    assert both_ways == {"stream": True, "datagram": True, "seqpacket": True, "pipe": False}
    assert socketpairs.examine("pipe").seen["the other way"] == "EBADF"


def test_a_pair_keeps_datagrams_apart_or_not_and_a_pipe_never_does() -> None:
    boundaries = {kind: socketpairs.examine(kind).seen["after one, two"] for kind in socketpairs.KINDS}
    assert boundaries == {
        "stream": "onetwo, EAGAIN",
        "datagram": "one, two",
        "seqpacket": "one, two",
        "pipe": "onetwo, EAGAIN",
    }


def test_mkfifo_names_a_pipe_and_mknod_no_socket(path: Path) -> None:
    made = subprocess.run(["mknod", path, "s"], capture_output=True, timeout=SECONDS, check=False)
    assert made.returncode != 0
    assert not path.exists()
    subprocess.run(["mkfifo", path], timeout=SECONDS, check=True)
    assert path.is_fifo()


def test_the_name_is_there_once_a_server_has_bound_it_and_is_all_that_a_client_needs(path: Path, serve: Serve) -> None:
    assert "No such file or directory" in ask(f"stream:{path}", "x").stderr
    assert not path.exists(), "a client made it"
    serve(f"stream:{path}")
    assert path.is_socket()
    assert ask(f"stream:{path}", "hello").stdout == "HELLO\n"
    assert "No such file or directory" in ask(f"stream:{path}2", "hello").stderr


def test_find_lists_the_named_ones_and_none_of_the_abstract(path: Path, serve: Serve) -> None:
    abstract = f"@test-{os.getpid()}-find"
    serve(f"stream:{path}", f"stream:{abstract}")
    (path.parent / "plain").touch()
    found = subprocess.run(["find", path.parent, "-type", "s"], capture_output=True, text=True, timeout=SECONDS)
    assert found.stdout == f"{path}\n"
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
    assert abstract in names


# Pairs


def test_end_of_file_is_told_by_all_but_the_datagram_pair() -> None:
    told = {kind: socketpairs.examine(kind).tells_end_of_file for kind in socketpairs.KINDS}
    assert told == {"stream": True, "datagram": False, "seqpacket": True, "pipe": True}


def test_a_short_read_loses_the_rest_where_boundaries_are_kept() -> None:
    after = {kind: socketpairs.examine(kind).seen["a read of 4 of 10, then the next"] for kind in socketpairs.KINDS}
    assert after == {
        "stream": "0123, 456789",
        "datagram": "0123, EAGAIN",
        "seqpacket": "0123, EAGAIN",
        "pipe": "0123, 456789",
    }


def test_the_internet_domain_has_no_socketpairs() -> None:
    assert socketpairs.inet_pair() == "EOPNOTSUPP"


def test_the_table_has_a_row_for_each_kind_and_the_json_the_same_findings() -> None:
    table = finished("socketpairs").stdout
    for kind in socketpairs.KINDS:
        assert f"\n{kind} " in table
    assert '"kind": "datagram", "both_ways": true, "keeps_boundaries": true' in finished("socketpairs", "--json").stdout
    assert finished("socketpairs", "--xml").returncode == 100


# Names


def test_a_name_is_taken_once_and_the_second_server_says_so(path: Path, serve: Serve) -> None:
    serve(f"stream:{path}")
    second = finished("unixserver", f"stream:{path}")
    assert second.returncode == 111
    assert "Address already in use: another server has this name" in second.stderr
    assert ask(f"stream:{path}", "still there").stdout == "STILL THERE\n"


def test_a_live_server_of_another_type_keeps_its_name(path: Path, serve: Serve) -> None:
    serve(f"dgram:{path}")
    assert finished("unixserver", f"stream:{path}").returncode == 111
    assert ask(f"dgram:{path}", "still there").stdout == "STILL THERE\n"


def test_a_server_with_a_full_backlog_keeps_its_name(path: Path) -> None:
    with contextlib.ExitStack() as on_exit:
        busy = on_exit.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        on_exit.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        probe = on_exit.enter_context(socket.socket(socket.AF_UNIX))
        probe.setblocking(False)
        with pytest.raises(BlockingIOError):
            probe.connect(str(path))
        assert finished("unixserver", f"stream:{path}").returncode == 111
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_what_a_killed_server_left_behind_is_refused_to_clients_and_replaced_by_the_next(
    path: Path, serve: Serve, kind: str
) -> None:
    first = serve(f"{kind}:{path}")
    first.kill()
    first.wait(SECONDS)
    assert path.is_socket()
    assert "Connection refused" in ask(f"{kind}:{path}", "x").stderr
    serve(f"{kind}:{path}")
    assert ask(f"{kind}:{path}", "back").stdout == "BACK\n"


def test_a_file_that_is_no_socket_is_never_removed(path: Path) -> None:
    path.write_text("precious")
    refused = finished("unixserver", f"stream:{path}")
    assert refused.returncode == 100
    assert "is not a socket" in refused.stderr
    assert path.read_text() == "precious"


def test_two_servers_that_start_at_once_cannot_both_replace_a_stale_name(path: Path) -> None:
    stale(path)
    directory = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    command = [sys.executable, str(PROGRAMS / "unixserver.py"), f"stream:{path}"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    def both_wait() -> bool:
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "-> FLOCK" in line]
        return {str(server.pid) for server in both} <= {words[5] for words in waiting}

    with contextlib.ExitStack() as on_exit:
        for server in both:
            on_exit.enter_context(server)
            on_exit.callback(server.kill)
        assert poll(both_wait, Deadline.after(SECONDS)), "they do not wait for each other"
        assert path.is_socket()
        os.close(directory)
        lines = [next_line(server) for server in both]  # `ready`, or nothing at the end of the refused one
        assert sorted(line.startswith("ready") for line in lines) == [False, True]
        assert both[lines.index("")].wait(SECONDS) == 111
        assert ask(f"stream:{path}", "one").stdout == "ONE\n"


def test_the_names_go_with_the_server_but_not_one_that_is_another_s(tmp_path: Path, serve: Serve) -> None:
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    server = serve(f"stream:{kept}", f"dgram:{gone}")
    kept.rename(tmp_path / "away")
    stale(kept)
    server.terminate()
    assert server.wait(SECONDS) == 0
    assert kept.is_socket()
    assert not gone.exists()


def test_an_abstract_name_goes_with_its_server_and_leaves_nothing_stale(serve: Serve) -> None:
    address = f"stream:@test-{os.getpid()}-gone"
    server = serve(address)
    assert ask(address, "here").stdout == "HERE\n"
    assert finished("unixserver", address).returncode == 111
    server.kill()
    server.wait(SECONDS)
    assert "Connection refused" in ask(address, "here").stderr
    serve(address)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stream:/nowhere/s"], "stream:/nowhere/s: No such file or directory"),
        ([f"stream:/tmp/{'x' * 108}"], "path too long"),
        (["tcp:/tmp/s"], "expected TYPE:PATH"),
        (["stream:"], "expected TYPE:PATH"),
        (["--mode", "999", "stream:/tmp/s"], "--mode"),
        ([], "usage"),
    ],
)
def test_what_no_retry_can_mend_exits_100_with_the_reason(words: list[str], said: str) -> None:
    refused = finished("unixserver", *words)
    assert refused.returncode == 100
    assert said in refused.stderr


# Talking


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_only_ascii_letters_are_upper_cased_line_by_line(path: Path, serve: Serve, kind: str) -> None:
    serve(f"{kind}:{path}")
    assert finished("unixclient", f"{kind}:{path}", text="stra\u00dfe\nmore\n").stdout == "STRA\u00dfE\nMORE\n"


def test_a_big_message_comes_back_whole(path: Path, serve: Serve) -> None:
    serve(f"stream:{path}")
    assert finished("unixclient", f"stream:{path}", text="x" * 1_000_000).stdout == "X" * 1_000_000 + "\n"


def test_the_kernel_tells_each_side_who_the_other_is(path: Path, serve: Serve) -> None:
    server = serve(f"stream:{path}", f"dgram:{path}-d")
    client = ask(f"stream:{path}", "-v", "x")
    us = f"uid={os.getuid()} gid={os.getgid()}"
    assert f"server {us} pid={server.pid}\n" in client.stderr
    assert next_line(server).startswith(f"stream:{path} connected {us} pid=")
    assert next_line(server).endswith("bytes=1 (end of file)")
    ask(f"dgram:{path}-d", "x")
    assert next_line(server).startswith(f"dgram:{path}-d datagram {us} pid=")


def test_nobody_without_privilege_can_lie_about_who_he_is() -> None:
    program = (
        "import os, socket, struct\n"
        "if os.getuid() == 0: os.setuid(1000)\n"
        "here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "def claim(pid, uid):\n"
        "    credentials = struct.pack('3i', pid, uid, os.getgid())\n"
        "    try: there.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])\n"
        "    except PermissionError: return 'refused'\n"
        "    return 'sent'\n"
        "print(claim(os.getpid(), os.getuid()), claim(os.getppid(), os.getuid()), claim(os.getpid(), 0))\n"
    )
    claims = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS)
    assert claims.stdout == "sent refused refused\n"


def test_a_datagram_client_without_a_name_cannot_be_answered(path: Path, serve: Serve) -> None:
    server = serve(f"dgram:{path}")
    assert ask(f"dgram:{path}", "--from", "nobody", "x").returncode == 0
    assert next_line(server).endswith("not answered: the sender has no name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
        assert nameless.getsockname() == ""


def test_the_kernel_gives_an_abstract_name_to_who_asks_for_any(path: Path, serve: Serve) -> None:
    serve(f"dgram:{path}")
    client = ask(f"dgram:{path}", "-v", "--from", "auto", "hello")
    assert client.stderr.startswith("our name: @")
    assert client.stdout == "HELLO\n"
    assert list(path.parent.iterdir()) == [path], "an abstract name is in no directory"


def test_a_datagram_client_takes_its_own_name_away_again(path: Path, serve: Serve) -> None:
    serve(f"dgram:{path}")
    assert f"our name: {path.parent}/client-" in ask(f"dgram:{path}", "-v", "hello").stderr
    assert list(path.parent.iterdir()) == [path]


def test_a_datagram_socket_takes_one_more_than_the_queue_length_and_then_makes_the_sender_wait(path: Path) -> None:
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as slow:
        slow.bind(str(path))
        assert ask(f"dgram:{path}", "--from", "nobody", "--fill", "x").stdout == f"{queue + 1}\n"
        slow.recv(1)
        assert ask(f"dgram:{path}", "--from", "nobody", "--fill", "x").stdout == "1\n"


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_an_empty_text_is_answered_and_ends_nothing(path: Path, serve: Serve, kind: str) -> None:
    serve(f"{kind}:{path}")
    client = finished("unixclient", f"{kind}:{path}", text="a\n\nb\n")
    assert (client.returncode, client.stdout, client.stderr) == (0, "A\n\nB\n", "")


def test_an_empty_record_is_told_from_the_end_of_file() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here:
        with there:
            for record in (b"", b"x", b""):
                there.send(record)
        assert here.recv(1, socket.MSG_PEEK) == b""
        assert [unixname.receive(here) for _ in range(4)] == [b"", b"x", b"", None]
        assert here.recv(1) == b"", "the same as for an empty record"


def test_a_client_does_not_take_the_end_of_file_for_an_empty_answer(path: Path) -> None:
    command = [sys.executable, str(PROGRAMS / "unixclient.py"), f"seqpacket:{path}", ""]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        server.listen()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            server.settimeout(SECONDS)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1) == b""
            assert client.communicate(timeout=SECONDS)[1].endswith("the server closed the connection\n")
    assert client.returncode == 111


@pytest.mark.parametrize("wish", ["-1", "0", "nan", "inf", "1e30", "86401", "soon"])
def test_a_wait_that_is_none_is_refused_as_wrong_usage(wish: str) -> None:
    refused = ask("stream:@nobody", "-w", wish, "x")
    assert refused.returncode == 100
    assert refused.stderr.endswith(f"{wish!r}: expected seconds, more than 0 and at most 86400\n")


def test_the_longest_wait_is_kept_to(path: Path, serve: Serve) -> None:
    serve(f"stream:{path}")
    assert ask(f"stream:{path}", "-w", "86400", "x").stdout == "X\n"


def test_a_client_waits_only_so_long(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        late = ask(f"stream:{path}", "-w", "0.1", "x")
    assert late.returncode == 111
    assert "no reply within 0.1 s" in late.stderr


def test_the_server_survives_clients_that_vanish_and_answers_the_next(path: Path, serve: Serve) -> None:
    server = serve(f"stream:{path}", f"dgram:{path}-d")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(path))
            rude.send(b"x" * 100_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rude:
        rude.bind(f"{path}-r")
        rude.sendto(b"x", f"{path}-d")
    assert ask(f"stream:{path}", "hello").stdout == "HELLO\n"
    assert ask(f"dgram:{path}-d", "hello").stdout == "HELLO\n"
    assert server.poll() is None


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
def test_newcomer_finds_a_place_among_silent_connections(path: Path, serve: Serve, kind: str) -> None:
    address = f"{kind}:{path}"
    server = serve(address)
    with contextlib.ExitStack() as on_exit:
        slow = [connected(address, on_exit) for _ in range(PLACES)]
        for client in [*slow, slow[0]]:  # a byte now and then; since the last of them, the second is silent longest
            client.send(b"x")
            assert client.recv(1) == b"X"
        assert ask(address, "newcomer").stdout == "NEWCOMER\n"
        assert slow.pop(1).recv(1) == b""
        for client in slow:
            client.send(b"y")
            assert client.recv(1) == b"Y"
        assert line_of_who_made_room(server).endswith(" bytes=1 (made room: 10 clients)")


def test_a_client_that_never_reads_makes_room_too(path: Path, serve: Serve) -> None:
    server = serve(f"stream:{path}")
    with contextlib.ExitStack() as on_exit:
        rude = connected(f"stream:{path}", on_exit)
        rude.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                rude.send(b"x" * 100_000)
        for _ in range(PLACES - 1):
            connected(f"stream:{path}", on_exit)
        assert ask(f"stream:{path}", "newcomer").stdout == "NEWCOMER\n"
        assert line_of_who_made_room(server)


def test_a_crowd_is_let_in_one_by_one_as_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "GRACE", float(SECONDS))
    places = bounds.Places()
    with contextlib.ExitStack() as on_exit:
        clients = [on_exit.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(PLACES + 1)]
        for client in clients[:PLACES]:
            places.enter(client)
        with ThreadPoolExecutor() as threads:
            entering = threads.submit(places.enter, clients[PLACES])
            assert not wait([entering], 0.1).done, "nobody had the time to ask"
            assert places.leave(clients[5])
            entering.result(SECONDS / 2)
        assert [places.leave(client) for client in clients] == [index != 5 for index in range(PLACES + 1)]


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_descriptors_that_clients_send_do_not_stay_with_the_server(path: Path, serve: Serve, kind: str) -> None:
    descriptors = Path(f"/proc/{serve(f'{kind}:{path}').pid}/fd")
    with contextlib.ExitStack() as on_exit:
        client = connected(f"{kind}:{path}", on_exit)
        counts = []
        for _ in range(3):
            socket.send_fds(client, [b"x"], [0, 1, 2])
            assert client.recv(1) == b"X"
            counts.append(len(list(descriptors.iterdir())))
    assert len(set(counts)) == 1, counts


def test_a_peer_s_name_is_logged_in_printable_characters(path: Path, serve: Serve) -> None:
    server = serve(f"dgram:{path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rude:
        rude.bind(b"\0\x1b[31m\nready")
        rude.settimeout(SECONDS)
        rude.sendto(b"x", str(path))
        assert rude.recv(10) == b"X"
    assert next_line(server).endswith(r"answered to @\x1b[31m\nready")


def test_a_flood_is_counted_in_the_log_instead_of_told(path: Path, serve: Serve) -> None:
    server = serve(f"dgram:{path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.settimeout(SECONDS)
        for _ in range(500):  # blocks when the server is behind: at most a few seconds' worth of lines
            flood.sendto(b"x", str(path))
    assert ask(f"dgram:{path}", "done").stdout == "DONE\n"
    server.terminate()
    assert server.stdout is not None
    assert len(server.stdout.readlines()) < 400


# Modes


@pytest.mark.parametrize("mode", ["600", "666"])
def test_the_socket_has_the_mode_that_was_asked_for(path: Path, serve: Serve, mode: str) -> None:
    serve("--mode", mode, f"stream:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)


def test_connecting_needs_the_right_to_write(path: Path, serve: Serve) -> None:
    serve("--mode", "444", f"stream:{path}")
    program = (
        "import os, socket, sys\n"
        "if os.getuid() == 0: os.setuid(1000)\n"  # root is never asked for a right
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except OSError as error: print(error.errno)\n"
        "else: print('connected')\n"
    )

    def connects() -> str:
        done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=SECONDS)
        return done.stdout.strip()

    for directory in [path.parent, *path.parent.parents][:3]:  # pytest's own are for their owner only
        directory.chmod(directory.stat().st_mode | 0o055)
    assert connects() == str(errno.EACCES)
    path.chmod(0o222)
    assert connects() == "connected"


def test_mknod_makes_a_name_that_nobody_answers(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o666)
    assert path.is_socket()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(path))
