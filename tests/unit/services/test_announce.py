"""services/base/announce: a host's program, and beside it the host's own health check until that succeeds."""

import os
import subprocess
import sys
from pathlib import Path

ANNOUNCE = Path(__file__).parents[3] / "services/base/announce"


def announce(*words: str, check: str | None = None, until: str = "") -> subprocess.CompletedProcess[str]:
    """Run it with a program that ends at the end of its input, which comes once `until` is in its log."""
    environment = {name: value for name, value in os.environ.items() if name != "HEALTHCHECK"}
    if check is not None:
        environment["HEALTHCHECK"] = check
    with subprocess.Popen(
        [ANNOUNCE, *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        log = ""
        while until not in log and (line := process.stderr.readline()):
            log += line
        output, rest = process.communicate(timeout=10)
    return subprocess.CompletedProcess(words, process.returncode, output, log + rest)


def test_it_becomes_the_program_with_its_arguments_and_its_exit_code() -> None:
    done = announce("sh", "-c", 'echo "$1"; exit 7', "sh", "two words")
    assert (done.returncode, done.stdout) == (7, "two words\n")


def test_without_a_check_it_says_so_at_once() -> None:
    assert announce("true").stderr == "announce: HEALTHCHECK is not set, so nothing is announced\n"


def test_it_says_healthy_when_the_check_succeeds() -> None:
    done = announce("cat", check="echo fine", until="healthy")
    assert (done.stdout, done.stderr) == ("", "healthy: echo fine\n")


def test_a_check_that_fails_is_tried_again_and_says_nothing(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    check = f"echo try >>{tries}; echo no luck >&2; test $(wc -l <{tries}) -ge 4"
    done = announce("cat", check=check, until="healthy")
    assert done.stderr == f"healthy: {check}\n"
    assert tries.read_text() == "try\n" * 4


def test_a_check_that_hangs_is_given_up_and_tried_again(tmp_path: Path) -> None:
    check = f"test -e {tmp_path}/second || {{ touch {tmp_path}/second; exec sleep 60; }}"
    assert announce("cat", check=check, until="healthy").stderr == f"healthy: {check}\n"


def test_the_program_gets_no_child_of_which_it_does_not_know() -> None:
    program = "import os\ntry: os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: print('no child')"
    done = announce(sys.executable, "-c", program, check="sleep 0.3")
    assert (done.stdout, done.stderr) == ("no child\n", "healthy: sleep 0.3\n")
