"""lab/bootstrap.sh on made-up machines: a folder is the root, and the commands only note what they were told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "lab" / "bootstrap.sh"
TOOLS = (
    "sh",
    "cat",
    "cut",
    "date",
    "dirname",
    "grep",
    "head",
    "mktemp",
    "perl",
    "rm",
    "sed",
    "setsid",
    "sleep",
    "tail",
)
"""What a minimal Debian has; everything else a test puts there."""

NOTE = 'echo "$(basename "$0") $*" >>"$CALLS"'
"""First line of every made-up command."""


class Machine:
    """A machine to bootstrap: its root folder, its commands, and what these were told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.bin = root / "bin"
        for folder in ("project/lab", "bin", "etc", "usr/sbin", "var/run", "var/log"):
            (root / folder).mkdir(parents=True)
        shutil.copy(SCRIPT, self.project / "lab")
        for tool in (*TOOLS, "basename"):
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        self.calls_file = root / "calls"
        self.calls_file.touch()
        self.environment: dict[str, str] = {}
        self.system("debian", "Debian GNU/Linux 12 (bookworm)")
        self.user("root", 0)
        self.command("apt-get")
        self.offers("docker-buildx", compose="1.29.2-3")

    def command(self, name: str, script: str = "", folder: str = "bin") -> None:
        path = self.root / folder / name
        path.write_text(f"#!/bin/sh\n{NOTE}\n{script}\n")
        path.chmod(0o755)

    def offers(self, *but: str, compose: str) -> None:
        """The distribution has every package but these, and this version of docker-compose."""
        script = f'echo "Package: $2"; case $2 in docker-compose) echo "Version: {compose}" ;; esac'
        self.command("apt-cache", f"case $2 in {' | '.join(but)}) exit 100 ;; esac; {script}")

    def system(self, id: str, name: str) -> None:
        (self.root / "etc/os-release").write_text(f'ID={id}\nPRETTY_NAME="{name}"\n')

    def user(self, name: str, uid: int) -> None:
        self.command("id", f"case $1 in -u) echo {uid} ;; -un) echo {name} ;; esac")
        (self.bin / "id").write_text((self.bin / "id").read_text().replace(NOTE, ""))

    def python(self, minor: int = 12, *, venv: bool = True, name: str = "python3") -> None:
        """A Python 3.`minor`: answers the two questions that are asked of it."""
        fits = int(minor < 11)
        self.command(
            name,
            f"""case "$*" in
            -V) echo Python 3.{minor}.0 ;;
            *ensurepip*) exit {fits if venv else 1} ;;
            *) exit {fits} ;;
            esac""",
        )

    def complete(self) -> None:
        """Everything but the engine, which `engine` starts."""
        self.python()
        self.command("docker-compose")
        self.command("mmdebstrap")

    def run(self, *words: str, without_rights: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the script; `without_rights` as a user to whom the files' modes apply, whoever runs the tests."""
        if without_rights:
            self.root.chmod(0o755)
            self.calls_file.chmod(0o666)
        environment = {
            "PATH": str(self.bin),
            "HOME": str(self.root / "home"),
            "LAB_MACHINE_ROOT": str(self.root),
            "CALLS": str(self.calls_file),
            **self.environment,
        }
        return subprocess.run(
            [self.project / "lab/bootstrap.sh", *words],
            env=environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            user=65534 if without_rights and os.geteuid() == 0 else None,
        )

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()

    def changes(self) -> list[str]:
        """Calls that change the machine."""
        quiet = ("apt-cache", "python3")
        return [call for call in self.calls if not call.startswith(quiet)]


class Engine:
    """Answers `GET /_ping` (and every other question) on the machine's socket."""

    def __init__(self, machine: Machine, answer: bytes = b"HTTP/1.0 200 OK\r\n\r\nOK") -> None:
        self.path = machine.root / "var/run/docker.sock"
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                request = connection.recv(4096)
                if request == b"stop":
                    return
                self.asked.append(request.split()[1])
                connection.sendall(self._answer)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
            last.sendall(b"stop")
        self._thread.join()
        self._listener.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:  # a short path: a socket's has at most 107 bytes
        yield Machine(Path(folder))


@pytest.fixture
def engine(machine: Machine) -> Iterator[Engine]:
    engine = Engine(machine)
    yield engine
    engine.close()


def dockerd_that_answers(machine: Machine) -> None:
    """A dockerd that serves the machine's socket, as the real one does, until the test's folder goes."""
    serve = machine.root / "serve.pl"
    serve.write_text(
        """use Socket; my $path = shift;
        socket(my $listener, PF_UNIX, SOCK_STREAM, 0); bind $listener, pack_sockaddr_un($path); listen $listener, 5;
        alarm 20;
        while (accept my $client, $listener) { sysread $client, my $request, 4096;
            syswrite $client, "HTTP/1.0 200 OK\\r\\n\\r\\nOK"; close $client; last if $request =~ /stop/ }"""
    )
    machine.command("dockerd", f"exec perl {serve} {machine.root}/var/run/docker.sock")


def stop_dockerd(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(machine.root / "var/run/docker.sock"))
        last.sendall(b"stop")


# ---- nothing is missing


def test_a_machine_in_order_is_left_alone_and_nothing_is_said(machine: Machine, engine: Engine) -> None:
    machine.complete()
    done = machine.run("machine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.changes() == []
    assert engine.asked == [b"/_ping"]


def test_a_finished_venv_spares_the_question_to_python(machine: Machine, engine: Engine) -> None:
    machine.complete()
    finished_venv(machine)
    assert machine.run("machine").returncode == 0
    assert machine.calls == []


@pytest.mark.usefixtures("engine")
def test_a_venv_that_was_moved_is_made_again(machine: Machine) -> None:
    machine.complete()
    finished_venv(machine, made_in="/elsewhere")
    assert machine.run("machine").returncode == 0
    assert not (machine.project / ".venv/run").exists()


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ({"DOCKER_HOST": "tcp://elsewhere:2375"}, None),
        ({"DOCKER_CONTEXT": "office"}, '{"currentContext": "default"}'),
        ({"DOCKER_TLS_VERIFY": "1"}, None),
        ({}, '{"auths": {}, "currentContext": "office", "x": "y"}'),
        ({}, '{\n\t"auths": {},\n\t"currentContext": "office"\n}'),
    ],
)
def test_an_engine_that_docker_is_told_of_is_neither_asked_nor_started(
    machine: Machine, said: dict[str, str], config: str | None
) -> None:
    machine.complete()
    machine.command("dockerd")
    docker_settings(machine, said, config)
    assert machine.run("machine").returncode == 0
    assert machine.changes() == []


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": ""}, '{"auths": {}}'),
        ({"DOCKER_CONTEXT": "default"}, '{"currentContext": "office"}'),
        ({}, '{"currentContext": ""}'),
        ({}, '{"currentContext": "default"}'),
    ],
)
def test_otherwise_this_machines_own_is_asked(
    machine: Machine, engine: Engine, said: dict[str, str], config: str | None
) -> None:
    machine.complete()
    docker_settings(machine, said, config)
    assert machine.run("machine").returncode == 0
    assert engine.asked == [b"/_ping"]


