"""Debian 12's smallest file system, built from its packages for where no registry hands out an image of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from lab.errors import MachineError

LEFT_OUT = ("man/*", "doc/*", "locale/*", "info/*", "lintian/*")
"""Below /usr/share; no host needs them, and they are two fifths of the whole. Licences stay."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
LONGEST_SILENCE = 300.0
"""Seconds without a word from the builder after which it is given up; a fetch that hangs is the likely cause."""

_CAUSES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "Make room in /tmp (or set TMPDIR), then repeat.",
    ),
    (
        r"mounted with noexec or nodev",
        "no file system can be built in /tmp, which is mounted noexec or nodev",
        "Name another folder: export TMPDIR=/var/tmp, then repeat.",
    ),
    (
        r"Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|Connection failed"
        r"|Network is unreachable|Connection timed out|Connection refused|Failed getting release file",
        "Debian's packages cannot be fetched",
        "Look at this machine's network (behind a proxy: export http_proxy), or name an image in LAB_BASE.",
    ),
    (
        r"NO_PUBKEY|is not signed|no valid OpenPGP|Release signed by unknown key|keyring",
        "the keys that Debian's packages are checked with are missing",
        "Install them: sudo apt-get install debian-archive-keyring.",
    ),
    (
        r"unshare|unable to pick chroot mode|newuidmap|subuid|user namespace"
        r"|as root|requires? root|only root|not permitted",
        "an ordinary user may not build a file system on this machine",
        "As root, once: make lab-up. Or allow it: sudo apt-get install mmdebstrap uidmap. Or set LAB_BASE to an image.",
    ),
)


class Builder:
    """mmdebstrap, or debootstrap where that is what there is. As a context it ends its processes with the block.

    Either writes the archive to a pipe and keeps its working files to itself, so that nothing stays, whatever ends it.
    """

    def __init__(self) -> None:
        if shutil.which("mmdebstrap"):
            self.tool, self._command = "mmdebstrap", _mmdebstrap()
        elif shutil.which("debootstrap"):
            script = Path(__file__).with_name("debootstrap.sh")
            self.tool, self._command = "debootstrap", ["sh", str(script), *LEFT_OUT]
        else:
            raise MachineError(
                "the base image is not here, no registry is in reach, and there is no builder of it",
                "Install one: sudo apt-get install mmdebstrap. Or name an image of Debian 12 in LAB_BASE.",
            )
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=200)

    def __enter__(self) -> Builder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
        if self._listener:
            self._listener.join(5)
        if process.stdout:
            process.stdout.close()

    def tar(self, say: Callable[[str], None]) -> Iterator[bytes]:
        """The archive, in chunks, with extended attributes (file capabilities). `say` is told what it is at.

        It ends only when the builder has ended well; else MachineError comes instead of the end.
        """
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            # A session of its own: Ctrl-C reaches it through __exit__, which waits until it has cleaned up.
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(f"{self.tool} cannot be started: {error}", "Mend that, or set LAB_BASE.") from error
        assert process.stdout
        assert process.stderr
        alarm = _Alarm(LONGEST_SILENCE, lambda: os.killpg(process.pid, signal.SIGTERM))
        self._listener = listener = threading.Thread(
            target=self._listen, args=(process.stderr, say, alarm), daemon=True
        )
        listener.start()
        try:
            while chunk := os.read(process.stdout.fileno(), 1 << 16):  # what has come, however little
                alarm.postpone()
                yield chunk
            status = process.wait()
            listener.join()
        finally:
            alarm.cancel()
        if status:
            raise self._explanation(status, alarm.rang)

    def _listen(self, stream: IO[bytes], say: Callable[[str], None], alarm: _Alarm) -> None:
        with stream:
            for raw in stream:
                alarm.postpone()
                for line in re.split(r"[\r\n]+", raw.decode(errors="backslashreplace")):
                    if line.strip():
                        self._lines.append(line.strip())
                        if line.startswith("I: "):
                            say(line[3:])

    def _explanation(self, status: int, silent: bool) -> MachineError:
        last = " | ".join([line for line in self._lines if not line.startswith("I: ")][-4:] or ["it said nothing"])
        if silent:
            return MachineError(
                f"{self.tool} had nothing to say for {LONGEST_SILENCE:.0f} s and was ended ({last})",
                "Look at this machine's network, then repeat; or name an image in LAB_BASE.",
            )
        text = "\n".join(self._lines)
        for pattern, cause, remedy in _CAUSES:
            if re.search(pattern, text, re.IGNORECASE):
                return MachineError(f"the base image cannot be built: {cause} ({self.tool}: {last})", remedy)
        return MachineError(
            f"the base image cannot be built: {self.tool} failed with exit code {status} ({last})",
            f"See what {self.tool} lacks, or name an image of Debian 12 in LAB_BASE.",
        )


def _mmdebstrap() -> list[str]:
    words = ["mmdebstrap", "--variant=minbase", "--format=tar"]
    words += [f"--dpkgopt=path-exclude=/usr/share/{pattern}" for pattern in LEFT_OUT]
    words += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    if Path(MERGED_USR).is_dir():
        words += [f"--hook-dir={MERGED_USR}", "--include=usr-is-merged"]
    if Path(KEYRING).is_file():
        words += [f"--keyring={KEYRING}"]  # on Ubuntu, apt does not trust Debian's keys of itself
    return [*words, "bookworm", "-"]


class _Alarm:
    """Calls `ring` once nobody has postponed it for so many seconds."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ring = ring
        self._changed = threading.Event()
        self._over = False
        self.rang = False
        threading.Thread(target=self._watch, name="silence", daemon=True).start()

    def postpone(self) -> None:
        self._changed.set()

    def cancel(self) -> None:
        self._over = True
        self._changed.set()

    def _watch(self) -> None:
        while self._changed.wait(self._seconds):
            self._changed.clear()
            if self._over:
                return
        self.rang = True
        with contextlib.suppress(ProcessLookupError):
            self._ring()
