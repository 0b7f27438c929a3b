"""Which entries of BuildKit's cache came of building the lab, as far as the engine's list of them tells.

An entry names no project and no image. It tells the instruction it came of, and the entries it stands upon; so an
instruction of the lab's Dockerfiles upon nothing but such instructions and an image is taken for the lab's, and what
others have built upon the same image is not. What was built of a Dockerfile that has been changed since is not
recognised, nor are the copies of build folders, a few kilobytes each, which all look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from lab.engine.images import CacheEntry

_STEP = re.compile(r"mount / from exec /bin/sh -c (?P<run>.*)|\[[^]]*\d+/\d+\] (?P<other>.*)", re.DOTALL)
_CONTINUED = re.compile(r"\\\n(?:[ \t]*#.*\n)*")
_FLAGS = re.compile(r"(?:--\S+\s+)*")
_IMAGE = ("", "from local")
"""What an entry says that holds a layer of an image of this engine: with images kept by containerd, and else."""


def instructions(dockerfile: str) -> set[str]:
    """Those that leave an entry, as its description tells them: a RUN without its first word and flags."""
    found = set()
    for line in _CONTINUED.sub("", dockerfile).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "RUN":
            found.add(_plain(_FLAGS.sub("", rest.strip(), count=1)))
        elif word.upper() in ("COPY", "ADD", "WORKDIR"):
            found.add(_plain(f"{word.upper()} {rest}"))
    return found


def own(entries: Iterable[CacheEntry], steps: set[str]) -> list[str]:
    """The ids of the entries that came of these instructions, each before what it stands upon."""
    by_id = {entry.id: entry for entry in entries}
    ours = [id for id in _from_the_root(by_id) if _came_of(by_id[id], steps)]
    own = {id for id in ours if all(above in ours or _is_image(by_id.get(above)) for above in _all_above(id, by_id))}
    # Layers of the lab's images, upon which nobody else has built.
    below: dict[str, set[str]] = {}
    for entry in by_id.values():
        for parent in entry.parents:
            below.setdefault(parent, set()).add(entry.id)
    leaves_first = list(reversed(_from_the_root(by_id)))
    for id in leaves_first:
        if _is_image(by_id[id]) and below.get(id) and below[id] <= own:
            own.add(id)
    return [id for id in leaves_first if id in own]


def _came_of(entry: CacheEntry, steps: set[str]) -> bool:
    match = _STEP.fullmatch(entry.description)
    return match is not None and _plain(match["run"] or match["other"] or "") in steps


def _is_image(entry: CacheEntry | None) -> bool:
    return entry is not None and entry.description.strip() in _IMAGE


def _plain(text: str) -> str:
    return " ".join(text.split())


def _all_above(id: str, by_id: Mapping[str, CacheEntry]) -> set[str]:
    found: set[str] = set()
    ahead = list(by_id[id].parents)
    while ahead:
        if (parent := ahead.pop()) not in found:
            found.add(parent)
            ahead += by_id[parent].parents if parent in by_id else ()
    return found


def _from_the_root(by_id: Mapping[str, CacheEntry]) -> Sequence[str]:
    """All ids, each after what it stands upon."""
    return sorted(by_id, key=lambda id: len(_all_above(id, by_id)))
