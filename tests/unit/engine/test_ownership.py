import os
import subprocess
import sys

from lab.engine.ownership import is_alive, mine


def test_this_process_is_alive() -> None:
    assert mine().startswith(f"{os.getpid()}@")
    assert is_alive(mine())


def test_a_process_that_has_ended_is_not() -> None:
    words = [sys.executable, "-c", "from lab.engine.ownership import mine; print(mine())"]
    assert not is_alive(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def test_a_later_process_of_the_same_id_is_another() -> None:
    assert not is_alive(f"{os.getpid()}@1")


def test_what_cannot_be_read_stays() -> None:
    assert is_alive("")
    assert is_alive("somebody")


def test_a_process_whose_id_counts_elsewhere_may_well_be_alive() -> None:
    assert is_alive(f"{os.getpid()}@1@pid:[1]")