def docker_settings(machine: Machine, said: dict[str, str], config: str | None) -> None:
    machine.environment.update(said)
    machine.environment["DOCKER_CONFIG"] = str(machine.root / "docker-settings")
    (machine.root / "docker-settings").mkdir()
    if config is not None:
        (machine.root / "docker-settings/config.json").write_text(config)


@pytest.mark.usefixtures("engine")
def test_the_compose_plugin_will_do(machine: Machine) -> None:
    machine.complete()
    (machine.bin / "docker-compose").unlink()
    machine.command("docker")
    plugins = machine.root / "usr/libexec/docker/cli-plugins"
    plugins.mkdir(parents=True)
    machine.command("docker-compose", folder=str(plugins.relative_to(machine.root)))
    assert machine.run("machine").returncode == 0
    assert machine.changes() == []


@pytest.mark.usefixtures("engine")
def test_the_compose_plugin_without_its_docker_command_will_not(machine: Machine) -> None:
    machine.complete()
    (machine.bin / "docker-compose").unlink()
    plugins = machine.root / "usr/libexec/docker/cli-plugins"
    plugins.mkdir(parents=True)
    machine.command("docker-compose", folder=str(plugins.relative_to(machine.root)))
    machine.environment["LAB_INSTALL"] = "0"
    assert "lacks Compose" in machine.run("machine").stderr


