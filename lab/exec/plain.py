"""Commands in any image, by the engine's own exec: what goes where no program of ours is.

Each takes the engine a program and this end a connection, where `lab.exec.hostexec` needs a frame. The engine can end
none: so each command has a MARK of its own in its environment, which what it starts inherits, and a program of the
toolbox, beside the host, finds and signals them (`lab.toolbox.ender`). That variable is all that a command can see of
it. What a command leaves in the background when it ends lives on; so does all of it when this process is killed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence

from lab import forks
from lab.engine.base import Engine, Exec, ExecState
from lab.errors import CommandError, CommandTimeout, HostError, LabError, UsageError
from lab.exec.remote import LEFT_BEHIND, OUTPUT_WINDOW, STDERR, STDOUT, RemoteProcess, check_words
from lab.waiting import Deadline, poll

MARK = "LAB_COMMAND"
"""Name of the variable in each command's environment."""
START_SECONDS = 10.0
"""For the engine to start a command."""
END_SECONDS = 10.0
"""For the engine to know the exit code of a command whose output is at its end."""
SLICE = 0.5
"""Seconds that one attempt to send may take; between two it is seen whether the command has ended."""

Signal = Callable[[str, int], int]
"""Send a signal, by its number, to what has NAME=VALUE in its environment; the first one's id, or 0 for none."""

_SIGNALS = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTRAP}
"""What 128 + n stands for beyond doubt, with those that were sent from here: a program may also exit so itself."""


