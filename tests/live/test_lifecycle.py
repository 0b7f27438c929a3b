"""`lab up` and `lab down` on a small lab of their own: killed at any moment, run at once, on a machine not in order.

It has its own project name and subnet, so that the lab proper stands beside it untouched.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.engine.base import PROJECT_LABEL, TEMPORARY_LABEL
from lab.project.compose import find_command

LAB = Path(sys.executable).with_name("lab")
PROJECT = Path(__file__).parents[2]
LONG = 90.0
"""Seconds; a machine with two busy cores takes five."""

COMPOSE = """
x-lab:
  subnets: {lan: LAB_LAN}
  scale: {peer: {setting: LAB_PEERS, most: 120}}
  rebuild: true
  disposable: true
x-peer: &peer
  image: datagram-lab/peer
  init: true
  read_only: true
  cap_drop: [ALL]
  mem_limit: 16m
  stop_grace_period: 3s
  labels: {lab.role: peer, lab.try: nothing}
  volumes: ["spool:/srv/spool:ro"]  # not in the image, which the engine would copy into the volume
  environment: {HEALTHCHECK: peer --check /dev/shm/peer-heard}
  healthcheck: {test: 'eval "$$HEALTHCHECK"', interval: 10s, timeout: 3s, retries: 3}
services:
  one:
    <<: *peer
    networks: {lan: {ipv4_address: "${LAB_LAN}.10"}}
  two:
    <<: *peer
    environment: {}  # announces nothing
    healthcheck: {test: [CMD, peer, --check, /dev/shm/peer-heard], interval: 10s, timeout: 3s, retries: 3}
    networks: {lan: {ipv4_address: "${LAB_LAN}.20"}}
  peer:
    <<: *peer
    deploy: {replicas: "${LAB_PEERS:-1}"}
    networks: [lan]
networks:
  lan:
    driver: bridge
    driver_opts:
      com.docker.network.bridge.inhibit_ipv4: "true"
      com.docker.network.bridge.enable_ip_masquerade: "false"
    ipam: {config: [{subnet: "${LAB_LAN}.0/24", gateway: "${LAB_LAN}.1", ip_range: "${LAB_LAN}.128/25"}]}
volumes:
  spool: {}