def test_the_builder_is_not_missed_where_the_base_image_is(machine: Machine, engine: Engine) -> None:
    machine.complete()
    (machine.bin / "mmdebstrap").unlink()
    assert machine.run("machine").returncode == 0
    assert machine.changes() == []
    assert engine.asked[-1] == b"/images/datagram-lab/debian:bookworm/json"


def asks_for_the_base_image(machine: Machine, engine: Engine) -> bool:
    """Whether it wants a builder, which is missing, unless the engine has the image."""
    machine.complete()
    (machine.bin / "mmdebstrap").unlink()
    done = machine.run("machine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return b"/images/datagram-lab/debian:bookworm/json" in engine.asked


@pytest.mark.parametrize(
    ("base", "wanted"), [("auto", True), ("build", True), ("", True), ("pull", False), ("ours/debian:12", False)]
)
def test_the_builder_is_not_missed_where_the_base_comes_from_elsewhere(
    machine: Machine, engine: Engine, base: str, wanted: bool
) -> None:
    machine.environment["LAB_BASE"] = base
    assert asks_for_the_base_image(machine, engine) == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("LAB_BASE=pull", False),
        ("LAB_BASE=ours/debian:12  # mirrored", False),
        ("export LAB_BASE = 'pull' # quoted", False),
        ('LAB_BASE="pull"', False),
        ("LAB_BASE=auto\n  LAB_BASE=pull", False),
        ("LAB_BASE=build # from packages", True),
        ('LAB_BASE="auto"# the default', True),
        ("LAB_BASE=", True),
        ("# LAB_BASE=pull\nMY_LAB_BASE=pull\nLAB_BASES=pull", True),
        ("LAB_BASE=pull\nLAB_BASE=auto", True),
    ],
)
def test_where_the_base_comes_from_may_stand_in_the_env_file(
    machine: Machine, engine: Engine, line: str, wanted: bool
) -> None:
    (machine.project / ".env").write_text(f"LAB_PEERS=1\n{line}\n")
    assert asks_for_the_base_image(machine, engine) == wanted


@pytest.mark.parametrize(("base", "wanted"), [("auto", True), ("", True), ("pull", False)])
def test_the_environment_wins_over_the_env_file(machine: Machine, engine: Engine, base: str, wanted: bool) -> None:
    (machine.project / ".env").write_text(f"LAB_BASE={'pull' if wanted else 'auto'}\n")
    machine.environment["LAB_BASE"] = base
    assert asks_for_the_base_image(machine, engine) == wanted


# ---- installing


def bare(machine: Machine) -> None:
    """apt-get install brings everything that it is asked for; dockerd answers once it is started."""
    dockerd_that_answers(machine)
    shutil.move(machine.bin / "dockerd", machine.root / "dockerd")
    machine.python()
    shutil.move(machine.bin / "python3", machine.root / "python3")
    machine.command(
        "apt-get",
        f"""case "$*" in *docker.io*)
            /bin/cp {machine.root}/dockerd {machine.root}/python3 {machine.bin}
            : >{machine.bin}/docker-compose; : >{machine.bin}/mmdebstrap
            /bin/chmod +x {machine.bin}/docker-compose {machine.bin}/mmdebstrap ;;
        esac""",
    )
    machine.offers("docker-compose-v2", "docker-cli", "docker-buildx", compose="1.29.2-3")


