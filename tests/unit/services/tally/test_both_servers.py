"""What the two servers have in common: one suite for both."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from contextlib import suppress

import pytest

from lab.waiting import Deadline, poll
from tests.unit.services.tally.loopback import (
    ENVIRONMENT,
    PATIENCE,
    Client,
    both,
    program,
    scripted_server,
)


@both
def test_words_are_counted_from_hello_to_bye(way, start, new_client):
    one = new_client(start(way))
    one.hello()
    assert one.ask(b"three words here\n") == b"+1 line, 3 words\n"
    assert one.ask(b"two more\n") == b"+2 lines, 5 words\n"
    assert one.ask(b"bye\n") == b"+bye, 2 lines, 5 words\n"
    assert poll(one.is_forgotten, Deadline.after(PATIENCE))


@both
def test_answer_leaves_from_the_address_that_was_asked(way, start):
    """RFC 1123, 2.3: a connected client hears nobody else. The kernel's own choice for loopback is 127.0.0.1."""
    server = start(way)
    for asked in ("127.0.0.1", "127.0.0.77", "127.0.0.78"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.connect((asked, server.port))
            client.send(b"one line\n")
            assert client.recv(100) == b"-unknown, say hello first\n"
            client.send(b"hello\n")
            client.connect((asked, int(client.recv(100).removeprefix(b"+port "))))
            client.send(b"three words here\n")
            assert client.recv(100) == b"+1 line, 3 words\n"


@both
def test_client_that_says_hello_to_two_addresses_is_served_at_both(way, start):
    server = start(way)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        for asked in ("127.0.0.77", "127.0.0.78"):
            client.sendto(b"hello\n", (asked, server.port))
            answer, source = client.recvfrom(100)
            assert source == (asked, server.port)
            there = (asked, int(answer.removeprefix(b"+port ")))
            client.sendto(b"", there)
            assert client.recvfrom(100) == (b"+0 lines, 0 words\n", there)


@both
@pytest.mark.parametrize("end", [b"\0", b"\n\0", b"\r\n"])
def test_line_of_a_program_that_sends_the_nul_of_its_string_is_a_line(way, end, start, new_client):
    """A C program sends strlen + 1 bytes as often as strlen."""
    one = new_client(start(way))
    port = int(re.fullmatch(rb"\+port (\d+)\n", one.knock(b"hello" + end))[1])  # type: ignore[index]
    one.sock.connect(("127.0.0.1", port))
    assert one.ask(b"two words" + end) == b"+1 line, 2 words\n"
    assert one.ask(end) == b"+1 line, 2 words\n"
    assert one.ask(b"one\0" + end) == b"+2 lines, 3 words\n"  # one NUL is an end; another is a byte of the line
    assert one.ask(b"bye" + end) == b"+bye, 2 lines, 3 words\n"


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
