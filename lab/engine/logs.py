"""Waiting for a line in a host's log."""

from __future__ import annotations

import re
import threading
from types import TracebackType

from lab.engine.base import Engine
from lab.errors import ExpectationFailed, LabError
from lab.waiting import Deadline


class LogReader:
    """Follows one log from a moment on; the waiting ends by the line itself, not by looking again and again."""

    def __init__(self, engine: Engine, container: str, since: float) -> None:
        self._stream = engine.logs(container, since=since, follow=True)
        self._text = ""
        self._ended = False
        self._lost: LabError | None = None
        self._news = threading.Condition()
        threading.Thread(target=self._read, name="log-reader", daemon=True).start()

    def _read(self) -> None:
        try:
            for chunk in self._stream:
                with self._news:
                    self._text += chunk.decode(errors="backslashreplace")
                    self._news.notify_all()
        except LabError as error:
            self._lost = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def expect(self, pattern: str, timeout: float, host: str) -> re.Match[str]:
        """The first match; ExpectationFailed after `timeout` seconds, or as soon as the log has ended without one.

        MachineError when the engine broke off.
        """
        wanted = re.compile(pattern, re.MULTILINE)
        deadline = Deadline.after(timeout)
        with self._news:
            self._news.wait_for(lambda: wanted.search(self._text) or self._ended, deadline.remaining)
            if match := wanted.search(self._text):
                return match
            if self._lost:
                raise self._lost
            last = self._text.splitlines()[-5:]
        raise ExpectationFailed(
            f"the log of {host} had no {pattern!r} within {timeout:g} s; it had: {' | '.join(last) or 'nothing'}",
            f"lab logs {host} shows the whole log.",
        )

    def close(self) -> None:
        """End it; who waits for a line is told at once that there is none."""
        self._stream.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
