"""Where the base comes from, what must be built, and what it all takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from lab import debian, images, topology
from lab.errors import MachineError
from lab.images import DEBIAN, REGISTRY_DEBIAN, Layer, NotPulled
from lab.progress import Progress
from lab.settings import Settings

PROJECT = Path(__file__).parents[2]

COMPOSE = """
services:
  base: {profiles: [images], image: datagram-lab/base, build: {context: services/base, target: base}}
  toolchain: {profiles: [images], image: datagram-lab/toolchain, build: {context: services/base, target: toolchain}}
  client: {image: datagram-lab/client, build: services/client}
  peer69: {image: datagram-lab/peer, build: services/peer}
  peer73: {image: datagram-lab/peer, build: services/peer}
  postgres: {image: postgres:15}
networks:
  lan: {ipam: {config: [{subnet: 192.168.1.0/24}]}}
"""


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.details: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def close(self) -> None: ...


class FakeStore:
    """An engine's images in memory: id by name."""

    def __init__(self, *names: str, registry: Iterable[str] = ()) -> None:
        self.ids = {name: f"id of {name}" for name in names}
        self.registry = set(registry)
        self.pulled: list[str] = []
        self.pruned: list[str] = []
        self.imported = b""
        self.nameless: list[str] = []

    def id_of(self, name: str) -> str | None:
        return self.ids.get(name)

    def names(self) -> list[str]:
        return [name for name in self.ids if name.startswith("datagram-lab/")]

    def leftovers(self) -> list[str]:
        return self.nameless

    def history(self, image: str) -> list[Layer]:
        return []

    def pull(self, name: str, progress: Progress) -> None:
        self.pulled.append(name)
        if name not in self.registry:
            raise NotPulled(f"{name}: no such host")
        self.ids[name] = f"pulled {name}"

    def import_tar(self, chunks: Iterable[bytes], name: str, changes: Sequence[str]) -> None:
        self.imported = b"".join(chunks)
        self.ids[name] = f"imported with {', '.join(changes)}"

    def tag(self, image: str, name: str) -> None:
        self.ids[name] = self.ids[image]

    def remove(self, name: str) -> None:
        self.ids.pop(name, None)
        self.nameless = [image for image in self.nameless if image != name]

    def prune(self, label: str) -> None:
        self.pruned.append(label)

    def disk_usage(self) -> int:
        return 0


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


# ---- the Debian base


def test_a_base_that_is_there_is_kept_without_a_question_to_the_registry() -> None:
    store = FakeStore(DEBIAN, registry=[REGISTRY_DEBIAN])
    images.ensure_debian(store, source="auto", progress=Told())
    assert store.pulled == []
    assert store.ids == {DEBIAN: f"id of {DEBIAN}"}


def test_with_a_registry_the_base_is_pulled_and_bears_only_our_name() -> None:
    store, told = FakeStore(registry=[REGISTRY_DEBIAN]), Told()
    images.ensure_debian(store, source="auto", progress=told)
    assert store.ids == {DEBIAN: f"pulled {REGISTRY_DEBIAN}"}
    assert told.steps == [f"pulling the base image, {REGISTRY_DEBIAN}"]


def test_the_registrys_name_stays_where_somebody_had_it_before() -> None:
    store = FakeStore(REGISTRY_DEBIAN, registry=[REGISTRY_DEBIAN])
    images.ensure_debian(store, source="pull", progress=Told())
    assert set(store.ids) == {DEBIAN, REGISTRY_DEBIAN}


def test_without_a_registry_the_base_is_built_and_the_user_told_how_and_why(builder: Path) -> None:
    script(builder, 'echo "I: downloading" >&2; printf archive')
    store, told = FakeStore(), Told()
    images.ensure_debian(store, source="auto", progress=told)
    assert store.imported == b"archive"
    assert store.ids == {DEBIAN: 'imported with CMD ["bash"]'}
    assert "with mmdebstrap" in told.steps[-1]
    assert "no such host" in told.steps[-1]
    assert told.details == ["downloading"]


def test_build_asks_no_registry(builder: Path) -> None:
    script(builder, "printf archive")
    store = FakeStore(registry=[REGISTRY_DEBIAN])
    images.ensure_debian(store, source="build", progress=Told())
    assert store.pulled == []
    assert store.imported == b"archive"


def test_pull_builds_nothing(builder: Path) -> None:
    script(builder, "printf archive")
    store = FakeStore()
    with pytest.raises(NotPulled, match="no such host"):
        images.ensure_debian(store, source="pull", progress=Told())
    assert store.ids == {}


@pytest.mark.usefixtures("no_builder")
def test_neither_registry_nor_builder_says_what_to_install() -> None:
    with pytest.raises(MachineError) as caught:
        images.ensure_debian(FakeStore(), source="auto", progress=Told())
    assert "apt-get install mmdebstrap" in caught.value.remedy


