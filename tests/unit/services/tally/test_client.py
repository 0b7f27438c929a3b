"""The client program, where lines and answers are lost, late or doubled, and whatever it is fed."""

from __future__ import annotations

import subprocess

import pytest

from tests.unit.services.tally.loopback import (
    ENVIRONMENT,
    both,
    program,
    scripted_server,
)


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
