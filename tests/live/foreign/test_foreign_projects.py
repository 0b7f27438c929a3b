"""`lab` on projects that know nothing of it: plain style, overrides, images that hold one program and no shell."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.live.foreign.conftest import Make, Project, remove_images

pytestmark = pytest.mark.timeout(400)

DEBIAN = "FROM datagram-lab/debian:bookworm\nCOPY host /host\n"
SCRATCH = "FROM scratch\nCOPY host /host\n"
PLAIN = """
services:
  hub:
    build: .
    command: /host serve
    healthcheck: {test: [CMD, /host, check], interval: 1s, retries: 30}
    labels: [tier=front]
  ear:
    build: .
    command: /host hear
    depends_on: [hub]
  crier:
    build: .
    command: [sleep, infinity]
    depends_on:
      hub: {condition: service_healthy}
"""
BARE = """
x-bare: &bare
  build: .
  read_only: true
  user: "1000"
  cap_drop: [ALL]
services:
  server:
    <<: *bare
    entrypoint: [/host]
    command: [serve]
    healthcheck: {test: [CMD, /host, check], interval: 1s, retries: 30}
  idle:
    <<: *bare
    command: [/host]
"""


def left_of(project: Project) -> str:
    """What the engine still has that bears the project's name."""
    found = ""
    for kind in (["ps", "-a"], ["network", "ls"], ["volume", "ls"]):
        words = ["docker", *kind, "-q", "--filter", f"label=com.docker.compose.project={project.folder.name}"]
        found += subprocess.run(words, capture_output=True, check=True, text=True).stdout
    return found


def test_three_services_in_plain_style(make: Make) -> None:
    plain = make("plain", compose=PLAIN, dockerfile=DEBIAN)
    assert b"healthy" in plain.lab("up")
    states = {name: host["state"] for name, host in plain.status().items()}
    assert states == {"hub": "healthy", "ear": "running", "crier": "running"}
    assert plain.lab("exec", "crier", "--", "bash", "-c", "read x; echo $x; exit 7", input=b"hi\n", exit=7) == b"hi\n"
    assert b"ready" in plain.lab("logs", "hub")
    plain.lab("exec", "crier", "--", "/host", "cry", input=b"dinner\n")
    assert plain.status()["crier"]["addresses"]["default"].encode() + b" says dinner" in plain.lab("logs", "ear")
    assert plain.lab("scale", "ear=3").count(b"ear-") == 3
    assert set(plain.status()) == {"hub", "ear-1", "ear-2", "ear-3", "crier"}
    assert b"fail" not in plain.lab("doctor")
    plain.lab("down", "--images")
    assert left_of(plain) == ""
    shown = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}"], capture_output=True, check=True, text=True
    )
    assert not re.findall(rf"(?m)^{plain.folder.name}[-_]", shown.stdout)


def test_what_a_test_of_such_a_project_looks_like(make: Make) -> None:
    """A broadcast and a TCP service, from pytest, with what programs saw and what the wire carried."""
    text = """
def test_everybody_hears(lab):
    hub, ear, crier = (lab.host(name) for name in ("hub", "ear", "crier"))
    with hub.capture("udp port 7000") as wire:
        crier.run(["/host", "cry"], input=b"dinner\\n").check()
        ear.wait_for_log("says dinner", since=0)
    assert len(wire.packets) == 1
    assert wire.packets[0].dst == "ff:ff:ff:ff:ff:ff"

def test_inject(lab):
    from scapy.layers.inet import IP, UDP
    ear, crier = lab.host("ear"), lab.host("crier")
    crier.inject([IP(src=crier.address, dst=ear.address) / UDP(sport=9, dport=7000) / b"by hand\\n"])
    ear.wait_for_log("says by hand", since=0)
"""
    plain = make("tested", compose=PLAIN, dockerfile=DEBIAN, test=text)
    done = plain.type("pytest", "-q", "-p", "no:cacheprovider")
    assert b"2 passed" in done.stdout, done.stdout
    plain.lab("down")
    assert left_of(plain) == ""


