"""What must be built, and what it all takes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.build import images
from lab.build.images import DEBIAN
from lab.engine import images as engine_images
from lab.engine.images import CacheEntry, Layer
from lab.errors import MachineError
from lab.project.settings import Settings
from lab.project.topology import Topology
from tests.unit.fake_store import FakeStore, Told
from tests.unit.small_project import config_of

PROJECT = Path(__file__).parents[3]

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


def lab_of(settings: Settings) -> Topology:
    return config_of((settings.root / "compose.yaml").read_text(), settings.root).topology


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


def test_a_record_that_cannot_be_written_is_told_and_the_one_of_before_stays(
    built: FakeStore, project: Settings
) -> None:
    record = project.state / "images.json"
    before = record.read_text()
    (project.state / "images.new").symlink_to("/dev/full")
    with pytest.raises(MachineError) as caught:
        begin(built, project)
    assert caught.value.cause == f"the lab cannot write {record}: No space left on device"
    assert caught.value.remedy == (
        f"Make room there (df -h {project.state}), or take it over (sudo chown -R $USER {project.state}); then repeat."
    )
    assert record.read_text() == before
    assert not (project.state / "images.new").is_symlink(), "what could not be written whole has been left"


def test_a_file_that_stands_where_the_record_belongs_is_told(project: Settings) -> None:
    project.state.write_text("")
    with pytest.raises(MachineError, match=r"the lab cannot write \S+/.lab/images.json: File exists"):
        begin(FakeStore(), project)


def test_a_file_that_vanishes_or_cannot_be_read_is_told(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = images._files

    def vanishing(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        for path, entry in listed(folder, prefix):
            if path == "peer.c":
                Path(entry.path).unlink(missing_ok=True)
            yield path, entry

    monkeypatch.setattr(images, "_files", vanishing)
    with pytest.raises(MachineError) as caught:
        stale(FakeStore(), project)
    lost = project.root / "services/peer/peer.c"
    assert caught.value.cause == f"{lost}, of which an image is to be built, cannot be read: No such file or directory"
    assert caught.value.remedy == f"Look at it (ls -l {lost.parent}); if it was only being edited, repeat."


def test_names_and_words_in_another_encoding_are_read_all_the_same(built: FakeStore, project: Settings) -> None:
    with open(os.fsencode(project.root) + b"/services/peer/caf\xe9", "wb") as file:  # noqa: PTH123 - not UTF-8
        file.write(b"")
    (project.root / "services/client/Dockerfile").write_bytes(b"# caf\xe9\nFROM datagram-lab/toolchain\n")
    assert stale(built, project) == ["datagram-lab/client", "datagram-lab/peer"]


# ---- their size, their end


def test_a_layer_that_images_share_is_counted_once() -> None:
    debian, tools = Layer(1, "import", 75), Layer(2, "apt-add gcc", 50)
    assert engine_images.shared_size([[debian, tools], [debian], [debian, tools, Layer(3, "COPY", 1)]]) == 126


def test_equal_steps_upon_different_bases_are_different_layers() -> None:
    step = Layer(2, "apt-add gcc", 50)
    assert engine_images.shared_size([[Layer(1, "a", 10), step], [Layer(1, "b", 20), step]]) == 130


def test_what_images_kept_by_containerd_share_is_packed_once() -> None:
    assert engine_images.packed_size({("debian",): 70, ("debian", "gcc"): 90, ("debian", "gcc", "peer"): 91}) == 91
    assert engine_images.packed_size({("debian",): 70, ("debian", "gcc"): 90, ("debian", "dig"): 80}) == 100


def test_remove_all_leaves_the_images_of_others(project: Settings) -> None:
    store = FakeStore(DEBIAN, *ALL, "postgres:15")
    store.nameless = ["sha256:1"]
    images.remove_all(store, lab_of(project), Told())
    assert list(store.ids) == ["postgres:15"]
    assert store.nameless == []


def test_remove_all_leaves_the_base_on_which_another_project_stands(project: Settings) -> None:
    store = FakeStore(DEBIAN, *ALL)
    store.above = {DEBIAN: ["theirs/server"]}
    images.remove_all(store, lab_of(project), Told())
    assert list(store.ids) == [DEBIAN]


def test_remove_all_takes_the_labs_own_share_of_the_build_cache(project: Settings) -> None:
    (project.root / "services/client/Dockerfile").write_text("FROM datagram-lab/base\nRUN make client\n")
    store = FakeStore(DEBIAN)
    store.cached = [
        CacheEntry("debian", (), "from local "),
        CacheEntry("ours", ("debian",), "mount / from exec /bin/sh -c make client"),
        CacheEntry("another's", (), "mount / from exec /bin/sh -c make server"),
    ]
    images.remove_all(store, lab_of(project), Told())
    assert [entry.id for entry in store.cached] == ["another's"]


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
    lab = lab_of(Settings(tmp_path, {}))
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
    lab = lab_of(Settings(tmp_path, {}))
    assert list(images.build_order(lab, [lab.services["server"]]).static_order()) == ["server"]
