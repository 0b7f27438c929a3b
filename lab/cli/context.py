"""Where a command gets its lab from; tests hand out one over a fake engine here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.compose import Compose
from lab.settings import load as load_settings

if TYPE_CHECKING:
    from lab.lab import Lab


def open_lab(compose: Compose | None = None) -> Lab:
    """The lab around the working directory; a context manager."""
    from lab.lab import Lab

    return Lab(compose=compose)


@contextmanager
def open_lab_for_up() -> Iterator[Lab]:
    """The same for who is going to call its `up`: what that needs is imported while Compose loads, not before."""
    compose = Compose(load_settings())
    with compose.loading_early(), open_lab(compose) as lab:
        yield lab
