"""Where a command gets its lab from; tests hand out one over a fake engine here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.lab import Lab


def open_lab() -> Lab:
    """The lab around the working directory; a context manager."""
    from lab.lab import Lab
    from lab.progress import Lines

    lab = Lab()
    lab.aside = Lines()
    return lab
