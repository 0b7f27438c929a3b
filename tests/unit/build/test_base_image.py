"""Where the Debian base comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from lab.build import base_image, debian
from lab.build.base_image import REGISTRY_DEBIAN
from lab.build.images import DEBIAN
from lab.engine.images import NotPulled
from lab.errors import MachineError
from tests.unit.fake_store import FakeStore, Told


@pytest.fixture
def no_builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A mmdebstrap of our own; the test writes the script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    tool = folder / "mmdebstrap"
    tool.touch(mode=0o755)
    return tool


def script(tool: Path, text: str) -> None:
    tool.write_text(f"#!/bin/sh\n{text}\n")


def test_a_base_that_is_there_is_kept_without_a_question_to_the_registry() -> None:
    store = FakeStore(DEBIAN, registry=[REGISTRY_DEBIAN])
    base_image.ensure(store, source="auto", progress=Told())
    assert store.pulled == []
    assert store.ids == {DEBIAN: f"id of {DEBIAN}"}


def test_with_a_registry_the_base_is_pulled_and_bears_only_our_name() -> None:
    store, told = FakeStore(registry=[REGISTRY_DEBIAN]), Told()
    base_image.ensure(store, source="auto", progress=told)
    assert store.ids == {DEBIAN: f"pulled {REGISTRY_DEBIAN}"}
    assert told.steps == [f"pulling the base image, {REGISTRY_DEBIAN}"]


def test_the_registrys_name_stays_where_somebody_had_it_before() -> None:
    store = FakeStore(REGISTRY_DEBIAN, registry=[REGISTRY_DEBIAN])
    base_image.ensure(store, source="pull", progress=Told())
    assert set(store.ids) == {DEBIAN, REGISTRY_DEBIAN}


def test_without_a_registry_the_base_is_built_and_the_user_told_how_and_why(builder: Path) -> None:
    script(builder, 'echo "I: downloading" >&2; printf archive')
    store, told = FakeStore(), Told()
    base_image.ensure(store, source="auto", progress=told)
    assert store.imported == b"archive"
    assert store.ids == {DEBIAN: 'imported with CMD ["bash"]'}
    assert "with mmdebstrap" in told.steps[-1]
    assert "no such host" in told.steps[-1]
    assert told.details == ["downloading"]


def test_build_asks_no_registry(builder: Path) -> None:
    script(builder, "printf archive")
    store = FakeStore(registry=[REGISTRY_DEBIAN])
    base_image.ensure(store, source="build", progress=Told())
    assert store.pulled == []
    assert store.imported == b"archive"


def test_pull_builds_nothing(builder: Path) -> None:
    script(builder, "printf archive")
    store = FakeStore()
    with pytest.raises(NotPulled, match="no such host"):
        base_image.ensure(store, source="pull", progress=Told())
    assert store.ids == {}


@pytest.mark.usefixtures("no_builder")
def test_neither_registry_nor_builder_says_what_to_install() -> None:
    with pytest.raises(MachineError) as caught:
        base_image.ensure(FakeStore(), source="auto", progress=Told())
    assert "apt-get install mmdebstrap" in caught.value.remedy


def test_an_image_named_in_lab_base_is_taken_instead_of_what_is_there() -> None:
    store = FakeStore(DEBIAN, "ours/debian:12")
    base_image.ensure(store, source="ours/debian:12", progress=Told())
    assert store.ids[DEBIAN] == "id of ours/debian:12"
    assert "ours/debian:12" in store.ids


def test_an_image_named_in_lab_base_that_is_nowhere_names_the_setting() -> None:
    with pytest.raises(MachineError, match="LAB_BASE names the image nowhere/debian"):
        base_image.ensure(FakeStore(), source="nowhere/debian", progress=Told())


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("tar: write error: No space left on device", "the disk is full"),
        ("E: Temporary failure resolving 'deb.debian.org'", "packages cannot be fetched"),
        ("E: The following signatures couldn't be verified: NO_PUBKEY 0E98404D386FA1D9", "keys"),
        ("E: unable to run newuidmap", "ordinary user"),
        ("E: unable to pick chroot mode automatically", "ordinary user"),
        ("E: Cannot install into target '/tmp/x' mounted with noexec or nodev", "noexec or nodev"),
        ("E: something new", "failed with exit code 25"),
    ],
)
def test_a_builder_that_fails_leaves_no_image_and_tells_its_last_words(builder: Path, words: str, cause: str) -> None:
    script(builder, f'printf half; echo "{words}" >&2; exit 25')
    store = FakeStore()
    with pytest.raises(MachineError) as caught:
        base_image.ensure(store, source="build", progress=Told())
    assert cause in caught.value.cause
    assert words in caught.value.cause
    assert caught.value.remedy
    assert store.ids == {}


def test_an_interrupted_build_ends_its_builder_first(builder: Path, tmp_path: Path) -> None:
    tidied = tmp_path / "tidied"
    script(builder, f"trap 'touch {tidied}; exit 143' TERM; printf some; tail -f /dev/null & wait")

    class Interrupting(FakeStore):
        def import_tar(self, chunks: Iterable[bytes], name: str, changes: Sequence[str]) -> None:
            next(iter(chunks))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base_image.ensure(Interrupting(), source="build", progress=Told())
    assert tidied.exists()


def test_a_builder_that_says_nothing_for_long_is_ended(builder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "LONGEST_SILENCE", 0.1)
    script(builder, "echo E: fetching >&2; exec tail -f /dev/null")
    with pytest.raises(MachineError, match="had nothing to say"):
        base_image.ensure(FakeStore(), source="build", progress=Told())


def test_a_builder_is_read_to_its_end_before_the_archive_ends(builder: Path) -> None:
    """Else the engine would take half an archive for a whole one."""
    script(builder, "printf half; exec 1>&-; exit 1")
    given: list[bytes] = []

    def collect(chunks: Iterable[bytes], name: str, changes: Sequence[str]) -> None:
        iterator: Iterator[bytes] = iter(chunks)
        given.extend(iterator)

    store = FakeStore()
    store.import_tar = collect  # type: ignore[method-assign]
    with pytest.raises(MachineError):
        base_image.ensure(store, source="build", progress=Told())
    assert given == [b"half"]
