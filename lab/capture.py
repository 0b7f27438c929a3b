"""Packets as they were on a host's wire, decoded with scapy while they come in.

tcpdump runs beside the host, in its network namespace. The kernel hands packets to it in order, so a capture ends by
sending a marker frame (the local experimental EtherType 0x88B5 of IEEE 802) from the same place: once the marker has
been read, so has everything before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from lab.errors import HostError
from lab.hostexec import STDERR, Session
from lab.processes import Process
from lab.waiting import Deadline

if TYPE_CHECKING:
    from scapy.packet import Packet

MARKER_TYPE = 0x88B5
SNAPLEN = "9216"
"""Bytes kept of a packet: more than a network card of the lab sends, while the ring below holds 3,000 of them."""
RING_KIB = "32768"
START_SECONDS = 10.0
END_SECONDS = 20.0
"""Decoding some ten thousand packets on a busy machine takes that long; nothing waits once it is done."""

_SEND_MARKER = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((sys.argv[1], 0))
raw.send(bytes(12) + bytes.fromhex(sys.argv[2]) + bytes(46))
"""


class Capture:
    """A context manager; `packets` may be read while it runs and after it."""

    def __init__(self, session: Session, filter: str, interface: str) -> None:
        self._session = session
        self._filter = filter
        self._interface = interface
        self._stream = _Stream()
        self._packets: list[Packet] = []
        self._complaint = b""
        self._listening = False
        self._marked = False
        self._ended = False
        self._news = threading.Condition()

    @property
    def packets(self) -> list[Packet]:
        """The packets so far, oldest first, each with its `time`."""
        with self._news:
            return list(self._packets)

    def wait_for(self, wanted: Callable[[Packet], object], timeout: float = 5.0) -> Packet:
        """The first packet, those already seen included, for which `wanted` is true.

        A packet that lacks the layer that `wanted` looks at does not count. Raises HostError after `timeout` seconds.
        """
        deadline = Deadline.after(timeout)
        looked = 0
        hits: list[Packet] = []

        def seen() -> bool:
            nonlocal looked
            while looked < len(self._packets) and not hits:
                if _matches(self._packets[looked], wanted):
                    hits.append(self._packets[looked])
                looked += 1
            return bool(hits) or self._ended

        with self._news:
            self._news.wait_for(seen, deadline.remaining)
            last = [packet.summary() for packet in self._packets[-5:]]
        if not hits:
            raise HostError(
                f"no such packet on {self._session.name} within {timeout:g} s among {looked} "
                f"({self._filter or 'no filter'})",
                f"The last were: {'; '.join(last) or 'none'}",
            )
        return hits[0]

    def __enter__(self) -> Capture:
        import scapy.layers.all  # noqa: F401 - tells scapy the layers before the reader meets a packet

        words = ["tcpdump", "-i", self._interface, "-U", "--immediate-mode", "-s", SNAPLEN, "-B", RING_KIB, "-w", "-"]
        if self._filter:
            words.append(f"({self._filter}) or ether proto {MARKER_TYPE:#x}")
        self._process = Process(self._session.start(words), collect=False)
        threading.Thread(target=self._feed, name="capture-feed", daemon=True).start()
        threading.Thread(target=self._decode, name="capture-decode", daemon=True).start()
        with self._news:
            self._news.wait_for(lambda: self._listening or self._ended, START_SECONDS)
            if self._listening:
                return self
        self._process.kill()
        complaint = self._complaint.decode(errors="backslashreplace").strip()
        raise HostError(
            f"no capture on {self._session.name}: {complaint or 'tcpdump did not start'}",
            "The filter is in the words of pcap-filter(7), such as: udp port 4444 and host 192.168.1.20",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._ended:
                self._await_marker()
        finally:
            self._process.kill()
            with self._news:
                self._news.wait_for(lambda: self._ended, END_SECONDS)

    def _await_marker(self) -> None:
        interface = "eth0" if self._interface == "any" else self._interface
        words = ["python3", "-c", _SEND_MARKER, interface, f"{MARKER_TYPE:04x}"]
        Process(self._session.start(words)).communicate().check()
        with self._news:
            self._news.wait_for(lambda: self._marked or self._ended, END_SECONDS)
            if not self._marked:
                raise HostError(
                    f"the capture on {self._session.name} went deaf before its end: {self._complaint!r}",
                    "What it lacks cannot be known; run the test again.",
                )

    def _feed(self) -> None:
        try:
            for stream, data in self._process.chunks():
                if stream == STDERR:
                    with self._news:
                        self._complaint += data
                        self._listening = self._listening or b"listening on" in self._complaint
                        self._news.notify_all()
                else:
                    self._stream.put(data)
        except HostError as error:
            self._complaint += error.cause.encode()
        finally:
            self._stream.end()

    def _decode(self) -> None:
        from scapy.error import Scapy_Exception
        from scapy.utils import PcapReader

        try:
            for packet in PcapReader(self._stream):
                with self._news:
                    if _is_marker(packet):
                        self._marked = True
                    else:
                        self._packets.append(packet)
                    self._news.notify_all()
        except (EOFError, Scapy_Exception):
            pass  # ended before its first packet
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()


class _Stream:
    """A pipe in memory between the two threads, as a file that scapy reads."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended = False
        self._news = threading.Condition()
        self.name = "capture"

    def put(self, data: bytes) -> None:
        with self._news:
            self._buffer += data
            self._news.notify_all()

    def end(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()

    def read(self, size: int) -> bytes:
        with self._news:
            self._news.wait_for(lambda: len(self._buffer) >= size or self._ended)
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            return data

    def close(self) -> None:
        self.end()


def _is_marker(packet: Packet) -> bool:
    return bool(getattr(packet, "type", None) == MARKER_TYPE or getattr(packet, "proto", None) == MARKER_TYPE)


def _matches(packet: Packet, wanted: Callable[[Packet], object]) -> bool:
    try:
        return bool(wanted(packet))
    except (IndexError, AttributeError):
        return False