def test_a_bare_debian_is_told_what_comes_and_gets_it_and_its_engine_is_started(machine: Machine) -> None:
    bare(machine)
    done = machine.run("machine")
    stop_dockerd(machine)
    assert (done.returncode, done.stderr) == (0, "")
    installs = [call for call in machine.calls if " install " in call]
    assert len(installs) == 1
    packages = installs[0].partition("Timeout=120 ")[2].split()
    assert packages == [
        "python3-venv", "docker.io", "ca-certificates", "docker-compose", "mmdebstrap", "debian-archive-keyring",
    ]  # fmt: skip
    for package in packages:
        assert f"\n  {package} " in done.stdout, "each is said, with its reason"
    assert "LAB_INSTALL=0" in done.stdout
    assert "dockerd itself" in done.stdout
    assert "datagram-lab-dockerd.log" in done.stdout
    assert done.stdout.index("will be installed") < done.stdout.index("Installed in")


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    engine = Engine(machine)
    try:
        machine.complete()
        (machine.bin / "docker-compose").unlink()
        machine.offers("docker-compose-v2", compose="1.29.2-3")
        machine.command(
            "apt-get", f"case $1 in install) /bin/cp {machine.bin}/mmdebstrap {machine.bin}/docker-compose ;; esac"
        )
        done = machine.run("machine")
    finally:
        engine.close()
    assert done.returncode == 0
    assert next(call for call in machine.calls if " install " in call).endswith("Timeout=120 docker-compose")
    assert "dockerd" not in done.stdout


def named_packages(machine: Machine) -> list[str]:
    """Those that it says are to be installed, where it may not itself."""
    machine.environment["LAB_INSTALL"] = "0"
    done = machine.run("machine")
    assert done.returncode == 3
    return done.stderr.partition("--no-install-recommends ")[2].partition(";")[0].split()


def test_compose_2_gets_what_it_builds_with(machine: Machine) -> None:
    machine.python()
    machine.command("mmdebstrap")
    machine.offers("docker-compose-v2", compose="2.26.1-4")
    assert named_packages(machine)[-2:] == ["docker-compose", "docker-buildx"]


@pytest.mark.parametrize(
    ("distribution", "standalone", "named"),
    [
        pytest.param("1.29.2-3", "", False, id="the distribution's Compose is 1.29"),
        pytest.param("1.29.2-3", "2.40.3", True, id="a newer one is there"),
        pytest.param("2.26.1-4", "1.29.2", False, id="an older one is there"),
    ],
)
def test_compose_1_gets_no_buildx(machine: Machine, distribution: str, standalone: str, named: bool) -> None:
    machine.python()
    machine.command("mmdebstrap")
    machine.offers("docker-compose-v2", compose=distribution)
    if standalone:
        machine.command("docker-compose", f"echo {standalone}")
    assert ("docker-buildx" in named_packages(machine)) == named


def test_a_distribution_without_buildx_is_not_asked_for_it(machine: Machine) -> None:
    machine.python()
    machine.command("docker-compose", "echo 2.40.3")
    assert "docker.io" in named_packages(machine)
    assert "docker-buildx" not in named_packages(machine)


def test_dockers_own_packages_get_their_own_buildx(machine: Machine, engine: Engine) -> None:
    machine.complete()
    (machine.bin / "docker-compose").unlink()
    machine.offers("docker-compose", compose="")
    (machine.root / "var/lib/dpkg/info").mkdir(parents=True)
    (machine.root / "var/lib/dpkg/info/docker-ce-cli.list").touch()
    assert named_packages(machine) == ["docker-compose-plugin", "docker-buildx-plugin"]
    assert engine.asked


def test_a_buildx_that_is_there_is_not_asked_for(machine: Machine) -> None:
    machine.python()
    machine.offers("docker-compose-v2", compose="2.26.1-4")
    plugins = machine.root / "usr/libexec/docker/cli-plugins"
    plugins.mkdir(parents=True)
    machine.command("docker-buildx", folder=str(plugins.relative_to(machine.root)))
    assert "docker-buildx" not in named_packages(machine)


@pytest.mark.usefixtures("engine")
def test_a_missing_buildx_alone_stops_nobody_and_brings_nothing(machine: Machine) -> None:
    machine.complete()
    machine.command("docker-compose", "echo 2.40.3")
    machine.offers("docker-compose-v2", compose="2.40.3-3")
    assert machine.run("machine").returncode == 0
    assert machine.changes() == []


