"""A pool of stages: the next ones are set up while a transcript still plays."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from types import TracebackType

from lab.lab import Lab
from lab.replay.model import Suite
from lab.replay.stages import Hosts, set_up

AHEAD = 3
"""Stages set up in advance; most of a replay's time would otherwise go into making containers."""


class StagePool:
    """The stages of a suite, set up when they are first needed, or before, and torn down when they no longer are.

    `plan` lists, in order, the stage of each transcript to come. Without it one stage is kept at a time.
    """

    def __init__(self, lab: Lab, suite: Suite, plan: Sequence[str] = ()) -> None:
        self.lab = lab
        self.suite = suite
        self._plan = [name for number, name in enumerate(plan) if number == 0 or plan[number - 1] != name]
        self._open: dict[str, Future[tuple[ExitStack, Hosts]]] = {}
        self._closing: dict[str, list[Future[None]]] = {}
        self._workers = ThreadPoolExecutor(AHEAD, thread_name_prefix="stage")

    def hosts(self, stage: str) -> Hosts:
        """The hosts of a stage, as soon as it is set up. `stage` is its name, and its argument after a space."""
        if stage in self._plan:
            self._plan = self._plan[self._plan.index(stage) :]
        wanted = [stage, *self._plan[1 : 1 + AHEAD]]
        for name in [name for name in self._open if name not in wanted]:
            self._tear_down(name)
        for name in wanted:
            if name not in self._open:
                before = tuple(self._closing.get(name.partition(" ")[0], ()))
                self._open[name] = self._workers.submit(self._set_up, name, before)
        return self._open[stage].result()[1]

    def _set_up(self, stage: str, before: tuple[Future[None], ...]) -> tuple[ExitStack, Hosts]:
        for closing in before:  # the same hosts and addresses; each was asked for earlier, so a worker has it
            closing.exception()
        name, _, argument = stage.partition(" ")
        stack = ExitStack()
        return stack, stack.enter_context(set_up(self.lab, self.suite.stages[name], argument))

    def _tear_down(self, stage: str) -> None:
        done = self._workers.submit(_close, self._open.pop(stage))
        self._closing.setdefault(stage.partition(" ")[0], []).append(done)

    def close(self) -> None:
        """Tear down what stands; raises the first error of any stage that could not be torn down."""
        for stage in list(self._open):
            self._tear_down(stage)
        self._workers.shutdown(wait=True)
        for done in chain.from_iterable(self._closing.values()):
            done.result()

    def __enter__(self) -> StagePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(stage: Future[tuple[ExitStack, Hosts]]) -> None:
    if stage.exception() is None:  # otherwise there is nothing to tear down, and who asked for it was told
        stage.result()[0].close()
