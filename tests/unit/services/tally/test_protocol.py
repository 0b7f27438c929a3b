"""Whom the servers answer, and how often."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest


@pytest.mark.usefixtures("modules")
def test_may_answer():
    from tally_protocol import may_answer

    assert may_answer(b"hello\n", ("192.168.1.10", 5000), 4446)
    assert may_answer(b"", ("192.168.1.10", 1024), 4446)
    for port in (0, 1, 7, 13, 19, 1023, 4446):
        assert not may_answer(b"hello\n", ("192.168.1.10", port), 4446)


class Outbox(list):
    """Stands for a socket: keeps what is sent, as (client, text)."""

    def sendmsg(self, text: list[bytes], _ancillary: object, _flags: int, client: tuple[str, int]) -> None:
        self.append((client, text[0]))


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("pause", [0, 0.06, 3, 3600])
def test_partner_is_refused_so_often_in_a_row_and_no_more_however_slow_it_is(pause, monkeypatch):
    import tally_protocol

    clock = count(step=pause)
    monkeypatch.setattr(tally_protocol, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    partner, sent = ("192.168.1.20", 4444), Outbox()
    answerer = tally_protocol.Answerer(sent, lambda *_: None)
    for _ in range(1000):
        answerer.refuse(partner, "-unknown", "192.168.1.21")
    assert sent == 20 * [(partner, b"-unknown\n")]
    if pause:
        answerer.refuse(("192.168.1.20", 4445), "-unknown", "192.168.1.21")
        assert len(sent) == 21, "another client is not concerned"
        answerer.answer(partner, "+port 4446", "192.168.1.21")
        answerer.refuse(partner, "-unknown", "192.168.1.21")
        assert len(sent) == 23, "after a hello the client is refused as before"


@pytest.mark.usefixtures("modules")
def test_what_is_kept_of_refused_clients_is_bounded(monkeypatch):
    import tally_protocol

    clock = count()
    monkeypatch.setattr(tally_protocol, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    answerer = tally_protocol.Answerer(Outbox(), lambda *_: None)
    for port in range(1024, 5000):
        answerer.refuse(("192.168.1.20", port), "-unknown", "192.168.1.21")
    assert len(answerer.refused) == 1024
    assert next(reversed(answerer.refused)) == ("192.168.1.20", 4999)