class PlainProcess(RemoteProcess):
    """One command under way by the engine's exec."""

    def __init__(self, session: PlainSession, running: Exec, mark: str, argv: Sequence[str], began: float) -> None:
        super().__init__(argv, session.name)
        self.started_at = began
        self._session = session
        self._exec = running
        self._mark = mark
        self._pid: int | None = None
        self._held = 0  # bytes of output that nobody has read yet
        self._silent = True
        self._refusal: bytes | None = None
        self._sent: set[int] = set()  # signals
        self._reader = threading.Thread(target=self._read, name=f"exec-{self.host}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id inside the host, which takes a look from beside it; 0 for what could not be started."""
        if self._pid is None:
            self._pid = self._deliver(0) if self._wait_for_start() else 0
        return self._pid

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        rest = memoryview(data)
        while rest:
            self.check_alive()
            if self.status is not None:
                raise self._has_ended()
            try:
                rest = rest[self._exec.send(bytes(rest[:OUTPUT_WINDOW]), SLICE) :]
            except OSError as error:  # its end, of which the engine tells apart
                with self.news:
                    self.news.wait_for(lambda: self.over, END_SECONDS)
                self.check_alive()
                raise self._has_ended() from error
            if rest and deadline is not None and deadline.passed:
                raise CommandTimeout(f"`{self.argv[0]}` on {self.host} did not read its standard input in time")

    def _has_ended(self) -> CommandError:
        return CommandError(f"`{self.argv[0]}` on {self.host} has ended; nothing can be written to it")

    def close_stdin(self) -> None:
        if not self.over:
            self._exec.end_input()

    def signal(self, number: int) -> None:
        if self.over:
            return
        if threading.current_thread() is self._reader:  # which is needed meanwhile
            threading.Thread(target=self._signal_or_lose, args=(number,), name="signal", daemon=True).start()
        elif self._session.signal is None and number == signal.SIGKILL:
            self.abandon()
        elif self._wait_for_start():
            self._deliver(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def _signal_or_lose(self, number: int) -> None:
        try:
            self.signal(number)
        except LabError as error:
            self.lose(error.cause)

    def _deliver(self, number: int) -> int:
        """Send a signal; the first process's id. No matter if it ends meanwhile, when the id is 0."""
        with self.news:
            self._sent.add(number)
        try:
            found = self._session.signal(f"{MARK}={self._mark}", number) if self._session.signal else 0
        except LabError:
            if self._ends_now():
                return 0
            raise
        if not found and not self._ends_now():
            raise HostError(
                f"`{self.argv[0]}` on {self.host} cannot be found among the host's processes: "
                f"none has {MARK}={self._mark} in its environment",
                "A command that clears its environment can be ended inside only: docker exec, or docker restart.",
            )
        return found

    def _ends_now(self) -> bool:
        with self.news:
            return self.news.wait_for(lambda: self.over, 1.0)

    def _wait_for_start(self) -> bool:
        """Whether it could be started."""
        state: list[ExecState] = []

        def decided() -> bool:
            state[:] = [self._exec.state()]
            return state[0].started or not state[0].running

        if not poll(decided, Deadline.after(START_SECONDS)):
            raise CommandTimeout(
                f"`{self.argv[0]}` on {self.host} had not started after {START_SECONDS:g} s",
                "Is the host paused, or the engine stopped? lab status shows it.",
            )
        return state[0].started

    def took(self, size: int) -> None:
        with self.news:
            self._held -= size
            self.news.notify_all()

    def abandon(self) -> None:
        """Let go of it without ending it: it sees the end of its input, and nobody reads its output."""
        self._exec.end_input()
        self._exec.close()
        with self.news:
            if not self.over:
                self.end(-signal.SIGKILL)
            self.news.notify_all()

    def _read(self) -> None:
        reason = ""
        try:
            while not self.over and (pieces := self._exec.receive()):
                for stream, data in pieces:
                    self._take(stream, data)
        except OSError as error:
            reason = str(error)
        except LabError as error:
            reason = error.cause
        self._conclude(reason)
        self._exec.close()

    def _take(self, stream: int, data: bytes) -> None:
        if self._silent and stream == STDOUT and data.endswith(b"\r\n") and not self._exec.state().started:
            self._refusal = data  # the engine's own words
            return
        self._silent = False
        with self.news:
            # As at a pipe: who is ahead by so much waits.
            self.news.wait_for(lambda: self._held < OUTPUT_WINDOW or self._sink or self.over)
            if not self.over and not self.arrive(stream, data):
                self._held += len(data)
            self.news.notify_all()

    def _conclude(self, reason: str) -> None:
        states: list[ExecState] = []

        def ended() -> bool:
            states[:] = [self._exec.state()]
            return not states[0].running

        try:
            known = not self.over and poll(ended, Deadline.after(END_SECONDS))
        except LabError as error:
            known, reason = None, reason or error.cause
        with self.news:
            code = states[0].exit if known else None
            if self.over:
                pass
            elif code is None:
                self._lost = f"the connection to {self.host} has ended" + (f": {reason}" if reason else "")
            elif self._refusal is not None:
                text = " ".join(self._refusal.decode(errors="backslashreplace").split())
                self.arrive(STDERR, f"lab: {text}\n".encode())
                self.end(127 if _is_missing(text) else 126)
            else:
                self.end(self._status(code))
            self.news.notify_all()

    def _status(self, code: int) -> int:
        return 128 - code if code - 128 in _SIGNALS | self._sent else code


def _is_missing(text: str) -> bool:
    """Whether the engine could not start the program because there is none, in runc's words or in crun's."""
    return "chdir" not in text and ("executable file" in text or "no such file or directory" in text)


class PlainSession:
    """The commands of one container and user. Threads may share it."""

    def __init__(
        self, engine: Engine, container: str, user: str | None, name: str, signal: Signal | None = None
    ) -> None:
        """Without `signal`, as for programs that end with their input, commands are only let go of."""
        self.name = name
        self.signal = signal
        self._engine = engine
        self._container = container
        self._user = user
        self._closed = ""
        self._processes: weakref.WeakSet[PlainProcess] = weakref.WeakSet()
        self._state = threading.Lock()
        forks.note(self)

    @property
    def alive(self) -> bool:
        return not self._closed

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> PlainProcess:
        """As `lab.exec.remote.Session`; it returns when the engine has taken the command on."""
        words = [cwd or "", *argv, *(f"{name}={value}" for name, value in (env or {}).items())]
        check_words(argv, words)
        if any("\udc80" <= character <= "\udcff" for word in words for character in word):
            raise UsageError(
                f"words that are no UTF-8 cannot be passed to a command on {self.name}: {words!r}",
                "Pass such bytes on standard input.",
            )
        if self._closed:
            raise HostError(self._closed, f"lab status shows whether {self.name} runs.")
        began, mark = time.monotonic(), uuid.uuid4().hex
        environment = {**(env or {}), MARK: mark}
        running = self._engine.start_exec(self._container, argv, user=self._user, env=environment, cwd=cwd)
        process = PlainProcess(self, running, mark, argv, began)
        with self._state:
            self._processes.add(process)
        return process

    def close(self) -> None:
        with self._state:
            self._closed = self._closed or f"the connection to {self.name} has ended: closed"
            processes = list(self._processes)
        for process in processes:
            if not process.over:
                with contextlib.suppress(LabError):
                    process.kill()
                process.abandon()

    def start_afresh(self) -> None:
        self._state = threading.Lock()
        self._closed = LEFT_BEHIND.format(self.name)
