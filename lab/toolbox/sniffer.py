"""Runs beside a host, in its network namespace: writes what libpcap catches there to standard output, as it comes.

    python3 sniffer.py INTERFACE FILTER RING      (lab/toolbox/interfaces.py; RING: bytes of the kernel's memory)

Standard output is a pcap-savefile(5). The kernel packs frames of any length into its ring (TPACKET_V3), so whole
segments of 64 KB fit, and a small packet takes no more than it has. (tcpdump can either do that and hand on what it has
once a second, or hand it on at once from slots that are all as large as the largest frame.) A thread of its own writes:
a slow reader fills memory, not the ring.

At the end of standard input all that was under way is caught first. The kernel keeps packets in order, so a frame with
a mark (of the local experimental EtherType 0x88B5 of IEEE 802) follows them, which the filter lets through and nobody
else gets. Standard error has `listening` when it does, and at last how many packets the kernel had no room for
(pcap_stats(3)) and how many are not whole.

Exits 0; 100 when there is no such interface or the filter is none; 111 when it ended untimely.
"""

import ctypes
import os
import queue
import socket
import struct
import sys
import threading
from typing import NoReturn

from lab.toolbox.interfaces import NoInterface, chosen

SNAPLEN = 262144  # bytes: the largest that libpcap takes; segmentation offload makes frames of 64 KB and more
TIMEOUT = 10  # milliseconds that the kernel may hold a packet back, to hand over several
COOKED = 276  # LINKTYPE_LINUX_SLL2, for several interfaces at once
MARKER_TYPE = 0x88B5
MARK = b"datagram-lab capture"  # how the frames of all captures begin, each then with a token of its own
TOKEN = MARK + os.urandom(16)
HOPS = 4  # queues that a packet may have to pass yet: the sender's, the router's two, the receiver's


class Header(ctypes.Structure):
    """struct pcap_pkthdr"""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("kept", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


class Statistics(ctypes.Structure):
    """struct pcap_stat"""

    _fields_ = (("received", ctypes.c_uint), ("dropped", ctypes.c_uint), ("dropped_by_card", ctypes.c_uint))


class Program(ctypes.Structure):
    """struct bpf_program"""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Header), ctypes.c_void_p)


def give_up(status: int, reason: str) -> NoReturn:
    print(reason, file=sys.stderr, flush=True)
    os._exit(status)


def opened(pcap: ctypes.CDLL, interface: str, words: str, ring: int) -> ctypes.c_void_p:
    """A capture that has begun."""
    pcap.pcap_create.restype = ctypes.c_void_p
    pcap.pcap_geterr.restype = pcap.pcap_statustostr.restype = ctypes.c_char_p
    complaint = ctypes.create_string_buffer(256)
    handle = ctypes.c_void_p(pcap.pcap_create(interface.encode(), complaint))
    if not handle:
        give_up(100, complaint.value.decode())
    pcap.pcap_set_snaplen(handle, SNAPLEN)
    pcap.pcap_set_promisc(handle, int(interface != "any"))
    pcap.pcap_set_timeout(handle, TIMEOUT)
    pcap.pcap_set_buffer_size(handle, ring)
    status = pcap.pcap_activate(handle)
    if status < 0:
        reason = pcap.pcap_geterr(handle) or pcap.pcap_statustostr(status)
        give_up(100, f"{interface}: {reason.decode()}")
    if interface == "any":
        pcap.pcap_set_datalink(handle, COOKED)
    if words:
        # The marker's term first: a word such as `vlan` moves the offsets of all that stand behind it.
        text, program = f"ether proto {MARKER_TYPE:#x} or ({words})", Program()
        if (
            pcap.pcap_compile(handle, ctypes.byref(program), text.encode(), 1, 0xFFFFFFFF) < 0
            or pcap.pcap_setfilter(handle, ctypes.byref(program)) < 0
        ):
            give_up(100, pcap.pcap_geterr(handle).decode())
    return handle


def mark(interface: str, text: bytes) -> tuple[socket.socket, bytes]:
    """A socket, and a frame for it that goes to the interface itself: a bridge would pass on any other."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((interface, MARKER_TYPE))
    own = raw.getsockname()[4]
    return raw, own + own + MARKER_TYPE.to_bytes(2, "big") + text.ljust(46, b"\0")


def settle() -> None:
    """Return when all that was sent until now has arrived: a frame to oneself comes last in a processor's queue."""
    raw, frame = mark("lo", MARK)
    raw.settimeout(1)
    for processor in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {processor})
        for _ in range(HOPS):
            try:
                raw.send(frame)
                raw.recv(len(frame))
            except OSError:
                pass  # no room in the queue, so what was in it has been passed on since; or lo is down


def finish(interface: str, over: threading.Event) -> None:
    sys.stdin.buffer.read()
    try:
        settle()
        raw, frame = mark("lo" if interface == "any" else interface, TOKEN)
        raw.send(frame)
        while not over.wait(0.2):  # there was no room for it
            raw.send(frame)
    except OSError as error:
        give_up(111, f"{interface}: {error.strerror}")


def write(pieces: "queue.SimpleQueue[bytes]") -> None:
    while piece := pieces.get():
        sys.stdout.buffer.write(piece)
        if pieces.empty():
            sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()


def main(word: str, words: str, ring: str) -> None:
    try:
        interface = chosen(word)
    except NoInterface as error:
        give_up(100, str(error))
    pcap = ctypes.CDLL("libpcap.so.0.8")
    handle = opened(pcap, interface, words, int(ring))
    pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    over = threading.Event()
    cut = 0

    def caught(_: int, header: "ctypes._Pointer[Header]", data: int) -> None:
        nonlocal cut
        about = header.contents
        frame = ctypes.string_at(data, about.kept)
        if TOKEN in frame[:80]:
            over.set()
        elif MARK not in frame[:80] and not over.is_set():
            cut += about.kept < about.length
            pieces.put(struct.pack("<IIII", about.seconds, about.microseconds, about.kept, about.length) + frame)

    pieces.put(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAPLEN, pcap.pcap_datalink(handle)))
    writer = threading.Thread(target=write, args=(pieces,))
    writer.start()
    threading.Thread(target=finish, args=(interface, over), daemon=True).start()
    print("listening", file=sys.stderr, flush=True)
    handler = Handler(caught)
    while not over.is_set():
        if pcap.pcap_dispatch(handle, -1, handler, None) < 0:
            give_up(111, f"{interface}: {pcap.pcap_geterr(handle).decode()}")
    pieces.put(b"")
    writer.join()
    counted = Statistics()
    pcap.pcap_stats(handle, ctypes.byref(counted))
    print(f"{counted.dropped} dropped, {cut} cut", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