def test_an_image_named_in_lab_base_is_taken_instead_of_what_is_there() -> None:
    store = FakeStore(DEBIAN, "ours/debian:12")
    images.ensure_debian(store, source="ours/debian:12", progress=Told())
    assert store.ids[DEBIAN] == "id of ours/debian:12"
    assert "ours/debian:12" in store.ids


def test_an_image_named_in_lab_base_that_is_nowhere_names_the_setting() -> None:
    with pytest.raises(MachineError, match="LAB_BASE names the image nowhere/debian"):
        images.ensure_debian(FakeStore(), source="nowhere/debian", progress=Told())


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
        images.ensure_debian(store, source="build", progress=Told())
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
        images.ensure_debian(Interrupting(), source="build", progress=Told())
    assert tidied.exists()


def test_a_builder_that_says_nothing_for_long_is_ended(builder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "LONGEST_SILENCE", 0.1)
    script(builder, "echo E: fetching >&2; exec tail -f /dev/null")
    with pytest.raises(MachineError, match="had nothing to say"):
        images.ensure_debian(FakeStore(), source="build", progress=Told())


# ---- what must be built


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    write(tmp_path, "services/base/Dockerfile", f"ARG DEBIAN={DEBIAN}\nFROM ${{DEBIAN}} AS base\n# datagram-lab/peer\n")
    write(tmp_path, "services/client/Dockerfile", "FROM datagram-lab/toolchain\n")
    write(tmp_path, "services/peer/Dockerfile", "FROM datagram-lab/toolchain AS build\nFROM datagram-lab/base\n")
    write(tmp_path, "services/peer/peer.c", "int main(void) { return 0; }\n")
    write(tmp_path, "compose.yaml", COMPOSE)
    return Settings(tmp_path, {})


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lab_of(settings: Settings) -> topology.Topology:
    return topology.read(settings.root / "compose.yaml", {})


ALL = ["datagram-lab/base", "datagram-lab/toolchain", "datagram-lab/client", "datagram-lab/peer"]


def stale(store: FakeStore, settings: Settings) -> list[str]:
    return [service.image for service in images.stale(store, lab_of(settings), settings)]


def begin(store: FakeStore, settings: Settings) -> None:
    topology = lab_of(settings)
    images.begin(topology, settings, images.stale(store, topology, settings))


@pytest.fixture
def built(project: Settings) -> FakeStore:
    """Everything is built and written down."""
    store = FakeStore(DEBIAN, *ALL)
    begin(store, project)
    images.remember(store, lab_of(project), project)
    return store


def test_on_a_new_machine_every_image_is_built_once_and_bases_first(project: Settings) -> None:
    assert stale(FakeStore(), project) == ALL


def test_an_image_nobody_wrote_down_is_built_again(project: Settings) -> None:
    assert stale(FakeStore(DEBIAN, *ALL), project) == ALL


def test_what_was_built_is_fresh(built: FakeStore, project: Settings) -> None:
    assert stale(built, project) == []


def test_what_the_builder_left_of_compile_stages_is_removed(built: FakeStore) -> None:
    assert built.pruned == ["lab.stage=compile"]


def test_every_compile_stage_bears_the_label_it_is_removed_by() -> None:
    dockerfiles = [path.read_text() for path in (PROJECT / "services").glob("*/Dockerfile")]
    stages = [
        line for text in dockerfiles for line in re.findall(r"^FROM datagram-lab/toolchain AS .*\n.*", text, re.M)
    ]
    assert len(stages) >= 5
    assert [stage for stage in stages if not stage.endswith(f" AS compile\nLABEL {images.COMPILE_LABEL}")] == []


@pytest.mark.parametrize("name", ["services/peer/peer.c", "services/peer/Dockerfile"])
def test_an_edited_file_makes_its_image_stale_and_no_other(built: FakeStore, project: Settings, name: str) -> None:
    (project.root / name).write_text((project.root / name).read_text() + "\n")
    assert stale(built, project) == ["datagram-lab/peer"]


def test_a_new_file_and_a_new_mode_make_an_image_stale(built: FakeStore, project: Settings) -> None:
    write(project.root, "services/client/.digrc", "+short\n")
    (project.root / "services/peer/peer.c").chmod(0o755)
    assert stale(built, project) == ["datagram-lab/client", "datagram-lab/peer"]


def test_what_python_compiled_by_the_way_is_no_change(built: FakeStore, project: Settings) -> None:
    write(project.root, "services/peer/__pycache__/x.pyc", "")
    assert stale(built, project) == []


def test_an_edited_base_makes_everything_on_it_stale(built: FakeStore, project: Settings) -> None:
    write(project.root, "services/base/apt-add", "#!/bin/sh\n")
    assert stale(built, project) == ALL