"""
HOSTS = ["one", "two", "peer-1"]


@dataclass
class Small:
    """A project folder, and the `lab` command on it."""

    folder: Path
    name: str
    lan: str
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, LAB, *words],
            env={**os.environ, "LAB_DIR": str(self.folder), **self.environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lab(self, *words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        with self.command(*words, before=before) as process:
            try:
                out, err = process.communicate(timeout=LONG)
            finally:
                process.kill()
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def up(self) -> None:
        done = self.lab("up")
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        done = self.lab("down")
        assert done.returncode == 0, done.stderr

    def states(self) -> dict[str, str]:
        return {host["name"]: host["state"] for host in json.loads(self.lab("status", "--json").stdout)["hosts"]}

    def containers(self) -> list[str]:
        return lines("docker", "ps", "-aq", "--no-trunc", "--filter", f"label={PROJECT_LABEL}={self.name}")

    def left(self) -> list[str]:
        """What the engine still lists of it, by label and by name."""
        found = []
        for label in (PROJECT_LABEL, TEMPORARY_LABEL):
            found += lines("docker", "ps", "-a", "--filter", f"label={label}={self.name}", "--format", "{{.Names}}")
        for kind in ("container", "network", "volume"):
            name = "{{.Names}}" if kind == "container" else "{{.Name}}"
            every = ["-a"] if kind == "container" else []
            found += lines("docker", kind, "ls", *every, "--filter", f"name={self.name}", "--format", name)
        return sorted(set(found))


def lines(*words: str) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def small(lab, tmp_path: Path) -> Iterator[Small]:
    """Down at the start and at the end; the lab proper is up, and so its images are there."""
    third = random.SystemRandom().randrange(256)
    made = Small(tmp_path, f"lifecycle{uuid.uuid4().hex[:8]}", f"10.77.{third}")
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "services").symlink_to(PROJECT / "services")
    (tmp_path / ".env").write_text(f"COMPOSE_PROJECT_NAME={made.name}\nLAB_LAN={made.lan}\n")
    yield made
    made.environment = {}
    made.down()
    assert made.left() == []


# ---- killed -----------------------------------------------------------------------------------------------------

MOMENTS = [0.1, 0.8, 1.5, 2.2, 2.9]
"""Seconds from the start, which takes three to five when it is left alone. Each run draws up to JITTER more."""
JITTER = 0.7


def end_after(process: subprocess.Popen[str], seconds: float, number: signal.Signals) -> int:
    """Send the signal about that long after the start, if it has not ended by then; its exit code."""
    seconds += random.SystemRandom().uniform(0, JITTER)
    print(f"{number.name} after {seconds:.3f} s")  # shown with a failure
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate(timeout=LONG)
    return process.returncode


@pytest.mark.parametrize("seconds", MOMENTS)
def test_an_up_that_was_killed_is_taken_up_by_the_next(small: Small, seconds: float) -> None:
    with small.command("up") as process:
        assert end_after(process, seconds, signal.SIGKILL) in (-signal.SIGKILL, 0)
    small.up()
    assert small.states() == dict.fromkeys(HOSTS, "healthy")
    small.down()
    assert small.left() == []


@pytest.mark.parametrize("seconds", MOMENTS[1:4:2])
def test_a_down_after_an_up_that_was_killed_leaves_nothing(small: Small, seconds: float) -> None:
    with small.command("up") as process:
        end_after(process, seconds, signal.SIGKILL)
    small.down()
    assert small.left() == []


@pytest.mark.parametrize("seconds", MOMENTS[:2])
def test_a_down_that_was_killed_is_finished_by_the_next(small: Small, seconds: float) -> None:
    small.up()
    with small.command("down") as process:
        end_after(process, seconds, signal.SIGKILL)
    small.down()
    assert small.left() == []


def test_an_interrupted_up_says_how_to_go_on(small: Small) -> None:
    with small.command("up") as process:
        assert process.stderr is not None
        while "starting" not in (line := process.stderr.readline()):
            assert line, "it ended without a start"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert err.endswith("lab: interrupted; lab up goes on where it stopped, lab down takes everything away\n")
    small.up()
    assert small.states() == dict.fromkeys(HOSTS, "healthy")


# ---- at once, again, and beside plain Compose ---------------------------------------------------------------------


def test_two_at_once_make_one_lab(small: Small) -> None:
    with small.command("up") as first, small.command("up") as second:
        said = [process.communicate(timeout=LONG)[1] for process in (first, second)]
        assert [first.returncode, second.returncode] == [0, 0], said
    assert sum("waiting for another lab command on this project" in text for text in said) == 1
    assert len(small.containers()) == len(HOSTS)
    assert small.states() == dict.fromkeys(HOSTS, "healthy")


def test_a_second_up_changes_nothing(small: Small) -> None:
    small.up()
    before = small.containers()
    small.up()
    assert small.containers() == before


def test_an_edited_service_is_built_and_its_host_made_anew_by_one_up(small: Small) -> None:
    image, services = f"{small.name}/one", small.folder / "services"
    services.unlink()
    (services / "one").mkdir(parents=True)
    (services / "one" / "Dockerfile").write_text("FROM datagram-lab/peer\nCOPY word /\n")
    path = small.folder / "compose.yaml"
    path.write_text(path.read_text().replace("  one:\n", f"  one:\n    build: services/one\n    image: {image}\n", 1))
    try:
        for word in ("first", "second"):
            (services / "one" / "word").write_text(f"{word}\n")
            small.up()
            assert small.lab("exec", "one", "cat", "/word").stdout == f"{word}\n"
        small.down()
    finally:
        lines("docker", "rmi", "-f", image)


def test_a_build_that_fails_leaves_nothing(small: Small) -> None:
    services = small.folder / "services"
    services.unlink()
    (services / "one").mkdir(parents=True)
    (services / "one" / "Dockerfile").write_text("FROM datagram-lab/peer\nRUN echo so far && exit 5\n")
    path = small.folder / "compose.yaml"
    image = f"{small.name}/one"
    path.write_text(path.read_text().replace("  one:\n", f"  one:\n    build: services/one\n    image: {image}\n", 1))
    before = lines("docker", "ps", "-aq")
    done = small.lab("up")
    assert done.returncode == 3
    assert "exit 5" in done.stderr
    assert lines("docker", "ps", "-aq") == before


def test_what_an_override_file_says_holds_for_up_too(small: Small) -> None:
    (small.folder / "compose.override.yaml").write_text("services: {one: {environment: {COLOUR: blue}}}\n")
    small.up()
    (one,) = lines("docker", "ps", "-q", "--filter", f"label={PROJECT_LABEL}={small.name}", "--filter", "name=one")
    assert "COLOUR=blue" in lines("docker", "exec", one, "env")


def test_an_up_after_a_network_was_moved_moves_the_hosts(small: Small) -> None:
    small.up()
    moved = small.lan.replace("10.77.", "10.78.")
    (small.folder / ".env").write_text(f"COMPOSE_PROJECT_NAME={small.name}\nLAB_LAN={moved}\n")
    small.up()
    hosts = json.loads(small.lab("status", "--json").stdout)["hosts"]
    assert [(host["state"], host["addresses"]["lan"].rpartition(".")[0]) for host in hosts] == [("healthy", moved)] * 3


def plain(small: Small, *words: str) -> None:
    done = subprocess.run([*find_command(), *words], cwd=small.folder, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("changed_by", ["lab", "plain Compose"])
def test_hosts_keep_their_addresses_when_an_option_of_their_network_changes(small: Small, changed_by: str) -> None:
    """Compose 2 makes the network anew and connects the old containers without their fixed addresses."""
    small.up()
    path = small.folder / "compose.yaml"
    masquerade = 'com.docker.network.bridge.enable_ip_masquerade: "false"\n'
    path.write_text(path.read_text().replace(masquerade, f'{masquerade}      com.docker.network.driver.mtu: "1400"\n'))
    if changed_by == "plain Compose":
        # 1.29 refuses, which leaves the old network; 2 does it, with or without an error of its own.
        subprocess.run([*find_command(), "up", "-d"], cwd=small.folder, capture_output=True, timeout=LONG)
    small.up()
    hosts = json.loads(small.lab("status", "--json").stdout)["hosts"]
    assert {host["name"]: host["addresses"]["lan"] for host in hosts[:2]} == {
        "one": f"{small.lan}.10",
        "two": f"{small.lan}.20",
    }
    options = lines("docker", "network", "inspect", f"{small.name}_lan", "--format", "{{json .Options}}")
    assert '"com.docker.network.driver.mtu":"1400"' in options[0]


@pytest.mark.parametrize(
    "words", [["stop", "two"], ["rm", "-sf", "one"], ["down"], ["run", "-d", "peer", "true"]], ids=" ".join
)
def test_what_plain_compose_did_is_set_right_by_up(small: Small, words: list[str]) -> None:
    small.up()
    plain(small, *words)
    small.up()
    assert small.states() == dict.fromkeys(HOSTS, "healthy")


def test_a_lab_that_plain_compose_started_is_a_lab(small: Small) -> None:
    plain(small, "up", "-d")
    before = small.containers()
    small.up()
    assert small.containers() == before
    small.down()
    assert small.left() == []


def test_a_host_that_was_frozen_or_killed_comes_back(small: Small) -> None:
    small.up()
    one, two = (lines("docker", "ps", "-q", "--filter", f"name={small.name}.{name}")[0] for name in ("one", "two"))
    lines("docker", "kill", one)
    lines("docker", "pause", two)
    assert small.states() == {"one": "exited", "two": "paused", "peer-1": "healthy"}
    small.up()
    assert small.states() == dict.fromkeys(HOSTS, "healthy")


# ---- a machine that is not in order -------------------------------------------------------------------------------


def refused(small: Small, cause: str, remedy: str, before: Sequence[str] = ()) -> None:
    """`up` ends with 3, one line of cause and one of remedy; `doctor` finds the same."""
    done = small.lab("up", before=before)
    said = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(said) == 2, said
    assert said[0].startswith("lab: ")
    assert cause in said[0]
    assert said[1].startswith("     ")
    assert remedy in said[1]
    doctor = small.lab("doctor", before=before)
    assert doctor.returncode == 3
    assert f"{said[0].removeprefix('lab: ')}\n" in doctor.stdout
    assert f"→ {said[1].strip()}\n" in doctor.stdout


def test_a_name_already_taken_is_named(small: Small) -> None:
    taken = f"{small.name}_two_1"
    lines("docker", "create", "--name", taken, "datagram-lab/peer")
    try:
        refused(small, f"the name {taken} is taken", f"docker rm -f {taken}")
    finally:
        lines("docker", "rm", "-f", taken)


def test_a_subnet_in_use_is_named(small: Small) -> None:
    other = f"office-{small.name}"
    lines(
        "docker",
        "network",
        "create",
        "--subnet",
        f"{small.lan}.64/26",
        "-o",
        "com.docker.network.bridge.inhibit_ipv4=true",
        other,
    )
    try:
        refused(
            small,
            f"network lan ({small.lan}.0/24) overlaps with {small.lan}.64/26 of the engine's network {other}",
            f"docker network rm {other}",
        )
    finally:
        lines("docker", "network", "rm", other)


def test_a_lab_of_the_same_name_elsewhere_is_named(small: Small, tmp_path_factory: pytest.TempPathFactory) -> None:
    small.up()
    clone = Small(tmp_path_factory.mktemp("clone"), small.name, small.lan)
    for name in ("compose.yaml", ".env"):
        (clone.folder / name).write_bytes((small.folder / name).read_bytes())
    (clone.folder / "services").symlink_to(PROJECT / "services")
    refused(clone, f"has already been started from {small.folder}", "End it (lab down, in either folder)")
    assert small.states() == dict.fromkeys(HOSTS, "healthy")


def test_an_engine_that_is_stopped_is_told(small: Small) -> None:
    small.environment = {"DOCKER_HOST": "unix:///nonexistent"}
    refused(small, "no engine answers at unix:///nonexistent", "Start it: ")


@pytest.mark.parametrize(
    "words", [["status"], ["exec", "one", "true"], ["logs", "one"], ["down"], ["scale", "peer=2"]], ids=" ".join
)
def test_no_command_is_at_a_loss_without_an_engine(small: Small, words: list[str]) -> None:
    small.environment = {"DOCKER_HOST": "unix:///nonexistent"}
    done = small.lab(*words)
    assert done.returncode == 3
    assert "lab: no engine answers at unix:///nonexistent\n     Start it: " in done.stderr


def test_no_right_to_the_socket_is_told(small: Small) -> None:
    """A socket that its owner may not use; root may nothing more than that without these capabilities."""
    path = small.folder / "engine.sock"
    root = ["setpriv", *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps"))]
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        path.chmod(0)
        small.environment = {"DOCKER_HOST": f"unix://{path}"}
        refused(
            small,
            f"no right to use the engine's socket (unix://{path})",
            "usermod -aG docker",
            root if os.getuid() == 0 else (),
        )


def test_no_compose_is_told(small: Small) -> None:
    small.environment = {"PATH": str(small.folder), "HOME": str(small.folder), "DOCKER_CONFIG": ""}
    refused(
        small, "no Compose: neither the plugin (docker compose) nor docker-compose", "apt-get install docker-compose"
    )


def test_an_image_that_is_not_there_is_told(small: Small) -> None:
    path = small.folder / "compose.yaml"
    path.write_text(path.read_text().replace("datagram-lab/peer", "datagram-lab/nosuch"))
    done = small.lab("up")
    assert done.returncode == 3
    assert "datagram-lab/nosuch" in done.stderr


@pytest.mark.parametrize("host", ["one", "two"])
def test_a_program_that_ends_at_once_is_told_with_its_last_words(small: Small, host: str) -> None:
    path = small.folder / "compose.yaml"
    path.write_text(path.read_text().replace(f"  {host}:\n", f"  {host}:\n    command: [peer, --nonsense]\n"))
    done = small.lab("up")
    assert done.returncode == 3
    assert "nonsense" in done.stderr
    assert f"lab logs {host} shows the whole log" in done.stderr
