"""Commands inside a host as users and tests hold them: `Process` while it runs, `Completed` when it has ended."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.errors import CommandError, CommandFailed, CommandTimeout, ExpectationFailed, UsageError
from lab.exec.remote import STDERR, STDOUT, Chunk, RemoteProcess
from lab.waiting import Deadline

OUTPUT_LIMIT = 64 << 20
"""Bytes of output that a `Process` keeps; a command that writes more is killed, and its waits raise CommandFailed."""

KILL_SECONDS = 2.0
"""How long a killed command is given to be seen dead; longer only where its host is paused, and it dies later."""

_SHOWN = 300


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    argv: tuple[str, ...]
    exit: int
    """0 to 255; 128 + n when signal n killed it; 127 when it does not exist and 126 when it cannot be run."""
    stdout: bytes
    stderr: bytes
    elapsed: float
    """Seconds from the call that started it to the news of its end."""
    signal: str | None = None
    """Name of the signal that killed it, such as "KILL"."""
    host: str = ""

    @property
    def text(self) -> str:
        """Its standard output as text; bytes that are no UTF-8 appear as escapes."""
        return self.stdout.decode(errors="backslashreplace")

    def check(self) -> Completed:
        """Itself, if its exit code is 0; otherwise raise CommandFailed with what it wrote."""
        if self.exit == 0:
            return self
        how = f"was killed by SIG{self.signal}" if self.signal else f"ended with exit code {self.exit}"
        raise CommandFailed(
            f"{_title(self.argv, self.host)} {how}: {_excerpt(self.stderr or self.stdout)}",
            "Its standard error, or its output, is quoted above.",
            stdout=self.stdout,
            stderr=self.stderr,
        )


class Process:
    """A command that runs in a host; as a context manager it is killed at the end of the block.

    Its output is kept as it comes (at most OUTPUT_LIMIT bytes), whether or not anyone looks. With `collect=False`
    nothing is kept, and the command waits for who reads `chunks`.
    """

    def __init__(self, remote: RemoteProcess, *, collect: bool = True, limit: int = OUTPUT_LIMIT) -> None:
        self.argv = remote.argv
        self._remote = remote
        self._news = remote.news
        self._output = {stream: bytearray() for stream in (STDOUT, STDERR)}
        self._left = limit
        self._limit = limit
        self._consumed = 0
        self._collect = collect
        if collect:
            remote.attach(self._keep)

    def __repr__(self) -> str:
        return f"<Process {_title(self.argv, self._remote.host)} status={self._remote.status}>"

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process id inside the host; 0 if it could not be started."""
        return self._remote.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as is known here."""
        return not self._remote.over

    @property
    def stdout(self) -> bytes:
        """All it has written to standard output so far."""
        with self._news:
            return bytes(self._output[STDOUT])

    @property
    def stderr(self) -> bytes:
        """All it has written to standard error so far."""
        with self._news:
            return bytes(self._output[STDERR])

    def write(self, data: bytes, timeout: float | None = 10.0) -> None:
        """Send bytes to its standard input.

        Raises CommandError when it has ended, CommandTimeout when it leaves too much unread for `timeout` seconds.
        """
        self._remote.write(data, None if timeout is None else Deadline.after(timeout))

    def close_stdin(self) -> None:
        """End its standard input; no matter if it has ended."""
        self._remote.close_stdin()

    def communicate(self, input: bytes = b"", timeout: float | None = 10.0) -> Completed:
        """Send `input` as all its standard input and wait for its end, both within `timeout` seconds.

        A command may end without reading all of it. Raises CommandTimeout, with the command killed, at the deadline.
        """
        deadline = None if timeout is None else Deadline.after(timeout)
        try:
            self._remote.write(input, deadline)
            self.close_stdin()
        except CommandTimeout:
            pass  # told by wait, with the output
        except CommandError:
            pass  # it ended before it had read all
        return self._wait(deadline, timeout)

    def expect(self, pattern: bytes | str | re.Pattern[bytes], timeout: float = 5.0) -> re.Match[bytes]:
        """The first match in the standard output that no earlier `expect` has consumed; consumes up to its end.

        Raises ExpectationFailed after `timeout` seconds (the command goes on), or at once when it has ended without.
        """
        regex = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        deadline = Deadline.after(timeout)
        with self._news:
            while True:
                unread = bytes(self._output[STDOUT][self._consumed :])
                if match := regex.search(unread):
                    self._consumed += match.end()
                    return match
                self._remote.check_alive()
                if self._remote.over or deadline.passed:
                    break
                self._news.wait(deadline.remaining)
            over = self._remote.over
            errors = bytes(self._output[STDERR])
        title = _title(self.argv, self._remote.host)
        when = f"ended (exit code {_exit(self._remote.status)})" if over else f"waited {timeout:g} s"
        cause = f"{title} {when} without {regex.pattern!r} in its output: {_excerpt(unread)}"
        if errors:
            cause += f"; standard error: {_excerpt(errors)}"
        raise ExpectationFailed(cause)

    def chunks(self, timeout: float | None = None) -> Iterator[Chunk]:
        """Its output as it comes, as (1 or 2, bytes), to its end; for a process made with `collect=False`.

        Raises CommandTimeout after `timeout` seconds in all; the command goes on.
        """
        return self._remote.chunks(None if timeout is None else Deadline.after(timeout))

    def wait(self, timeout: float | None = 10.0) -> Completed:
        """Wait for its end. After `timeout` seconds it is killed with all it started, and CommandTimeout raised."""
        return self._wait(None if timeout is None else Deadline.after(timeout), timeout)

    def _wait(self, deadline: Deadline | None, timeout: float | None) -> Completed:
        with self._news:
            ended = self._news.wait_for(lambda: self._remote.over, None if deadline is None else deadline.remaining)
        if not ended:
            self.kill()
            raise CommandTimeout(
                f"{_title(self.argv, self._remote.host)} had not ended after {timeout:g} s and was killed; "
                f"its output ends with: {_excerpt(self.stderr or self.stdout)}",
                "Give it more time (timeout=), or find what it waits for.",
                stdout=self.stdout,
                stderr=self.stderr,
            )
        self._remote.check_alive()
        if self._left < 0:
            raise CommandFailed(
                f"{_title(self.argv, self._remote.host)} wrote more than {self._limit:,} bytes and was killed",
                "Read its output as it comes: collect=False and chunks().",
                stdout=self.stdout,
                stderr=self.stderr,
            )
        status, ended_at = self._remote.status, self._remote.ended_at
        assert status is not None
        assert ended_at is not None
        return Completed(
            argv=self.argv,
            exit=_exit(status),
            stdout=self.stdout,
            stderr=self.stderr,
            elapsed=ended_at - self._remote.started_at,
            signal=_signal_name(-status) if status < 0 else None,
            host=self._remote.host,
        )

    def signal(self, name: str) -> None:
        """Send a signal, by a name such as "INT", to its process group; no matter if it has ended."""
        known = {number.name.removeprefix("SIG"): number for number in signal.Signals}
        wanted = name.upper().removeprefix("SIG")
        if wanted not in known:
            raise UsageError(f'no signal "{name}"', f"Signals: {', '.join(known)}")
        self._remote.signal(known[wanted])

    def kill(self) -> None:
        """End it and all it started, and return when that is seen to have happened; no matter if it has ended.

        Output that nobody has taken from `chunks` yet is dropped.
        """
        if not self._collect:
            self._remote.attach(lambda _stream, _data: None)  # its end is told only after its output
        self._remote.kill()
        with self._news:
            self._news.wait_for(lambda: self._remote.over, KILL_SECONDS)

    def _keep(self, stream: int, data: bytes) -> None:
        """Called by the thread that reads, under `_news`."""
        if self._left < 0:
            return
        self._output[stream] += data[: self._left]
        self._left -= len(data)
        if self._left < 0:
            self._remote.kill()


def _exit(status: int | None) -> int:
    return 128 - status if status is not None and status < 0 else status or 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # a real-time signal
        return str(number)


def _title(argv: Sequence[str], host: str) -> str:
    return f"`{shlex.join(argv)}`" + (f" on {host}" if host else "")


def _excerpt(data: bytes) -> str:
    """The end of some output on one line."""
    lines = data[-_SHOWN:].decode(errors="backslashreplace").split("\n")
    return ("…" if len(data) > _SHOWN else "") + " | ".join(line for line in lines if line.strip()) or "(nothing)"
