"""What a capture makes of its sniffer's words; the sniffer itself is tried in tests/live/test_capture.py."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from lab.capture.capture import Capture
from lab.errors import ExpectationFailed, HostError
from lab.exec.hostexec import Frame, Session
from tests.unit.fake_hostexec import FakeHost

HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
FRAME = bytes(Ether() / IP(dst="192.168.1.20") / UDP(dport=4444) / b"hi")
Say = Callable[[bytes, bytes], None]
"""Type of a frame, and what it holds."""


def record(frame: bytes = FRAME, length: int | None = None) -> bytes:
    return struct.pack("<IIII", 7, 500_000, len(frame), length or len(frame)) + frame


@contextmanager
def sniffer(at_once: list[tuple[bytes, bytes]], at_the_end: list[tuple[bytes, bytes]]) -> Iterator[Session]:
    """A host whose sniffer says this when it is started, and that when its standard input ends."""

    def script(host: FakeHost, heard: Frame) -> None:
        kind, number, _ = heard
        for letter, data in {b"R": at_once, b"E": at_the_end}.get(kind, []):
            host.say(letter, number, data)
        if kind in b"K":
            host.say(b"X", number, -9)

    with Session(FakeHost(script), "client") as session:
        yield session


LISTENS = [(b"2", b"listening\n"), (b"1", HEAD)]
ENDS = (b"X", bytes(4))


def test_packets_are_decoded_however_they_arrive() -> None:
    said = HEAD + record() + record(bytes(Ether() / ARP()))
    pieces = [(b"1", said[at : at + 7]) for at in range(0, len(said), 7)]
    with (
        sniffer([(b"2", b"listening\n"), *pieces], [(b"2", b"0 dropped, 0 cut\n"), ENDS]) as session,
        Capture(session, "", "eth0") as wire,
    ):
        pass
    first, second = wire.packets
    assert (first[UDP].dport, float(first.time), first.wirelen) == (4444, 7.5, len(FRAME))
    assert ARP in second
    assert wire.packets[0] is first


def test_what_the_kernel_dropped_is_an_error_unless_it_may_be() -> None:
    ending = [(b"1", record()), (b"2", b"3 dropped, 1 cut\n"), ENDS]
    with (
        sniffer(LISTENS, ending) as session,
        pytest.raises(HostError, match="on client is not complete: of 4 packets the kernel dropped 3, and 1 are cut"),
        Capture(session, "", "eth0") as wire,
    ):
        pass
    assert wire.dropped == 3
    with sniffer(LISTENS, ending) as session, Capture(session, "", "eth0", lossy=True) as wire:
        pass
    assert (wire.dropped, len(wire.packets)) == (3, 1)


def test_a_sniffer_that_ends_without_its_count_has_broken_off() -> None:
    with (
        sniffer(LISTENS, [(b"2", b"eth0: Network is down\n"), ENDS]) as session,
        pytest.raises(HostError, match="on client broke off before its end: eth0: Network is down"),
        Capture(session, "", "eth0"),
    ):
        pass


def test_an_error_of_the_block_is_not_hidden_by_the_captures_own() -> None:
    with (
        sniffer(LISTENS, [ENDS]) as session,
        pytest.raises(ZeroDivisionError),
        Capture(session, "", "eth0"),
    ):
        _ = 1 / 0


def test_a_sniffer_that_does_not_start_says_why() -> None:
    with (
        sniffer([(b"2", b"can't parse filter expression: syntax error\n"), ENDS], []) as session,
        pytest.raises(HostError, match="no capture on client: can't parse filter expression: syntax error\nThe filter"),
        Capture(session, "udp portt 7", "eth0"),
    ):
        pass


def test_the_predicates_own_mistakes_go_out_and_a_missing_layer_does_not() -> None:
    said = [*LISTENS, (b"1", record(bytes(Ether() / ARP())) + record())]
    with (
        sniffer(said, [(b"2", b"0 dropped, 0 cut\n"), ENDS]) as session,
        Capture(session, "udp", "eth0") as wire,
    ):
        assert wire.wait_for(lambda packet: packet[UDP].dport == 4444)[UDP].dport == 4444
        with pytest.raises(AttributeError, match="dprot"):
            wire.wait_for(lambda packet: packet[UDP].dprot == 4444)
        with pytest.raises(IndexError, match="list index out of range"):
            wire.wait_for(lambda packet: [][0])
        with pytest.raises(ExpectationFailed, match=r"no such packet on client within 0 s among 2 \(udp\)"):
            wire.wait_for(lambda packet: packet[UDP].dport == 1, timeout=0)


def test_who_waits_for_a_packet_is_told_when_the_capture_has_ended() -> None:
    with sniffer([*LISTENS, ENDS], []) as session:
        wire = Capture(session, "", "eth0").__enter__()
        with pytest.raises(HostError, match="broke off before its end"):
            wire.wait_for(lambda packet: True, timeout=60)
