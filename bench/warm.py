"""`lab up` with all images there and all hosts down, against plain Compose on the same file.

`lab up` returns when each host has passed its health check, `compose up -d` when each has been started. So there is a
second reference: plain Compose, and then the wait until the engine calls each host healthy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.bench import LAB, Bench
from bench.measure import Row, by_turns


def measure(bench: Bench) -> Iterator[Row]:
    until_healthy: list[float] = []

    def ours() -> float:
        bench.down()
        bench.say("  lab up")
        return bench.seconds(LAB, "up")

    def plain() -> float:
        bench.down()
        bench.say("  compose up -d, and until all is healthy")
        start = time.perf_counter()
        took = bench.seconds(*bench.compose, "up", "-d")
        bench.wait_for_the_engines_verdict()
        until_healthy.append(time.perf_counter() - start)
        return took

    lab_up, compose_up = by_turns([ours, plain], bench.rounds)
    yield Row("warm", "lab up, hosts down", "compose up -d", "s", lab_up, compose_up, "<= 1.05")
    yield Row("warm", "lab up, hosts down", "compose up -d, then all healthy", "s", lab_up, tuple(until_healthy))
