"""Scripts that fork, and scripts that leave without a word: neither harms the other's commands, nor leaves a thing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lab.engine.base import OWNER_LABEL, TEMPORARY_LABEL
from lab.engine.ownership import is_alive

FORKING = """
import multiprocessing, warnings
from lab import Lab

warnings.filterwarnings("ignore", "This process .* is multi-threaded")

def child(number, answers):
    answers.put(client.run(["sh", "-c", f"sleep 0.2; echo child {number}"]).text)

with Lab() as lab:
    client = lab.host("client")
    with client.start(["sh", "-c", "echo begun; read line; echo parent $line"]) as process:
        process.expect("begun")
        forking = multiprocessing.get_context("fork")
        answers = forking.SimpleQueue()
        children = [forking.Process(target=child, args=(number, answers)) for number in range(3)]
        for one in children:
            one.start()
        told = sorted(answers.get() for _ in children)
        for one in children:
            one.join()
            assert one.exitcode == 0
        print(*told, process.communicate(b"goes on\\n").text, sep="", end="")
"""

LEAVING = """
import os, sys
from lab import Lab
for _ in range(3):
    lab = Lab()
    with lab.host("client").capture("udp"):
        pass
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def left(lab, pid: int) -> list[str]:
    """Containers that the process has made and not removed."""
    return [
        one.name
        for one in lab.engine.containers()
        if TEMPORARY_LABEL in one.labels and one.labels[OWNER_LABEL].startswith(f"{pid}@")
    ]


def test_a_forked_childs_commands_run_beside_its_parents(lab):
    words = [sys.executable, "-W", "error", "-c", FORKING]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=lab.settings.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "child 0\nchild 1\nchild 2\nbegun\nparent goes on\n"


def script(lab) -> subprocess.Popen[str]:
    words = [sys.executable, "-W", "error", "-c", LEAVING]
    return subprocess.Popen(words, cwd=lab.settings.root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_script_that_closes_nothing_leaves_nothing(lab):
    with script(lab) as process:
        pid = int(process.stdout.readline())
        assert len(left(lab, pid)) == 3
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert left(lab, pid) == []


def test_what_a_killed_script_leaves_goes_with_the_next_command(lab):
    with script(lab) as process:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert len(left(lab, pid)) == 3
    assert not any(is_alive(one.labels[OWNER_LABEL]) for one in lab.engine.containers() if one.name in left(lab, pid))
    subprocess.run(
        [Path(sys.executable).with_name("lab"), "status"], cwd=lab.settings.root, stdout=subprocess.PIPE, timeout=60
    )
    assert left(lab, pid) == []
