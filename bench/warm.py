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
    def ours() -> float:
        bench.down()
        bench.say("  lab up")
        return bench.seconds(LAB, "up")

    def plain() -> float:
        bench.down()
        bench.say("  compose up -d")
        return bench.seconds(*bench.compose, "up", "-d")

    def plain_until_healthy() -> float:
        bench.down()
        bench.say("  compose up -d, and until all is healthy")
        start = time.perf_counter()
        bench.seconds(*bench.compose, "up", "-d")
        bench.wait_for_the_engines_verdict()
        return time.perf_counter() - start

    # Single rounds scatter by a tenth, and the goal is a matter of a few hundredths.
    lab_up, compose_up = by_turns([ours, plain], 3 * bench.rounds)
    yield Row("warm", "lab up, hosts down", "compose up -d", "s", lab_up, compose_up, "<= 1.05")
    lab_up, healthy = by_turns([ours, plain_until_healthy], max(1, bench.rounds // 2))
    yield Row("warm", "lab up, hosts down", "compose up -d, then all healthy", "s", lab_up, healthy)
