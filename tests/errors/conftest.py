"""The command line over the fake engine, as tests/unit/cli has it."""

from tests.unit.cli.conftest import engine, handlers, lab, run

__all__ = ["engine", "handlers", "lab", "run"]
