"""Changing the scene between transcripts: the next stages are set up while a transcript still plays."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from types import TracebackType

from lab.lab import Lab
from lab.replay.stages import STAGES, Hosts

AHEAD = 3
"""Stages set up in advance; most of a replay's time would otherwise go into making containers."""


class Stages:
    """The stages of a replay, set up when they are first needed, or before, and struck when they no longer are.

    `plan` lists, in order, the stage of each transcript to come. Without it one stage is kept at a time.
    """

    def __init__(self, lab: Lab, plan: Sequence[str] = ()) -> None:
        self.lab = lab
        self._plan = [name for number, name in enumerate(plan) if number == 0 or plan[number - 1] != name]
        self._open: dict[str, Future[tuple[ExitStack, Hosts]]] = {}
        self._struck: dict[str, list[Future[None]]] = {}
        self._crew = ThreadPoolExecutor(AHEAD, thread_name_prefix="scenery")

    def hosts(self, stage: str) -> Hosts:
        """The hosts of a stage, as soon as it is set up. `stage` is its name, and its argument after a space."""
        if stage in self._plan:
            self._plan = self._plan[self._plan.index(stage) :]
        wanted = [stage, *self._plan[1 : 1 + AHEAD]]
        for name in [name for name in self._open if name not in wanted]:
            self._strike(name)
        for name in wanted:
            if name not in self._open:
                before = tuple(self._struck.get(name.partition(" ")[0], ()))
                self._open[name] = self._crew.submit(self._set_up, name, before)
        return self._open[stage].result()[1]

    def _set_up(self, stage: str, before: tuple[Future[None], ...]) -> tuple[ExitStack, Hosts]:
        for struck in before:  # the same hosts and addresses; each was asked for earlier, so a worker has it
            struck.exception()
        name, _, argument = stage.partition(" ")
        stack = ExitStack()
        return stack, stack.enter_context(STAGES[name](self.lab, argument))

    def _strike(self, stage: str) -> None:
        done = self._crew.submit(_strike, self._open.pop(stage))
        self._struck.setdefault(stage.partition(" ")[0], []).append(done)

    def close(self) -> None:
        """Strike what stands; raises the first error of any stage that could not be struck."""
        for stage in list(self._open):
            self._strike(stage)
        self._crew.shutdown(wait=True)
        for done in chain.from_iterable(self._struck.values()):
            done.result()

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _strike(stage: Future[tuple[ExitStack, Hosts]]) -> None:
    if stage.exception() is None:  # otherwise there is nothing to strike, and who asked for it was told
        stage.result()[0].close()
