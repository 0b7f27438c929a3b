"""Every error text that a user can meet, held by a pair: what is wrong, and the exact words.

A pair is an entry of a YAML file beside this one; `says` is reviewed as a diff. A text that no pair holds, and a pair
that holds no text, fail.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import requests
import yaml

from lab import errors, replay
from lab.engine import docker_errors, endpoint
from lab.engine.base import HOSTEXEC_LABEL, EngineVersion, NetworkRecord, Pool
from lab.engine.docker_engine import DockerEngine
from lab.errors import LabError
from lab.exec import hostexec, processes
from lab.exec.hostexec import Frame
from lab.lifecycle import preflight, users
from lab.project import compose, settings
from lab.project.declaration import Declaration
from lab.project.settings import Settings
from tests.unit.cli.conftest import Run
from tests.unit.cli.small_lab import Script, ScriptedEngine, SmallLab, exits, never_ends, open_small
from tests.unit.fake_engine import FakeEngine, container
from tests.unit.fake_exec import FakeExec
from tests.unit.fake_hostexec import FakeHost
from tests.unit.project.test_compose import program
from tests.unit.small_project import SMALL, compose_of, config_of

Pair = dict[str, Any]

FOLDER = Path(__file__).parent
PROJECT = FOLDER.parents[1]
PAIRS: dict[str, list[Pair]] = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}


def pairs(name: str) -> pytest.MarkDecorator:
    entries = PAIRS[name]
    return pytest.mark.parametrize("pair", entries, ids=[entry["what"] for entry in entries])


def compare(pair: Pair, error: LabError, root: Path | None = None) -> None:
    """The pair's words and class are the error's, and `says` is made of one line of cause and one of remedy."""
    said = str(error).replace(str(root), "<project>") if root else str(error)
    assert said == pair["says"].rstrip("\n")
    assert type(error) is getattr(errors, pair["raises"])
    assert said.count("\n") <= 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    (tmp_path / "compose.yaml").write_text(SMALL)
    return tmp_path


@pairs("settings")
def test_settings(pair: Pair, root: Path) -> None:
    text = pair.get("env_file", "")
    (root / ".env").write_bytes(text if isinstance(text, bytes) else text.encode())
    named = root / pair["lab_dir"] if "lab_dir" in pair else root
    variables = {name: value * pair.get("times", 1) for name, value in pair.get("variables", {}).items()}
    environment = variables if "no_lab_dir" in pair else {"LAB_DIR": str(named), **variables}

    def load() -> None:
        found = settings.load(environment, Path(pair["start"]) if "start" in pair else None)
        config_of(SMALL, root).declaration.check(found.variables, found.env_file)

    with pytest.raises(LabError) as caught:
        load()
    compare(pair, caught.value, root)


@pairs("endpoint")
def test_endpoint(pair: Pair, root: Path) -> None:
    docker = root / ".docker"
    meta = docker / "contexts/meta" / hashlib.sha256(b"office").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    if "meta" in pair:
        meta.write_text(pair["meta"])
    (docker / "config.json").write_text(pair.get("config", "{}"))
    with pytest.raises(LabError) as caught:
        endpoint.find({"HOME": str(root), **pair.get("variables", {})})
    compare(pair, caught.value, root)


@pairs("config")
def test_config(pair: Pair, root: Path) -> None:
    (root / "compose.yaml").write_text(pair["file"])
    found = Settings(root, pair.get("variables", {}))
    # Compose's own words differ between versions; here it says of the file what the pair says that it does.
    said = pair.get("compose", "")
    fake = program(
        root / "docker-compose", "#!/bin/sh\n" + (f"echo '{said}' >&2; exit 1\n" if said else "cat compose.yaml\n")
    )
    with pytest.raises(LabError) as caught:
        _ = compose.Compose(found, [str(fake)]).config
    compare(pair, caught.value, root)


@pairs("compose")
def test_compose(pair: Pair, root: Path) -> None:
    if "path" in pair:
        with pytest.raises(LabError) as caught:
            compose.find_command({"PATH": pair["path"], "HOME": pair["path"]})
        compare(pair, caught.value)
    elif "interpreter" in pair:
        program(root / "docker-compose", f"#!{pair['interpreter']}\n")
        with pytest.raises(LabError) as caught:
            compose.Compose(Settings(root, {"PATH": str(root), "HOME": str(root)})).down(print, volumes=True)
        compare(pair, caught.value, root)
    elif "state" in pair:
        (root / ".lab").write_text(pair["state"])
        with pytest.raises(LabError) as caught, compose.Compose(Settings(root, {})).locked(print):
            raise AssertionError("locked all the same")
        compare(pair, caught.value, root)
    else:
        compare(pair, compose.explain_failure("compose up", pair["prints"].splitlines(), pair.get("images")))


GOOGLE = """
  google:
    ipam:
      config: [{subnet: %s}]
