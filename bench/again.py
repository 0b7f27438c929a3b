"""`lab up` when there is nothing to do, against plain Compose when there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterator

from bench.bench import LAB, Bench
from bench.measure import Row, by_turns
from lab import LabError


def measure(bench: Bench) -> Iterator[Row]:
    bench.lab.up()
    bench.wait_for_the_engines_verdict()  # until then, lab up looks at the hosts itself
    before = {container.id for container in bench.lab.machine.own}
    lab_up, compose_up = by_turns(
        [lambda: bench.seconds(LAB, "up"), lambda: bench.seconds(*bench.compose, "up", "-d")], bench.rounds
    )
    if before != {container.id for container in bench.lab.machine.own}:
        raise LabError("there was something to do: hosts were made anew", "Measure again, with nobody else at the lab.")
    yield Row("again", "lab up, nothing to do", "compose up -d, nothing to do", "s", lab_up, compose_up)
