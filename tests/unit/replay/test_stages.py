"""Setting a stage up on a lab that only notes what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.errors import HostError
from lab.replay.model import Container, Preparation, Stage, Stopped
from lab.replay.stages import set_up


class FakeHost:
    def __init__(self, lab: FakeLab, name: str, addresses: dict[str, str] | None = None) -> None:
        self.lab, self.name, self._addresses = lab, name, addresses

    @property
    def addresses(self) -> dict[str, str]:
        if self._addresses is None:
            raise HostError(f"host {self.name} is gone")
        return self._addresses

    def __getattr__(self, method: str) -> Any:
        def call(*words: Any, **options: Any) -> Any:
            self.lab.done.append((self.name, method, *words, *options.values()))
            return SimpleNamespace(check=lambda: None)

        return call


class FakeLab:
    """`temporary` is a container of another test's, which is gone when it is looked at."""

    def __init__(self, root: Path) -> None:
        self.settings = SimpleNamespace(root=root)
        self.done: list[tuple[Any, ...]] = []
        self.by_name = {
            name: FakeHost(self, name, addresses)
            for name, addresses in {
                "one": {"lan": "10.0.0.1"},
                "web-1": {"lan": "10.0.0.2"},
                "web-2": {"far": "10.0.1.2"},
                "temporary": None,
            }.items()
        }

    def host(self, name: str) -> FakeHost:
        return self.by_name[name]

    def hosts(self) -> list[FakeHost]:
        return list(self.by_name.values())

    @contextmanager
    def container(self, image: str, **options: Any) -> Iterator[FakeHost]:
        self.done.append(("made", image, {name: value for name, value in options.items() if value}))
        yield FakeHost(self, image)
        self.done.append(("removed", image))


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    return FakeLab(tmp_path)


def test_hosts_of_the_lab_are_had_by_the_stages_names(lab):
    with set_up(lab, Stage("s", "S", {"server": "one"})) as hosts:
        assert hosts == {"server": lab.host("one")}
    assert lab.done == []


def test_a_container_is_made_awaited_prepared_and_removed(lab, tmp_path):
    (tmp_path / "prog.c").write_bytes(b"main(){}")
    made = Container(
        "image", ("lan",), command=("sleep", "9"), ready="^ready", run=(Preparation(("cc", "-"), "prog.c"),)
    )
    with set_up(lab, Stage("s", "S", containers={"a": made})) as hosts:
        assert list(hosts) == ["a"]
    assert lab.done == [
        ("made", "image", {"networks": {"lan": None}, "command": ["sleep", "9"]}),
        ("image", "wait_for_log", "^ready", 0),
        ("image", "run", ["cc", "-"], b"main(){}"),
        ("removed", "image"),
    ]


def test_a_container_shares_the_network_of_one_before_it(lab):
    stage = Stage("s", "S", containers={"a": Container("x"), "b": Container("y", network_of="a")})
    with set_up(lab, stage) as hosts:
        assert lab.done[1] == ("made", "y", {"network_of": hosts["a"]})


@pytest.mark.parametrize(("argument", "env"), [("noon", {"env": {"CLOCK": "noon"}}), ("", {})])
def test_the_argument_is_filled_in_and_an_empty_variable_left_out(lab, argument, env):
    stage = Stage("s", "S", containers={"a": Container("x:{argument}", env={"CLOCK": "{argument}"})})
    with set_up(lab, stage, argument):
        assert lab.done == [("made", f"x:{argument}", env)]


def test_hosts_are_stopped_and_started_again_and_their_addresses_taken(lab):
    stage = Stage(
        "s", "S", containers={"a": Container("x", ("lan",), address_of="one")}, stopped=Stopped("one|web-.", "lan")
    )
    with set_up(lab, stage):
        assert sorted(lab.done[:2]) == [("one", "stop"), ("web-1", "stop")]
        assert lab.done[2:] == [("made", "x", {"networks": {"lan": "10.0.0.1"}})]
    assert lab.done[3] == ("removed", "x")
    assert sorted(lab.done[4:]) == [
        ("one", "restart"),
        ("one", "wait_healthy"),
        ("web-1", "restart"),
        ("web-1", "wait_healthy"),
    ]


def test_what_was_stopped_starts_again_when_the_setup_fails(lab):
    stage = Stage(
        "s", "S", containers={"a": Container("x", run=(Preparation(("cc",), "absent"),))}, stopped=Stopped("one")
    )
    with pytest.raises(FileNotFoundError), set_up(lab, stage):
        pass
    assert lab.done[-2:] == [("one", "restart"), ("one", "wait_healthy")]
