"""The caller's end of services/base/hostexec.c: many commands in one host, over one stream of frames.

That program's head comment defines the frames, the flow control and what becomes of a command when its caller
vanishes. Nothing here knows of an engine: a `Transport` is all it takes.

One thread a session reads; it never waits for anything but the transport, so no command holds up another. The
program reads its input always, so sending (by whichever thread) cannot wait for long.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence

from lab import forks
from lab.engine.base import Transport
from lab.errors import CommandError, CommandTimeout, UsageError
from lab.exec.remote import LEFT_BEHIND, OUTPUT_WINDOW, STDERR, RemoteProcess, check_words
from lab.waiting import Deadline

VERSION = 1
MAX_PAYLOAD = 1 << 18
START_SECONDS = 10.0
"""For the host to say that it has started a command."""

_HEADER = struct.Struct(">IcI")
_RUN = struct.Struct(">IHH")
_NOT_FOUND = 2
"""ENOENT on Linux, which every host runs, whatever this machine does."""

Frame = tuple[bytes, int, bytes]
"""Type, id of the command, payload."""


def frame(kind: bytes, command: int, payload: bytes = b"") -> bytes:
    """One frame as it goes over the wire."""
    return _HEADER.pack(len(payload), kind, command) + payload


def run_payload(argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> bytes:
    """What a run frame holds; UsageError for words that no command can be given."""
    environment = [f"{name}={value}" for name, value in (env or {}).items()]
    words = [cwd or "", *argv, *environment]
    check_words(argv, words)
    strings = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    if len(strings) + _RUN.size > MAX_PAYLOAD or len(words) > 1 << 14:
        raise UsageError(
            f"the command has {len(words)} words of {len(strings)} bytes in all; a host takes 16,383 of {MAX_PAYLOAD}",
            "Pass large data on standard input.",
        )
    return _RUN.pack(OUTPUT_WINDOW, len(argv), len(environment)) + strings


class Decoder:
    """Cuts a stream of bytes into frames, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`; ValueError where the stream cannot be one of frames."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            length, kind, command = _HEADER.unpack_from(self._buffer)
            if length > MAX_PAYLOAD:
                said = " ".join(self._buffer[:200].decode(errors="backslashreplace").split())
                raise ValueError(f"instead of a frame came: {said}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield kind, command, payload


class HostexecProcess(RemoteProcess):
    """One command under way in a host, as the wire tells of it."""

    def __init__(self, session: Session, number: int, argv: Sequence[str]) -> None:
        super().__init__(argv, session.name)
        self._session = session
        self._number = number
        self._pid: int | None = None
        self._untold = 0  # bytes of output taken that the host has not been told of
        self._sent = 0  # bytes of input that the host has not taken

    @property
    def pid(self) -> int:
        """The process id inside the host; 0 for what could not be started. CommandTimeout where nothing answers."""
        with self.news:
            started = self.news.wait_for(lambda: self._pid is not None or self.over, START_SECONDS)
            self.check_alive()
            if not started:
                raise CommandTimeout(
                    f"`{self.argv[0]}` on {self.host} had not started after {START_SECONDS:g} s",
                    "Is the host paused, or the engine stopped? lab status shows it.",
                )
            return self._pid or 0

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        rest = memoryview(data)
        while rest:
            with self.news:
                room = self._wait_for_room(deadline)
                part = bytes(rest[: min(room, MAX_PAYLOAD)])
                self._sent += len(part)
            self._session.send(frame(b"I", self._number, part))
            rest = rest[len(part) :]

    def _wait_for_room(self, deadline: Deadline | None) -> int:
        def ready() -> bool:
            return self.over or self._session.input_window > self._sent

        if not self.news.wait_for(ready, None if deadline is None else deadline.remaining):
            raise CommandTimeout(f"`{self.argv[0]}` on {self.host} did not read its standard input in time")
        self.check_alive()
        if self.status is not None:
            raise CommandError(f"`{self.argv[0]}` on {self.host} has ended; nothing can be written to it")
        return self._session.input_window - self._sent

    def close_stdin(self) -> None:
        if not self.over:
            self._session.send(frame(b"E", self._number))

    def signal(self, number: int) -> None:
        if not self.over:
            self._session.send(frame(b"K", self._number, bytes([number])))

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def took(self, size: int) -> None:
        # A quarter of the window at a time, so that few such frames are under way; _untold is held by `news`,
        # since the reading thread and a thread that attaches may both be here.
        with self.news:
            self._untold += size
            if self._untold < OUTPUT_WINDOW // 4 or self.over:
                return
            size, self._untold = self._untold, 0
        self._session.send(frame(b"C", self._number, size.to_bytes(4, "big")))

    def obey(self, kind: bytes, payload: bytes) -> None:
        """Take in a frame from the host; called by the thread that reads."""
        taken = 0
        with self.news:
            if kind in b"12":
                if self.arrive(int(kind), payload):
                    taken = len(payload)
            elif kind == b"P":
                self._pid = int.from_bytes(payload, "big")
            elif kind == b"C":
                self._sent -= int.from_bytes(payload, "big")
            elif kind == b"F":
                self._fail(int.from_bytes(payload[:4], "big"), payload[4:])
            elif kind == b"X":
                self.end(int.from_bytes(payload, "big", signed=True))
            else:
                raise ValueError(f"unknown frame {kind!r}")
            self.news.notify_all()
        if taken:
            self.took(taken)

    def _fail(self, error: int, text: bytes) -> None:
        # As a shell: 127 for what is not there, 126 for what cannot be run; and the reason on standard error.
        self.arrive(STDERR, b"lab: " + text + b"\n")
        self.end(127 if error == _NOT_FOUND and text.startswith(b"exec") else 126)


class Session:
    """The commands of one host and user, over one transport. Threads may share it."""

    def __init__(self, transport: Transport, name: str = "host", program: str = "hostexec") -> None:
        """`program` is the path at the transport's other end, for errors."""
        self.name = name
        self._program = program
        self.input_window = 0  # until the program has said how much input each command may be sent ahead
        self._transport = transport
        self._processes: dict[int, HostexecProcess] = {}
        self._numbers = itertools.count(1)
        self._lost: str | None = None
        self._state = threading.Lock()  # for _processes and _lost
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name=f"hostexec-{name}", daemon=True)
        self._reader.start()
        forks.note(self)

    @property
    def alive(self) -> bool:
        """False once the connection has ended; a new one is needed then."""
        return self._lost is None

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> HostexecProcess:
        """Have the command started, and do not wait until it is.

        `env` adds to the container's environment. A command that cannot be started ends with exit code 127 or 126
        and the reason on its standard error.
        """
        payload = run_payload(argv, env, cwd)
        process = HostexecProcess(self, next(self._numbers) & 0xFFFFFFFF, argv)
        with self._state:
            if self._lost is not None:
                process.lose(self._lost)
            else:
                self._processes[process._number] = process
        process.check_alive()
        self.send(frame(b"R", process._number, payload))
        return process

    def close(self) -> None:
        """End the connection; what still runs of its commands is killed in the host."""
        self._lose("closed")
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=5)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send whole frames. A lost connection is no error here: each wait for an answer tells of it."""
        # What is lost is told to the processes only after the lock is given back: one of them may be waiting for it.
        try:
            with self._sending:
                if self.alive:
                    self._transport.send(data)
        except OSError as error:
            self._lose(str(error))
        except BaseException:
            # Ctrl-C in the middle of a frame: what follows it would not be understood.
            self._lose("interrupted while sending")
            raise

    def _read(self) -> None:
        decoder = Decoder()
        reason = ""
        try:
            while data := self._transport.recv(1 << 16):
                for kind, number, payload in decoder.feed(data):
                    self._dispatch(kind, number, payload)
        except (OSError, ValueError, struct.error) as error:
            reason = str(error)
        self._lose(reason)

    def _dispatch(self, kind: bytes, number: int, payload: bytes) -> None:
        if not self.input_window:
            version, window = struct.unpack(">II", payload) if kind == b"H" else (0, 0)
            if version != VERSION:
                raise ValueError(f"its {self._program} speaks version {version} of the protocol, this is {VERSION}")
            self.input_window = window
            with self._state:
                waiting = list(self._processes.values())
            for process in waiting:  # to write, perhaps
                with process.news:
                    process.news.notify_all()
            return
        with self._state:
            known = self._processes.pop(number, None) if kind in b"XF" else self._processes.get(number)
        if known:
            known.obey(kind, payload)

    def start_afresh(self) -> None:
        self._state, self._sending = threading.Lock(), threading.Lock()
        self._lost = LEFT_BEHIND.format(self.name)

    def _lose(self, reason: str) -> None:
        complaint = self._transport.complaint.decode(errors="backslashreplace").strip()
        text = "; ".join(part for part in (reason, complaint) if part)
        with self._state:
            if self._lost is None:
                self._lost = f"the connection to {self.name} has ended" + (f": {text}" if text else "")
            orphans = list(self._processes.values())
            self._processes.clear()
        for process in orphans:
            process.lose(self._lost)
        with contextlib.suppress(OSError):
            self._transport.close()
