"""Packets as they were on a host's wire, decoded with scapy when they are looked at.

`lab.toolbox.sniffer` runs beside the host, in its network namespace; what it catches and how it ends is told there.
A capture is complete, or says at the end of its block that it is not.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from lab import forks
from lab.capture import checksums
from lab.errors import ExpectationFailed, HostError
from lab.exec.processes import Process
from lab.exec.remote import STDERR, Session
from lab.toolbox.image import program
from lab.waiting import Deadline

if TYPE_CHECKING:
    from scapy.packet import Packet

RING_BYTES = 32 << 20
"""Of the kernel's memory, while the capture runs: room for 200,000 small packets, or 600 segments of 46 KB."""
START_SECONDS = 10.0
END_SECONDS = 20.0
"""Without any news from a capture that is to end."""

_SAVEFILE, _RECORD = struct.Struct("<20xI"), struct.Struct("<IIII")
"""pcap-savefile(5): of its head the type of link; seconds, microseconds, bytes kept and bytes there were."""


class Capture:
    """A context manager; `packets` may be read while it runs and after it."""

    def __init__(self, session: Session, filter: str, interface: str, lossy: bool = False) -> None:
        """`interface` is a name or an address that it has; empty: the only one, or all of several."""
        self.dropped = 0
        """Packets that the kernel had no room for (pcap_stats(3)), known at the end of the block; on lo, each may
        count twice."""
        self._session = session
        self._filter = filter
        self._interface = interface
        self._lossy = lossy
        self._arrived = bytearray()
        self._link: int | None = None
        self._frames: list[tuple[float, bytes, int]] = []
        self._packets: list[Packet] = []
        self._decoding = threading.Lock()
        self._complaint = b""
        self._listening = False
        self._ended = False
        self._news = threading.Condition()

    @property
    def packets(self) -> list[Packet]:
        """The packets so far, oldest first, each with its `time`.

        A checksum of UDP or TCP that the sender left to its network card is completed, as the card would have done.
        """
        with self._news:
            there = len(self._frames)
        return self._decoded(there)

    def wait_for(self, wanted: Callable[[Packet], object], timeout: float = 5.0) -> Packet:
        """The first packet, those already seen included, for which `wanted` is true.

        A packet that lacks the layer that `wanted` looks at does not count. Raises ExpectationFailed after `timeout`
        seconds, HostError when the capture itself has broken off.
        """
        deadline = Deadline.after(timeout)
        looked = 0
        over = False
        while not over:
            with self._news:
                while len(self._frames) == looked and not self._ended and self._news.wait(deadline.remaining):
                    pass
                there, over = len(self._frames), self._ended or deadline.passed
            for packet in self._decoded(there)[looked:]:
                if _matches(packet, wanted):
                    return packet
            looked = there
        if self._ended and not self._counts():
            raise self._broken_off()
        last = [packet.summary() for packet in self.packets[-5:]]
        raise ExpectationFailed(
            f"no such packet on {self._session.name} within {timeout:g} s among {looked} "
            f"({self._filter or 'no filter'})",
            f"The last were: {'; '.join(last) or 'none'}",
        )

    def __enter__(self) -> Capture:
        words = program("sniffer", self._interface, self._filter, str(RING_BYTES))
        self._process = Process(self._session.start(words), collect=False)
        threading.Thread(target=self._feed, name="capture", daemon=True).start()
        forks.note(self)
        with self._news:
            self._news.wait_for(lambda: self._listening or self._ended, START_SECONDS)
            if self._listening:
                return self
        self._process.kill()
        raise HostError(
            f"no capture on {self._session.name}: {self._said() or 'it did not start'}",
            "The filter is in the words of pcap-filter(7), such as: udp port 4444 and host 192.168.1.20",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._process.close_stdin()
                self._await_end()
        finally:
            self._process.kill()
        if kind is None:
            self._require_all()

    def start_afresh(self) -> None:
        threading.Condition.__init__(self._news)  # in its place: who waits has it
        self._decoding = threading.Lock()
        self._ended = True

    def _await_end(self) -> None:
        with self._news:
            while not self._ended:
                if not self._news.wait(END_SECONDS):
                    break

    def _require_all(self) -> None:
        """Raise HostError for a capture that lacks something, or may."""
        counted = self._counts()
        if not counted:
            raise self._broken_off()
        self.dropped, cut = int(counted[1]), int(counted[2])
        if not self._lossy and (self.dropped or cut):
            raise HostError(
                f"the capture on {self._session.name} is not complete: of {len(self._frames) + self.dropped} packets "
                f"the kernel dropped {self.dropped}, and {cut} are cut short",
                "Narrow its filter, or send slower; with lossy=True, `dropped` tells how many are missing.",
            )

    def _counts(self) -> re.Match[str] | None:
        """What a capture says at its proper end: packets dropped and cut."""
        return re.search(r"^(\d+) dropped, (\d+) cut$", self._said(), re.MULTILINE)

    def _broken_off(self) -> HostError:
        return HostError(
            f"the capture on {self._session.name} broke off before its end: {self._said() or 'not a word'}",
            "What it lacks cannot be known; run the test again.",
        )

    def _said(self) -> str:
        return self._complaint.decode(errors="backslashreplace").strip().removeprefix("listening\n")

    def _feed(self) -> None:
        try:
            for stream, data in self._process.chunks():
                with self._news:
                    if stream == STDERR:
                        self._complaint += data
                        self._listening = self._listening or self._complaint.startswith(b"listening\n")
                    else:
                        self._take(data)
                    self._news.notify_all()
        except HostError as error:
            self._complaint += error.cause.encode()
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _take(self, data: bytes) -> None:
        self._arrived += data
        at = 0
        if self._link is None and len(self._arrived) >= _SAVEFILE.size:
            (self._link,) = _SAVEFILE.unpack_from(self._arrived)
            at = _SAVEFILE.size
        while self._link is not None and len(self._arrived) - at >= _RECORD.size:
            seconds, microseconds, kept, length = _RECORD.unpack_from(self._arrived, at)
            start, end = at + _RECORD.size, at + _RECORD.size + kept
            if len(self._arrived) < end:
                break
            self._frames.append((seconds + microseconds / 1e6, bytes(self._arrived[start:end]), length))
            at = end
        del self._arrived[:at]

    def _decoded(self, count: int) -> list[Packet]:
        """The first `count` packets."""
        with self._decoding:
            while len(self._packets) < count:
                self._packets.append(_packet(self._link, *self._frames[len(self._packets)]))
            return self._packets[:count]


def _packet(link: int | None, time: float, frame: bytes, length: int) -> Packet:
    import scapy.layers.all  # noqa: F401 - tells scapy the layers
    from scapy.config import conf

    whole = checksums.completed(frame, link)
    try:
        packet = conf.l2types.num2layer[link](whole)
    except Exception:  # as scapy's own readers: what cannot be decoded is shown as it is
        packet = conf.raw_layer(whole)
    packet.time = time
    packet.wirelen = length
    return packet


def _matches(packet: Packet, wanted: Callable[[Packet], object]) -> bool:
    try:
        return bool(wanted(packet))
    except IndexError as error:
        if re.fullmatch(r"Layer \[.*\] not found", str(error)):  # as scapy says it
            return False
        raise