def test_a_project_of_two_files_and_settings(make: Make) -> None:
    """docker-compose.yml, an override, .env, a profile, a fixed name, a network with a name of its own."""
    files = {
        "docker_compose": """
services:
  one: {image: "pair-host:${TAG}", build: ., command: /host serve, container_name: the-one, networks: [lan]}
  two:
    build: .
    command: /host serve
    networks: {lan: {ipv4_address: 10.231.7.9}, wire: null}
  spare: {build: ., command: /host serve, profiles: [spare], networks: [lan]}
networks:
  lan: {ipam: {config: [{subnet: 10.231.7.0/24}]}}
  wire: {name: pair-wire, driver_opts: {com.docker.network.driver.mtu: 1400}}
""",
        "override": "services: {two: {environment: {A: b}, labels: {lab.role: the other}}}\n",
        "env": 'TAG="7"\nCOMPOSE_PROJECT_NAME=pairs\n',
        "dockerfile": DEBIAN,
    }
    pair = make("pair", **files)
    pair.lab("up")
    hosts = pair.status()
    assert set(hosts) == {"one", "two"}
    assert hosts["two"]["role"] == "the other"
    assert hosts["two"]["addresses"]["lan"] == "10.231.7.9"
    assert set(hosts["two"]["addresses"]) == {"lan", "wire"}
    assert pair.lab("exec", "two", "--", "printenv", "A") == b"b\n"
    assert b"spare" in pair.lab("up", env={"COMPOSE_PROFILES": "spare"})
    assert set(pair.status()) >= {"one", "two"}
    pair.lab("down", env={"COMPOSE_PROFILES": "spare"})
    assert pair.status()["one"]["state"] == "down"
    remove_images(["pairs", "pair"])


def processes_of(container: str) -> bytes:
    """The command lines of all that runs in a container, whatever its image lacks: those in its process namespace."""
    words = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    first = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    own = Path(f"/proc/{first}/ns/pid").readlink()
    shown = b""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (process / "ns/pid").readlink() == own:
                shown += (process / "cmdline").read_bytes()
    return shown


@pytest.mark.parametrize("word", ["server", "idle"])
def test_images_that_hold_one_program_and_no_shell(make: Make, word: str) -> None:
    bare = make("bare", compose=BARE, dockerfile=SCRATCH)
    bare.lab("up")
    assert {name: host["state"] for name, host in bare.status().items()} == {"server": "healthy", "idle": "running"}
    data = bytes(range(256)) * 4096
    assert bare.lab("exec", word, "--", "/host", "cat", input=data) == data
    bare.lab("exec", word, "--", "/host", "exit", "42", exit=42)
    assert b"nosuch" in bare.type("lab", "exec", word, "--", "/nosuch", exit=127).stderr
    bare.lab("exec", "--timeout", "1s", word, "--", "/host", "spawn", exit=124)
    words = ["docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={bare.folder.name}"]
    for container in subprocess.run(words, capture_output=True, check=True, text=True).stdout.split():
        shown = processes_of(container)
        assert b"/host" in shown
        assert b"spawn" not in shown, "what was started is ended, and its child in a session of its own"
    bare.lab("down")
    assert left_of(bare) == ""


def test_two_projects_at_once_leave_each_other_alone(make: Make) -> None:
    subnet = "\nnetworks: {default: {ipam: {config: [{subnet: 10.231.8.0/24}]}}}\n"
    one = make("first", compose=BARE + subnet, dockerfile=SCRATCH)
    two = make("second", compose=BARE, dockerfile=SCRATCH)
    clash = make("third", compose=BARE + subnet.replace(".0/24", ".128/25"), dockerfile=SCRATCH)
    one.lab("up")
    two.lab("up")
    said = clash.type("lab", "up", exit=3).stderr.decode()
    assert (
        f"network default (10.231.8.128/25) overlaps with 10.231.8.0/24 of the project {one.folder.name}'s network"
        in said
    )
    before = one.status()
    two.lab("down", "--volumes")
    assert one.status() == before
    assert left_of(two) == ""
    assert left_of(one)


def test_a_folder_without_a_project_is_told_and_touches_no_other(make: Make) -> None:
    nowhere = make("nowhere")
    said = nowhere.type("lab", "down", exit=2).stderr.decode()
    assert f"no Compose file in {nowhere.folder}" in said
    (nowhere.folder / "compose.yaml").write_text("services: {a: {image: 3, sclae: 1}}\n")
    assert "Compose refuses" in nowhere.type("lab", "status", exit=2).stderr.decode()
    (nowhere.folder / "compose.yaml").write_text("services: {a: {image: none.invalid/none}}\n")
    assert json.loads(nowhere.lab("status", "--json", exit=1))["hosts"][0]["state"] == "down"


def test_a_build_that_fails_leaves_nothing(make: Make) -> None:
    broken = make("broken", compose="services: {a: {build: .}}\n", dockerfile=DEBIAN + "RUN echo so far && exit 5\n")
    words = ["docker", "ps", "-aq"]
    before = subprocess.run(words, capture_output=True, check=True).stdout
    assert b"exit 5" in broken.type("lab", "up", exit=3).stderr
    assert subprocess.run(words, capture_output=True, check=True).stdout == before
