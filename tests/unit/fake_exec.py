"""A command by the engine's exec that is a script: the far end of a `lab.exec.plain.PlainProcess`."""

from __future__ import annotations

import queue
from collections.abc import Sequence

from lab.engine.base import ExecState


class FakeExec:
    """Runs until `end`; what it is sent is in `input`."""

    def __init__(self, *, started: bool = True) -> None:
        self.input = b""
        self.input_ended = False
        self.closed = False
        self.room = 1 << 20
        """Bytes that can be sent until somebody reads them."""
        self.gone: Exception | None = None
        """What asking for its state raises."""
        self._started = started
        self._exit: int | None = None
        self._running = True
        self._pieces: queue.SimpleQueue[list[tuple[int, bytes]]] = queue.SimpleQueue()

    def say(self, stream: int, data: bytes) -> None:
        self._pieces.put([(stream, data)])

    def end(self, code: int | None, *, started: bool = True) -> None:
        self._running, self._exit, self._started = False, code, started
        self._pieces.put([])

    def send(self, data: bytes, seconds: float) -> int:
        if not self._running:
            raise BrokenPipeError(32, "Broken pipe")
        taken = data[: self.room]
        self.room -= len(taken)
        self.input += taken
        return len(taken)

    def end_input(self) -> None:
        self.input_ended = True

    def receive(self) -> Sequence[tuple[int, bytes]]:
        return self._pieces.get()

    def state(self) -> ExecState:
        if self.gone:
            raise self.gone
        return ExecState(self._running, self._started, self._exit)

    def close(self) -> None:
        self.closed = True
        self._pieces.put([])
