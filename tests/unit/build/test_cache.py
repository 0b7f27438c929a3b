"""Whose an entry of the build cache is. The texts are those that BuildKit 0.29 gave for the lab's own Dockerfiles."""

from __future__ import annotations

import pytest

from lab.build.cache import instructions, own
from lab.engine.images import CacheEntry

DOCKERFILE = """
FROM datagram-lab/base AS compile
LABEL lab.stage=compile
COPY *.c *.h ./
RUN --mount=type=cache,target=/x gcc -O2 -Wall \\
# why that
    -o pinger *.c

from datagram-lab/base
copy --from=compile /home/lab/pinger /usr/local/bin/
WORKDIR /srv
"""
RUN = "mount / from exec /bin/sh -c gcc -O2 -Wall     -o pinger *.c"
STEPS = instructions(DOCKERFILE)


def test_instructions_are_told_as_an_entry_tells_them() -> None:
    assert {
        "gcc -O2 -Wall -o pinger *.c",
        "COPY *.c *.h ./",
        "COPY --from=compile /home/lab/pinger /usr/local/bin/",
        "WORKDIR /srv",
    } == STEPS


def test_steps_of_the_lab_are_its_own_and_go_before_what_they_stand_upon() -> None:
    entries = [
        CacheEntry("debian", (), "from local "),
        CacheEntry("layer", ("debian",), "from local "),
        CacheEntry("copy", ("layer",), "[compile 2/3] COPY *.c *.h ./"),
        CacheEntry("gcc", ("copy",), RUN),
        CacheEntry("copied", ("layer",), "[stage-1 2/3] COPY --from=compile /home/lab/pinger /usr/local/bin/"),
    ]
    found = own(entries, STEPS)
    assert sorted(found) == ["copied", "copy", "debian", "gcc", "layer"]
    for entry in entries:
        assert all(found.index(entry.id) < found.index(parent) for parent in entry.parents)


@pytest.mark.parametrize("image", ["from local ", ""], ids=["images in graph drivers", "images in containerd"])
def test_an_image_on_which_others_have_built_stays_theirs(image: str) -> None:
    entries = [
        CacheEntry("debian", (), image),
        CacheEntry("ours", ("debian",), RUN),
        CacheEntry("theirs", ("debian",), "mount / from exec /bin/sh -c apt-get install -y postgresql"),
    ]
    assert own(entries, STEPS) == ["ours"]


def test_the_same_instruction_upon_a_step_of_others_is_theirs() -> None:
    entries = [
        CacheEntry("debian", (), "from local "),
        CacheEntry("theirs", ("debian",), "mount / from exec /bin/sh -c apt-get install -y gcc"),
        CacheEntry("alike", ("theirs",), RUN),
    ]
    assert own(entries, STEPS) == []


@pytest.mark.parametrize(
    "description",
    [
        "local source for context",
        "pulled from docker.io/library/postgres:15",
        "mount / from exec /bin/sh -c gcc -O2 -Wall -o pinger *.c && make",
        'cached mount /x from exec /bin/sh -c gcc -O2 -Wall     -o pinger *.c with id "//x"',
    ],
)
def test_what_is_not_known_to_be_the_labs_stays(description: str) -> None:
    assert own([CacheEntry("it", (), description)], STEPS) == []


def test_what_stands_upon_an_entry_that_is_not_listed_stays() -> None:
    assert own([CacheEntry("it", ("gone",), RUN)], STEPS) == []


def test_an_image_layer_that_nothing_stands_upon_stays() -> None:
    assert own([CacheEntry("debian", (), "from local ")], STEPS) == []
