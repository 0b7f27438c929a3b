"""Which network interface is meant: found in the network namespace that this runs in, and waited for where it is named.

A word says which: a name; an IPv4 address that it has; or nothing, for the only one there is beside lo.
"""

import contextlib
import fcntl
import re
import socket
import struct
import threading
import time

SECONDS = 5.0
"""For one that comes late, since somebody else connects the host."""

_FLAGS, _ADDRESS, _UP = 0x8913, 0x8915, 1  # SIOCGIFFLAGS, SIOCGIFADDR, IFF_UP: netdevice(7)


class NoInterface(Exception):
    """Its text says which, and what there is instead."""


def chosen(word: str, *, several: str = "any", seconds: float = SECONDS) -> str:
    """Its name. Without a word: lo where there is no other, `several` where there is more than one."""
    if not word:
        others = [name for name in there() if name != "lo" and _is_up(name)]
        return others[0] if len(others) == 1 else several if others else "lo"
    if word in ("any", "lo"):
        return word
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (found := _named(word)):
        if time.monotonic() > deadline:
            what = "no interface has it" if _is_address(word) else "No such device, or it is not up"
            raise NoInterface(f"{word}: {what}, after {seconds:g} s; there are: {', '.join(there())}")
        pause.wait(0.05)
    return found


def there() -> list[str]:
    """Names, in the kernel's order."""
    return [name for _, name in socket.if_nameindex()]


def _named(word: str) -> str | None:
    if _is_address(word):
        return next((name for name in there() if _address(name) == word), None)
    return word if word in there() and _is_up(word) else None


def _is_address(word: str) -> bool:
    return bool(re.fullmatch(r"\d+\.\d+\.\d+\.\d+", word))


def _asked(name: str, request: int) -> bytes:
    """The kernel's answer about an interface, behind its name; empty where there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        return fcntl.ioctl(asking, request, struct.pack("16s24x", name.encode()))[16:]
    return b""


def _is_up(name: str) -> bool:
    flags = _asked(name, _FLAGS)
    return bool(flags and struct.unpack_from("=h", flags)[0] & _UP)


def _address(name: str) -> str:
    answer = _asked(name, _ADDRESS)
    return socket.inet_ntoa(answer[4:8]) if answer else ""