def test_a_compose_plugin_needs_no_second_compose_beside_the_engine_to_come(machine: Machine) -> None:
    """The engine's package brings the `docker` command that it is a plugin of."""
    machine.python()
    machine.command("mmdebstrap")
    plugins = machine.root / "usr/local/lib/docker/cli-plugins"
    plugins.mkdir(parents=True)
    machine.command("docker-compose", folder=str(plugins.relative_to(machine.root)))
    assert named_packages(machine)[0] == "docker.io"
    assert "docker-compose" not in named_packages(machine)


@pytest.mark.usefixtures("engine")
def test_ubuntu_gets_its_own_package_of_compose(machine: Machine) -> None:
    machine.complete()
    machine.system("ubuntu", "Ubuntu 24.04 LTS")
    (machine.bin / "docker-compose").unlink()
    machine.environment["LAB_INSTALL"] = "0"
    assert machine.run("machine").stderr.rstrip().endswith("docker-compose-v2; then repeat.")


def test_a_python_that_is_too_old_is_named_and_a_newer_one_put_beside_it(machine: Machine, engine: Engine) -> None:
    machine.complete()
    machine.python(10)
    machine.system("ubuntu", "Ubuntu 22.04 LTS")
    machine.command("apt-cache", 'case $2 in python3.11-venv) echo "Package: $2" ;; *) exit 100 ;; esac')
    machine.environment["LAB_INSTALL"] = "0"
    done = machine.run("machine")
    assert done.returncode == 3
    assert "Ubuntu 22.04 LTS lacks Python 3.11 or newer with venv (Python 3.10.0 is too old)" in done.stderr
    assert "apt-get install --no-install-recommends python3.11-venv" in done.stderr
    assert engine.asked


def test_an_installation_that_fails_shows_its_last_words_and_the_command(machine: Machine) -> None:
    machine.command("apt-get", 'case $1 in install) echo "E: no space left" >&2; exit 100 ;; esac')
    done = machine.run("machine")
    assert done.returncode == 3
    assert "| E: no space left" in done.stderr
    assert "apt-get could not install python3-venv docker.io" in done.stderr
    assert "Type: apt-get update && apt-get install" in done.stderr


def test_an_installation_that_brings_too_little_does_not_go_on(machine: Machine) -> None:
    done = machine.run("machine")  # this apt-get installs nothing and reports success
    assert done.returncode == 3
    assert "lacks Python 3.11 or newer" in done.stderr


# ---- where it may not


def test_lab_install_0_forbids_and_names_the_command(machine: Machine) -> None:
    machine.environment["LAB_INSTALL"] = "0"
    done = machine.run("machine")
    assert done.returncode == 3
    assert machine.changes() == []
    assert len(done.stderr.splitlines()) == 2
    assert "LAB_INSTALL=0 forbids" in done.stderr
    assert "lacks Python 3.11 or newer with venv, a container engine, Compose and a builder" in done.stderr
    assert "apt-get update && apt-get install --no-install-recommends python3-venv docker.io" in done.stderr


@pytest.mark.parametrize("sudo", [True, False])
def test_an_ordinary_user_is_told_what_an_administrator_types(machine: Machine, sudo: bool) -> None:
    machine.user("alice", 1000)
    if sudo:
        machine.command("sudo")
    done = machine.run("machine")
    assert done.returncode == 3
    assert machine.changes() == []
    expected = "Type: sudo apt-get update && sudo apt-get install" if sudo else "As root, type: apt-get update && "
    assert expected in done.stderr
    assert "usermod -aG docker alice; then log in again" in done.stderr


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("dnf", "dnf install python3 moby-engine docker-compose"),
        ("pacman", "pacman -S --needed python docker docker-compose"),
        ("zypper", "zypper install python311 docker docker-compose"),
        ("apk", "apk add python3 docker docker-cli-compose"),
        ("brew", "install Python 3.11 or newer with venv, a container engine, Compose and a builder"),
    ],
)
def test_another_system_gets_its_own_command_and_nothing_is_installed(
    machine: Machine, manager: str, command: str
) -> None:
    machine.system("other", "Other Linux 1")
    (machine.bin / "apt-get").unlink()
    machine.command(manager)
    done = machine.run("machine")
    assert done.returncode == 3
    assert "Other Linux 1 lacks" in done.stderr
    assert command in done.stderr
    assert machine.changes() == []


