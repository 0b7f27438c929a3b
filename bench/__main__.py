"""`python -m bench [NAME…]`: run the benchmarks, print the table, leave the lab as it was found."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import render
from bench.bench import Bench, as_found
from bench.measure import Row
from lab import Lab, LabError

BENCHMARKS = ("run", "requests", "again", "warm", "peers", "cold")
"""Each is `measure` in the module of its name; the quick ones first."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; without one, all")
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five: less time, more noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same as JSON; - is standard output")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is being measured is put in order again
    progress = Console(stderr=True, highlight=False)
    rows: list[Row] = []
    with Lab() as lab:
        try:
            with as_found(lab):
                bench = Bench(lab, rounds=2 if options.quick else 5, say=progress.print)
                for name in options.names or BENCHMARKS:
                    progress.print(f"{name}: {first_line(name)}", soft_wrap=True)
                    rows += importlib.import_module(f"bench.{name}").measure(bench)
        except LabError as error:
            progress.print(f"bench: {error}", markup=False)
            return error.exit_code
        except KeyboardInterrupt:
            progress.print("bench: interrupted; the lab is as it was")
            return 130
        finally:
            show(rows, options.json)
    return 0


def first_line(name: str) -> str:
    return (importlib.import_module(f"bench.{name}").__doc__ or "").partition("\n")[0]


def show(rows: list[Row], file: Path | None) -> None:
    """What has been measured so far, an interrupted run's too."""
    if str(file) != "-" and rows:
        console = Console(highlight=False)
        (console if console.is_terminal else Console(highlight=False, width=160)).print(render.table(rows))
    if file is not None:
        with sys.stdout if str(file) == "-" else file.open("w") as target:
            target.write(render.document(rows))


if __name__ == "__main__":
    sys.exit(main())
