"""Transcripts that a text prints, typed again in the lab: what it prints beside what happens today."""

from lab.replay.compare import Comparison, compare
from lab.replay.load import load, of_project
from lab.replay.model import Stage, Step, Suite, Transcript, Window
from lab.replay.pool import StagePool
from lab.replay.run import Outcome, play

__all__ = [
    "Comparison",
    "Outcome",
    "Stage",
    "StagePool",
    "Step",
    "Suite",
    "Transcript",
    "Window",
    "compare",
    "load",
    "of_project",
    "play",
]
