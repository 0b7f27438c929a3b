"""A host that is a script: the other end of a `lab.exec.hostexec.Session`, without any process."""

from __future__ import annotations

import queue
from collections.abc import Callable

from lab.exec.hostexec import Decoder, Frame, frame


class FakeHost:
    """A transport whose far end answers each frame as `script` says, by calls of `say`; silent without one.

    `heard` holds all frames that arrived.
    """

    complaint = b""

    def __init__(
        self, script: Callable[[FakeHost, Frame], None] = lambda host, heard: None, window: int = 65536
    ) -> None:
        self.heard: list[Frame] = []
        self._script = script
        self._decoder = Decoder()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.say(b"H", 0, (1).to_bytes(4, "big") + window.to_bytes(4, "big"))

    def say(self, kind: bytes, number: int, payload: bytes | int = b"") -> None:
        """A frame from the host; a number stands for its four bytes."""
        data = payload.to_bytes(4, "big", signed=payload < 0) if isinstance(payload, int) else payload
        self._answers.put(frame(kind, number, data))

    def vanish(self) -> None:
        """The connection ends."""
        self._answers.put(b"")

    def send(self, data: bytes) -> None:
        for heard in self._decoder.feed(data):
            self.heard.append(heard)
            self._script(self, heard)

    def recv(self, size: int) -> bytes:
        return self._answers.get()

    def close(self) -> None:
        self.vanish()