def test_another_debian_makes_everything_stale(built: FakeStore, project: Settings) -> None:
    built.ids[DEBIAN] = "another"
    assert stale(built, project) == ALL


def test_another_base_in_the_settings_makes_everything_stale(built: FakeStore, project: Settings) -> None:
    built.ids["ours/debian:12"] = "another"
    assert stale(built, Settings(project.root, {"LAB_BASE": "ours/debian:12"})) == ALL


def test_an_image_that_plain_compose_rebuilt_is_stale(built: FakeStore, project: Settings) -> None:
    built.ids["datagram-lab/client"] = "rebuilt"
    assert stale(built, project) == ["datagram-lab/client"]


def test_a_removed_stage_of_the_base_is_built_with_all_that_rests_on_it(built: FakeStore, project: Settings) -> None:
    del built.ids["datagram-lab/toolchain"]
    assert stale(built, project) == ALL


def test_a_file_edited_during_the_build_is_built_again(project: Settings) -> None:
    store = FakeStore(DEBIAN, *ALL)
    begin(store, project)
    write(project.root, "services/peer/peer.c", "int main(void) { return 1; }\n")
    images.remember(store, lab_of(project), project)
    assert stale(store, project) == ["datagram-lab/peer"]


def test_an_interrupted_build_counts_for_nothing(built: FakeStore, project: Settings) -> None:
    write(project.root, "services/peer/peer.c", "int main(void) { return 1; }\n")
    begin(built, project)
    assert stale(built, project) == ["datagram-lab/peer"]


@pytest.mark.parametrize("text", ["", "[]", '{"datagram-lab/peer": 1}', "{"])
def test_a_damaged_record_only_costs_a_build(built: FakeStore, project: Settings, text: str) -> None:
    (project.state / "images.json").write_text(text)
    assert stale(built, project) == ALL
    begin(built, project)
    images.remember(built, lab_of(project), project)
    assert json.loads((project.state / "images.json").read_text()).keys() == set(ALL)


def test_known_ids_are_not_asked_for_again(built: FakeStore, project: Settings) -> None:
    asked: list[str] = []
    known = dict(built.ids)

    class Counting(FakeStore):
        def id_of(self, name: str) -> str | None:
            asked.append(name)
            return known[name]

    assert images.stale(Counting(), lab_of(project), project, known) == []
    assert asked == []


def test_dockerfiles_that_name_each_other_end_all_the_same(project: Settings) -> None:
    write(project.root, "services/base/Dockerfile", "FROM datagram-lab/peer\n")
    assert sorted(stale(FakeStore(), project)) == sorted(ALL)


# ---- their size, their end


def test_a_layer_that_images_share_is_counted_once() -> None:
    debian, tools = Layer(1, "import", 75), Layer(2, "apt-add gcc", 50)
    assert images.shared_size([[debian, tools], [debian], [debian, tools, Layer(3, "COPY", 1)]]) == 126


def test_equal_steps_upon_different_bases_are_different_layers() -> None:
    step = Layer(2, "apt-add gcc", 50)
    assert images.shared_size([[Layer(1, "a", 10), step], [Layer(1, "b", 20), step]]) == 130


def test_remove_all_leaves_the_images_of_others() -> None:
    store = FakeStore(DEBIAN, *ALL, "postgres:15")
    store.nameless = ["sha256:1"]
    images.remove_all(store, Told())
    assert list(store.ids) == ["postgres:15"]
    assert store.nameless == []


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
        images.ensure_debian(store, source="build", progress=Told())
    assert given == [b"half"]


def test_images_are_built_after_those_they_start_from(tmp_path: Path) -> None:
    for name, dockerfile in {
        "layers": "FROM debian AS base\nFROM base AS tools\n",
        "server": "FROM small/base\n",
        "peer": "FROM small/tools AS build\nFROM small/base\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(dockerfile)
    (tmp_path / "compose.yaml").write_text("""
services:
  base: {image: small/base, build: {context: layers, target: base}}
  tools: {image: small/tools, build: {context: layers, target: tools}}
  server: {image: small/server, build: server}
  peer: {image: small/peer, build: peer}
networks: {}
""")
    lab = topology.read(tmp_path / "compose.yaml", {})
    order = images.build_order(lab, list(lab.services.values()))
    order.prepare()
    waves = []
    while order.is_active():
        waves.append(sorted(order.get_ready()))
        order.done(*waves[-1])
    assert waves == [["base"], ["server", "tools"], ["peer"]]


def test_an_image_whose_base_is_fresh_waits_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "Dockerfile").write_text("FROM small/base\n")
    (tmp_path / "compose.yaml").write_text("""
services:
  base: {image: small/base, build: server}
  server: {image: small/server, build: server}
networks: {}
""")
    lab = topology.read(tmp_path / "compose.yaml", {})
    assert list(images.build_order(lab, [lab.services["server"]]).static_order()) == ["server"]
