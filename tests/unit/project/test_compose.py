import fcntl
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.errors import MachineError
from lab.project.compose import Compose, explain_failure, find_command
from lab.project.settings import Settings
from tests.unit.small_project import compose_of


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_plugin_comes_before_the_standalone_command(tmp_path: Path) -> None:
    program(tmp_path / "bin/docker")
    program(tmp_path / "bin/docker-compose")
    program(tmp_path / "home/.docker/cli-plugins/docker-compose")
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    assert find_command(environment) == [str(tmp_path / "bin/docker"), "compose"]


def test_without_a_docker_command_the_plugin_is_of_no_use(tmp_path: Path) -> None:
    standalone = program(tmp_path / "bin/docker-compose")
    program(tmp_path / "home/.docker/cli-plugins/docker-compose")
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    assert find_command(environment) == [str(standalone)]


def test_no_compose_at_all_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        find_command({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert "no Compose" in caught.value.cause
    assert "apt-get install docker-compose" in caught.value.remedy


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            'Conflict. The container name "/lab_peer_1" is already in use by container "3f"',
            "the name lab_peer_1 is taken",
        ),
        ("Pool overlaps with other one on this address space", "a subnet of the lab is in use"),
        ("write /layer.tar: no space left on device", "the engine's disk is full"),
        ("failed to set up container networking: Address already in use", "an address of the lab is taken"),
        ("Temporary failure resolving 'packages'", "Debian's packages could not be fetched"),
        ("Couldn't connect to Docker daemon at http+docker://localhost", "Compose cannot reach the engine"),
        ("something new", "compose up failed: Creating network | something new"),
    ],
)
def test_what_compose_complains_of_becomes_one_line_of_cause(line: str, cause: str) -> None:
    error = explain_failure("compose up", ["Creating network", line])
    assert cause in error.cause
    assert "\n" not in error.cause
    assert error.remedy
    assert error.exit_code == 3


def test_compose_runs_in_the_project_and_each_line_is_told(tmp_path: Path) -> None:
    fake = program(tmp_path / "compose", '#!/bin/sh\necho "$PWD"\nprintf "\\033[2Kword: %s\\n" "$@"\n')
    told: list[str] = []
    compose_of(Settings(tmp_path, {}), [str(fake)]).up(told.append, {"peer": 3})
    assert told[0] == str(tmp_path)
    assert told[1:] == [
        f"word: {word}" for word in ["up", "--detach", "--no-build", "--remove-orphans", "--scale", "peer=3"]
    ]


def test_of_a_project_that_declares_nothing_compose_builds_what_is_missing_and_keeps_orphans(tmp_path: Path) -> None:
    fake = program(tmp_path / "compose", '#!/bin/sh\necho "$@"\n')
    told: list[str] = []
    plain = compose_of(Settings(tmp_path, {}), [str(fake)], "services: {web: {image: w}}")
    plain.up(told.append)
    plain.down(told.append, volumes=False)
    assert told == ["up --detach", "down --remove-orphans"]


def test_a_compose_that_fails_is_an_error(tmp_path: Path) -> None:
    fake = program(tmp_path / "compose", "#!/bin/sh\necho no space left on device >&2\nexit 1\n")
    with pytest.raises(MachineError, match="disk is full"):
        compose_of(Settings(tmp_path, {}), [str(fake)]).down(lambda line: None, volumes=True)


def test_compose_is_told_which_engine_lab_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "another")
    fake = program(tmp_path / "compose", '#!/bin/sh\necho "$DOCKER_HOST $DOCKER_CONTEXT"\n')
    told: list[str] = []
    compose_of(Settings(tmp_path, {"DOCKER_HOST": "unix:///run/x.sock"}), [str(fake)]).down(told.append, volumes=True)
    assert told == ["unix:///run/x.sock"]


def test_an_image_that_is_nowhere_is_named_by_the_compose_file(tmp_path: Path) -> None:
    text = "services: {one: {image: lab/nosuch}}"
    fake = program(tmp_path / "compose", "#!/bin/sh\necho ' one Error Get: no such host'\nexit 1\n")
    with pytest.raises(MachineError, match="the image lab/nosuch is not here and could not be pulled: Get"):
        compose_of(Settings(tmp_path, {}), [str(fake)], text).down(lambda line: None, volumes=True)


HOLDER = """
import sys
from pathlib import Path
from tests.unit.small_project import compose_of
from lab.project.compose import Compose
from lab.project.settings import Settings
with Compose(Settings(Path(sys.argv[1]), {}), ["none"]).locked(print):
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_a_second_command_waits_for_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"holding\n"
        told, entered = [], threading.Event()
        waiting = threading.Event()

        def say(line: str) -> None:
            told.append(line)
            waiting.set()

        def second() -> None:
            with Compose(Settings(tmp_path, {}), ["none"]).locked(say):
                entered.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
        holder.stdin.close()
        assert entered.wait(10)
        thread.join()
    assert told == ["waiting for another lab command on this project to end"]


def test_threads_of_one_process_wait_for_each_other_too(tmp_path: Path) -> None:
    compose = Compose(Settings(tmp_path, {}), ["none"])
    inside, others = [], []

    def enter(name: str) -> None:
        with compose.locked(print):
            inside.append(name)
            others.append(len(inside))
            with Compose(Settings(tmp_path, {}), ["none"])._open_lock() as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inside.remove(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, map(str, range(40))))
    assert others == [1] * 40


def test_the_lock_outlives_a_killed_lab_while_its_compose_goes_on(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fake = program(tmp_path / "compose", f"#!/bin/sh\necho started\nread line <{fifo}\n")
    script = f"""
import sys
from pathlib import Path
from tests.unit.small_project import compose_of
from lab.project.settings import Settings
from tests.unit.small_project import compose_of
compose = compose_of(Settings(Path({str(tmp_path)!r}), {{}}), [{str(fake)!r}])
with compose.locked(print):
    compose.up(lambda line: print(line, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"started\n"
        holder.kill()
    waiting, entered = threading.Event(), threading.Event()

    def second() -> None:
        with Compose(Settings(tmp_path, {}), ["none"]).locked(lambda line: waiting.set()):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert waiting.wait(10)
    assert not entered.is_set()
    fifo.write_text("go on\n")
    assert entered.wait(10)
    thread.join()


def test_where_packages_are_offered_goes_along_as_an_argument_that_no_cache_counts(tmp_path: Path) -> None:
    words = tmp_path / "words"
    said = program(tmp_path / "compose", f'#!/bin/sh\necho "$@" >>{words}\n')
    compose = compose_of(Settings(tmp_path, {}), [str(said)])
    compose.build(["peer"], print)
    compose.build(["peer"], print, "http://172.17.0.2:8000/datagram-lab")
    plain, offered = words.read_text().splitlines()
    assert "--build-arg" not in plain
    assert offered.split()[-3:] == ["--build-arg", "ftp_proxy=http://172.17.0.2:8000/datagram-lab", "peer"]