volumes:"""


@pairs("preflight")
def test_preflight(pair: Pair, root: Path) -> None:
    (root / "compose.yaml").write_text(SMALL.replace("volumes:", GOOGLE % pair.get("google", "8.8.8.0/24")))
    found = Settings(root, {"COMPOSE_PROJECT_NAME": "small"})
    engine = FakeEngine(
        records=[
            replace(container("router", project=one.get("project", ""), folder=one.get("folder", "")), name=one["name"])
            for one in pair.get("containers", [])
        ],
        network_records=[
            NetworkRecord(str(number), one["name"], tuple(map(Pool, one["subnets"])))
            for number, one in enumerate(pair.get("networks", []))
        ],
        free=pair.get("free", 50 * 10**9),
    )
    if "engine" in pair:
        engine.answer = EngineVersion(**pair["engine"])
    compose_found = compose_of(found, ["compose"], (root / "compose.yaml").read_text())
    machine = preflight.Machine(engine, compose_found, found)
    if "warns" in pair:
        preflight.require(machine)
        (finding,) = [finding for finding in preflight.examine(machine) if finding.level == "warn"]
        assert finding.check == pair["warns"]
        assert f"{finding.text}\n{finding.remedy}\n" == pair["says"]
    else:
        with pytest.raises(LabError) as caught:
            preflight.require(machine)
        compare(pair, caught.value)


def fail(pair: Pair) -> None:
    """Raise as the SDK does, whose errors for the engine's answers carry its words apart."""
    if "api" in pair:  # of an engine that is too old
        DockerEngine({}).version()
    if "carries" in pair:  # a network
        DockerEngine({}).remove_network("17eeb05930e2")
    ((kind, text),) = pair["error"].items()
    if issubclass(made := getattr(docker.errors, kind, object), docker.errors.APIError):
        raise made(f"Server Error: {text}", explanation=text)
    raise getattr(docker.errors if hasattr(docker.errors, kind) else requests.exceptions, kind)(text)


@pairs("docker_engine")
def test_docker_engine(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        api_version = pair.get("api", "1.41")

        def __init__(self, **options: object) -> None: ...

        def version(self) -> Mapping[str, str]:
            raise AssertionError("an engine that is too old has been used")

        def remove_network(self, network: str) -> None:
            text = f"error while removing network: network datagram-lab_lan id {network} has active endpoints"
            raise docker.errors.APIError(f"403 Client Error: {text}", explanation=text)

        def inspect_network(self, network: str) -> Mapping[str, object]:
            return {"Name": "datagram-lab_lan", "Containers": {name * 4: {"Name": name} for name in pair["carries"]}}

    monkeypatch.setattr(docker, "APIClient", Client)
    address = pair.get("address", endpoint.SOCKET)
    with pytest.raises(LabError) as caught, docker_errors.explained(address, pair.get("of", "")):
        fail(pair)
    compare(pair, caught.value)


def vanishes(host: FakeHost, heard: Frame) -> None:
    host.vanish()


class NewerHost(FakeHost):
    """Greets with version 2 of the protocol."""

    def say(self, kind: bytes, number: int, payload: bytes | int = b"") -> None:
        if kind == b"H":
            payload = (2).to_bytes(4, "big") + bytes(4)
        super().say(kind, number, payload)


def script(command: Any) -> Script:
    match command:
        case "never ends":
            return never_ends
        case "vanishes":
            return vanishes
        case {"exit": status, **written}:
            return exits(status, written.get("out", "").encode(), written.get("err", "").encode())
    return exits(0)


def make_foreign(engine: ScriptedEngine, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hosts be of another's image, on the machine's network if the pair says so; commands run for ever."""
    engine.records = [
        replace(one, labels={**one.labels, HOSTEXEC_LABEL: ""}, network_mode=pair.get("network_mode", ""))
        for one in engine.records
    ]
    monkeypatch.setattr(engine, "start_exec", lambda *_, **__: FakeExec())
    monkeypatch.setattr(engine, "wait", lambda *_: pair["toolbox"])
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=7))


@pairs("hosts")
def test_hosts(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(log_text=pair.get("log", "").encode(), script=script(pair.get("command")))
    lab = open_small(tmp_path, engine)
    lab.up()
    if "image" in pair:
        make_foreign(engine, pair, monkeypatch)
    host = lab.host("router")
    if pair.get("command") == "speaks version 2":
        monkeypatch.setattr(engine, "open_exec", lambda *_: NewerHost())
    match pair.get("router"):
        case "gone":
            engine.remove(host.id)
        case "exited":
            engine.change("small_router_1", state="exited", status="Exited (1) 3 seconds ago")
    if pair.get("command") == "never answers":
        monkeypatch.setattr(hostexec, "START_SECONDS", 0.05)
        monkeypatch.setattr(engine, "open_exec", lambda *_: FakeHost())
    if "addresses" in pair:
        engine.change("small_router_1", addresses=pair["addresses"])
    if "output_limit" in pair:
        monkeypatch.setattr(
            processes.Process.__init__, "__kwdefaults__", {"collect": True, "limit": pair["output_limit"]}
        )
    with pytest.raises(LabError) as caught:
        eval(pair["call"], {"lab": lab, "host": host, "engine": engine})
    lab.close()
    error = caught.value
    error.args = (re.sub(r"(?<=^Signals: ).*", "<all signals>", str(error), flags=re.MULTILINE),)
    compare(pair, error)


@pairs("cli")
def test_cli(pair: Pair, run: Run, lab: SmallLab, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.script = script(pair.get("command"))
    lab.up()
    if "path" in pair:
        monkeypatch.setattr(os, "environ", {**os.environ, "PATH": pair["path"]})
    ran = run(*pair["words"])
    assert (ran.exit, ran.out, ran.err) == (pair["exit"], "", pair["says"])


@pairs("replay")
def test_replay(pair: Pair, root: Path) -> None:
    if "file" in pair:
        (root / "transcripts.yaml").write_text(pair["file"])
    declaration = Declaration(transcripts="" if "none" in pair else "transcripts.yaml")
    with pytest.raises(LabError) as caught:
        replay.of_project(Settings(root, {}), declaration)
    compare(pair, caught.value, root)


@pairs("users")
def test_users(pair: Pair, root: Path) -> None:
    (root / ".lab/users-small.new").mkdir(parents=True)  # in the way of what is to be written
    with pytest.raises(LabError) as caught:
        users.join(Settings(root, {}), "small", was_up=False)
    compare(pair, caught.value, root)
