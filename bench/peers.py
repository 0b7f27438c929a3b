"""Seconds that each host takes with 10, 50 and 100 peers: does a larger lab cost more for each of its hosts?"""

from __future__ import annotations

from collections.abc import Iterator

from bench.bench import Bench, clock
from bench.measure import Row, Sample, by_turns

COUNTS = (10, 50, 100)


def measure(bench: Bench) -> Iterator[Row]:
    bench.lab.up()
    samples = [each(bench, count) for count in COUNTS]
    fewest, *more = by_turns(samples, max(1, bench.rounds // 2))
    for count, seconds in zip(COUNTS[1:], more, strict=True):
        yield Row("peers", f"a host of lab scale peer={count}", f"of peer={COUNTS[0]}", "s", seconds, fewest, "<= 1.1")


def each(bench: Bench, count: int) -> Sample:
    """Seconds for each host, from none of them to all of them healthy."""

    def sample() -> float:
        bench.lab.scale("peer", 0)
        bench.say(f"  lab scale peer={count}")
        return clock(lambda: bench.lab.scale("peer", count)) / count

    return sample
