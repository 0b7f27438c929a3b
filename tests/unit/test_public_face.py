"""What `from lab import …` gives: these names and no others, each the thing of its room."""

from __future__ import annotations

import lab
from lab import errors


def test_the_names_are_these() -> None:
    assert set(lab.__all__) == {
        "CommandError",
        "CommandFailed",
        "CommandTimeout",
        "Completed",
        "ExpectationFailed",
        "Host",
        "HostError",
        "HostStatus",
        "Lab",
        "LabError",
        "MachineError",
        "NoSuchHost",
        "NotRunning",
        "Process",
        "UsageError",
    }


def test_each_name_is_there() -> None:
    assert all(isinstance(getattr(lab, name), type) for name in lab.__all__)


def test_every_error_is_among_them() -> None:
    kinds = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == "lab.errors"
    }
    assert kinds <= set(lab.__all__)


def test_an_expectation_that_fails_is_a_failed_assertion_and_nothing_else() -> None:
    assert issubclass(errors.ExpectationFailed, AssertionError)
    assert not issubclass(errors.ExpectationFailed, errors.HostError | errors.CommandError | errors.MachineError)
    others = [kind for kind in errors.LabError.__subclasses__() if kind is not errors.ExpectationFailed]
    assert not any(issubclass(kind, AssertionError) for kind in others)
