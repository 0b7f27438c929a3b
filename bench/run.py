"""`Host.run` against the `docker exec` command, which is what a script would use in its place."""

from __future__ import annotations

from collections.abc import Iterator

from bench.bench import LAB, Bench, clock
from bench.measure import Row, by_turns

TIMES = 10
"""Runs for each round of what takes seconds."""


def measure(bench: Bench) -> Iterator[Row]:
    bench.lab.up()
    client = bench.lab.host("client")
    client.run(["true"]).check()  # the session is open from here on, as in any program after its first call
    runs, execs = by_turns(
        [
            lambda: clock(lambda: client.run(["true"]).check()),
            lambda: bench.seconds("docker", "exec", client.id, "true"),
        ],
        TIMES * bench.rounds,
    )
    yield Row("run", 'Host.run(["true"])', "docker exec … true", "s", runs, execs, "<= 0.5")
    labs, execs = by_turns(
        [
            lambda: bench.seconds(LAB, "exec", "client", "true"),
            lambda: bench.seconds("docker", "exec", client.id, "true"),
        ],
        2 * bench.rounds,
    )
    yield Row("run", "lab exec client true", "docker exec … true", "s", labs, execs)
