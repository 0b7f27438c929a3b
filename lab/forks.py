"""What a child made by fork must not share with its parent: connections, and locks that the parent's threads may hold.

A child has only the thread that forked. Bytes that it sends on an inherited connection would go in between those of
the parent, and a lock that another thread held at that moment is never given back.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    def start_afresh(self) -> None:
        """In the child: take new locks, and let go of what is the parent's without doing anything to it."""


_known: weakref.WeakSet[Inherited] = weakref.WeakSet()


def note(thing: Inherited) -> None:
    """Have its `start_afresh` called in each child that is forked while it lives."""
    _known.add(thing)


def _in_child() -> None:
    for thing in list(_known):
        thing.start_afresh()


os.register_at_fork(after_in_child=_in_child)
