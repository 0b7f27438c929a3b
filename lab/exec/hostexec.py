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
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from lab import forks
from lab.engine.base import Transport
from lab.errors import CommandError, CommandTimeout, HostError, UsageError
from lab.waiting import Deadline

PROGRAM = "/usr/libexec/lab/hostexec"
"""Where the base image holds the program."""

VERSION = 1
MAX_PAYLOAD = 1 << 18
OUTPUT_WINDOW = 1 << 18
"""Bytes of output that a command may be ahead of who reads it."""
START_SECONDS = 10.0
"""For the host to say that it has started a command."""

_HEADER = struct.Struct(">IcI")
_RUN = struct.Struct(">IHH")
_LEFT_BEHIND = "the connection to {} is that of the process that forked this one"
_NOT_FOUND = 2
"""ENOENT on Linux, which every host runs, whatever this machine does."""

STDOUT, STDERR = 1, 2
Chunk = tuple[int, bytes]
"""STDOUT or STDERR, and some bytes of it, never empty."""
Frame = tuple[bytes, int, bytes]
"""Type, id of the command, payload."""


def frame(kind: bytes, command: int, payload: bytes = b"") -> bytes:
    """One frame as it goes over the wire."""
    return _HEADER.pack(len(payload), kind, command) + payload


def run_payload(argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> bytes:
    """What a run frame holds; UsageError for words that no command can be given."""
    environment = [f"{name}={value}" for name, value in (env or {}).items()]
    words = [cwd or "", *argv, *environment]
    if not argv or isinstance(argv, str):
        raise UsageError(f"a command is a list with at least one word, such as ['nc', '-u'], not {argv!r}")
    if any("\0" in word for word in words):
        raise UsageError(f"a NUL character cannot be passed to a command: {words!r}")
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


class RemoteProcess:
    """One command under way in a host, as the wire tells of it. `lab.exec.processes.Process` is what users hold.

    Its output is read either chunk by chunk (`chunks`), when the command waits for a slow reader as it would at a
    pipe, or by a `sink`, which gets each chunk at once.
    """

    def __init__(self, session: Session, number: int, argv: Sequence[str]) -> None:
        self.argv = tuple(argv)
        self.host = session.name
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        self.status: int | None = None
        """Exit code, or minus the signal that killed it; None while it runs."""
        self.news = threading.Condition()
        """Notified at each chunk, credit and change of state."""
        self._session = session
        self._number = number
        self._pid: int | None = None
        self._lost: str | None = None
        self._chunks: deque[Chunk] = deque()
        self._sink: Callable[[int, bytes], None] | None = None
        self._untold = 0  # bytes of output taken that the host has not been told of
        self._sent = 0  # bytes of input that the host has not taken
        forks.note(self)

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

    @property
    def over(self) -> bool:
        """Whether it has ended, or the connection to it has."""
        return self.status is not None or self._lost is not None

    def check_alive(self) -> None:
        """Raise HostError if the connection ended before the command did."""
        if self.status is None and self._lost is not None:
            raise HostError(self._lost, f"lab status shows whether it runs, lab logs {self.host} what it said last.")

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        """Send bytes to its standard input; waits while too many of them are still unread there.

        Raises CommandError when it has ended, CommandTimeout (without harm to the command) at the deadline.
        """
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
        """End its standard input; no matter if it has ended."""
        if not self.over:
            self._session.send(frame(b"E", self._number))

    def signal(self, number: int) -> None:
        """Send a signal to its process group (SIGKILL: to all of its session); no matter if it has ended."""
        if not self.over:
            self._session.send(frame(b"K", self._number, bytes([number])))

    def kill(self) -> None:
        """End it and all that it started, for certain."""
        self.signal(signal.SIGKILL)

    def chunks(self, deadline: Deadline | None = None) -> Iterator[Chunk]:
        """Its output as it comes, to the end of it; CommandTimeout (without harm to the command) at the deadline."""
        while True:
            with self.news:
                if not self.news.wait_for(
                    lambda: self._chunks or self.over, None if deadline is None else deadline.remaining
                ):
                    raise CommandTimeout(f"`{self.argv[0]}` on {self.host} had not ended in time")
                if not self._chunks:
                    self.check_alive()
                    return
                chunk = self._chunks.popleft()
            yield chunk
            self._took(len(chunk[1]))

    def attach(self, sink: Callable[[int, bytes], None]) -> None:
        """Hand all output to `sink`, under `news`, from the thread that reads; it must not wait for anything."""
        with self.news:
            self._sink = sink
            taken = 0
            while self._chunks:
                chunk = self._chunks.popleft()
                taken += len(chunk[1])
                sink(*chunk)
        self._took(taken)

    def _took(self, size: int) -> None:
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
                stream = int(kind)
                if self._sink:
                    self._sink(stream, payload)
                    taken = len(payload)
                else:
                    self._chunks.append((stream, payload))
            elif kind == b"P":
                self._pid = int.from_bytes(payload, "big")
            elif kind == b"C":
                self._sent -= int.from_bytes(payload, "big")
            elif kind == b"F":
                self._fail(int.from_bytes(payload[:4], "big"), payload[4:])
            elif kind == b"X":
                self._end(int.from_bytes(payload, "big", signed=True))
            else:
                raise ValueError(f"unknown frame {kind!r}")
            self.news.notify_all()
        if taken:
            self._took(taken)

    def _fail(self, error: int, text: bytes) -> None:
        # As a shell: 127 for what is not there, 126 for what cannot be run; and the reason on standard error.
        message = b"lab: " + text + b"\n"
        if self._sink:
            self._sink(STDERR, message)
        else:
            self._chunks.append((STDERR, message))
        self._end(127 if error == _NOT_FOUND and text.startswith(b"exec") else 126)

    def _end(self, status: int) -> None:
        self.ended_at = time.monotonic()
        self.status = status

    def start_afresh(self) -> None:
        threading.Condition.__init__(self.news)  # in its place, since others hold it, too
        self._lost = _LEFT_BEHIND.format(self.host)

    def lose(self, reason: str) -> None:
        """Note that nothing more will come."""
        with self.news:
            self._lost = reason
            self.news.notify_all()


class Session:
    """The commands of one host and user, over one transport. Threads may share it."""

    def __init__(self, transport: Transport, name: str = "host") -> None:
        self.name = name
        self.input_window = 0  # until the program has said how much input each command may be sent ahead
        self._transport = transport
        self._processes: dict[int, RemoteProcess] = {}
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
    ) -> RemoteProcess:
        """Have the command started, and do not wait until it is.

        `env` adds to the container's environment. A command that cannot be started ends with exit code 127 or 126
        and the reason on its standard error.
        """
        payload = run_payload(argv, env, cwd)
        process = RemoteProcess(self, next(self._numbers) & 0xFFFFFFFF, argv)
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
                raise ValueError(f"its {PROGRAM} speaks version {version} of the protocol, this is {VERSION}")
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
        self._lost = _LEFT_BEHIND.format(self.name)

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