@pytest.mark.usefixtures("engine")
def test_a_missing_builder_alone_stops_nobody(machine: Machine) -> None:
    """A registry may well answer."""
    machine.complete()
    (machine.bin / "mmdebstrap").unlink()
    machine.user("alice", 1000)
    assert machine.run("machine").returncode == 0


# ---- the engine


def test_a_stopped_engine_is_started_and_that_is_said(machine: Machine) -> None:
    machine.complete()
    dockerd_that_answers(machine)
    done = machine.run("machine")
    stop_dockerd(machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dockerd itself runs in the background" in done.stdout
    assert machine.changes() == ["dockerd "]


def test_systemd_is_asked_to_start_the_engine_where_it_rules(machine: Machine) -> None:
    machine.complete()
    dockerd_that_answers(machine)
    (machine.root / "run/systemd/system").mkdir(parents=True)
    machine.command("systemctl", "setsid dockerd >/dev/null 2>&1 &")
    done = machine.run("machine")
    stop_dockerd(machine)
    assert done.returncode == 0
    assert machine.changes()[0] == "systemctl start docker"


def test_a_service_script_that_works_is_used(machine: Machine) -> None:
    machine.complete()
    dockerd_that_answers(machine)
    (machine.root / "etc/init.d").mkdir()
    machine.command("docker", folder="etc/init.d")
    machine.command("service", "setsid dockerd >/dev/null 2>&1 &")
    done = machine.run("machine")
    stop_dockerd(machine)
    assert done.returncode == 0
    assert "service docker start" in done.stdout
    assert "dockerd itself" not in done.stdout


def test_an_engine_that_does_not_come_up_shows_its_last_words(machine: Machine) -> None:
    machine.complete()
    machine.command("dockerd", "echo no cgroups >&2; exit 1")
    done = machine.run("machine")
    assert done.returncode == 3
    assert "| no cgroups" in done.stderr
    assert "datagram-lab-dockerd.log" in done.stderr


def test_lab_install_0_starts_no_engine(machine: Machine) -> None:
    machine.complete()
    machine.command("dockerd")
    machine.environment["LAB_INSTALL"] = "0"
    done = machine.run("machine")
    assert done.returncode == 3
    assert "the container engine is stopped (LAB_INSTALL=0" in done.stderr
    assert machine.changes() == []


def test_a_dockerd_that_runs_and_does_not_answer_is_never_started_twice(machine: Machine) -> None:
    machine.complete()
    machine.command("dockerd")
    # A process of that name that serves nothing.
    (machine.root / "dockerd").symlink_to("/bin/cat")
    with subprocess.Popen([machine.root / "dockerd"], stdin=subprocess.PIPE) as stuck:
        (machine.root / "var/run/docker.pid").write_text(str(stuck.pid))
        machine.environment["LAB_INSTALL"] = "0"
        done = machine.run("machine")
    assert done.returncode == 3
    assert f"dockerd, process {stuck.pid}) and does not answer" in done.stderr
    assert machine.changes() == []


def test_a_dockerd_that_was_killed_and_not_collected_yet_is_started_anew(machine: Machine) -> None:
    """Its number is a zombie's, which bears its name; dockerd itself would refuse to start beside it."""
    machine.complete()
    dockerd_that_answers(machine)
    (machine.root / "dockerd").symlink_to("/bin/true")
    with subprocess.Popen([machine.root / "dockerd"]) as killed:
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        pid_file = machine.root / "var/run/docker.pid"
        pid_file.write_text(str(killed.pid))
        done = machine.run("machine")
        stop_dockerd(machine)
    assert done.returncode == 0, done.stderr
    assert "Starting the engine" in done.stdout
    assert not pid_file.exists()


@pytest.mark.usefixtures("engine")
def test_a_user_without_right_to_the_socket_is_told_the_group(machine: Machine) -> None:
    machine.complete()
    machine.user("alice", 1000)
    (machine.root / "var/run/docker.sock").chmod(0o400)
    done = machine.run("machine", without_rights=True)
    assert done.returncode == 3
    assert "user alice may not use the container engine" in done.stderr
    assert "usermod -aG docker alice; then log in again; then repeat." in done.stderr


@pytest.mark.usefixtures("engine")
def test_a_user_whose_group_is_new_is_told_to_log_in_again(machine: Machine) -> None:
    machine.complete()
    machine.user("alice", 1000)
    (machine.root / "etc/group").write_text("docker:x:101:bob,alice\n")
    (machine.root / "var/run/docker.sock").chmod(0o400)
    assert (
        "     log in again (the group docker has alice already)" in machine.run("machine", without_rights=True).stderr
    )


# ---- .venv


def finished_venv(machine: Machine, made_in: str | None = None) -> None:
    python = machine.project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/sh")
    (machine.project / ".venv/run").write_text(f"{made_in or machine.project}\n")


def venv_maker(machine: Machine, pip: str = "exit 0") -> None:
    """A Python whose `-m venv` makes a .venv with a Python of the same kind, where pip does as told."""
    machine.command(
        "python3",
        f"""case "$*" in
        -V) echo Python 3.12.0 ;;
        "-m venv --clear .venv")
            rm -rf .venv; /bin/mkdir -p .venv/bin
            printf '#!/bin/sh\\necho "pip $*" >>"$CALLS"\\n%s\\n' '{pip}' >.venv/bin/python
            /bin/chmod +x .venv/bin/python ;;
        esac""",
    )


def compiler(machine: Machine) -> None:
    machine.command("gcc")
    (machine.root / "usr/include").mkdir()
    (machine.root / "usr/include/stdio.h").touch()


@pytest.mark.parametrize("missing", ["gcc", "headers"])
def test_the_tests_compiler_is_installed_when_they_are_wanted(machine: Machine, missing: str) -> None:
    venv_maker(machine)
    if missing == "headers":
        machine.command("gcc")
    assert machine.run("venv").returncode == 0
    assert machine.changes() == [call for call in machine.changes() if call.startswith("pip")]
    done = machine.run("venv", "dev")
    assert done.returncode == 0
    assert any(call.endswith("Timeout=120 gcc libc6-dev") for call in machine.calls)
    assert "compiles the lab's C programs" in done.stdout


def test_the_stamps_come_last_and_say_where(machine: Machine) -> None:
    venv_maker(machine)
    compiler(machine)
    done = machine.run("venv", "dev")
    assert done.returncode == 0, done.stderr
    assert (machine.project / ".venv/dev").read_text() == f"{machine.project}\n"
    assert (machine.project / ".venv/run").exists()
    assert any("--editable .[dev]" in call for call in machine.calls)


def test_a_failed_installation_leaves_no_stamp_and_is_begun_anew(machine: Machine) -> None:
    venv_maker(machine, pip="exit 1")
    done = machine.run("venv")
    assert done.returncode == 3
    assert "PIP_CERT" in done.stderr
    assert not (machine.project / ".venv/run").exists()
    (machine.project / ".venv/rubbish").touch()
    venv_maker(machine)
    assert machine.run("venv").returncode == 0
    assert not (machine.project / ".venv/rubbish").exists()


def test_an_update_that_is_interrupted_leaves_no_stamp(machine: Machine) -> None:
    venv_maker(machine)
    compiler(machine)
    machine.run("venv")
    (machine.project / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    assert machine.run("venv", "dev").returncode == 3
    assert not (machine.project / ".venv/run").exists()


def test_a_whole_venv_is_brought_up_to_date_and_not_made_anew(machine: Machine) -> None:
    venv_maker(machine)
    compiler(machine)
    machine.run("venv")
    machine.run("venv", "dev")
    assert [call for call in machine.calls if "-m venv" in call] == ["python3 -m venv --clear .venv"]


def test_wrong_words_are_usage(machine: Machine) -> None:
    done = machine.run("everything")
    assert done.returncode == 2
    assert "usage:" in done.stderr
