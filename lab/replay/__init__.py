"""The article's transcripts, typed again in the lab: what it prints beside what happens today."""

from lab.replay.compare import Comparison, compare
from lab.replay.load import TRANSCRIPTS, load
from lab.replay.model import Step, Transcript, Window
from lab.replay.run import Outcome, play
from lab.replay.scenery import Stages

__all__ = [
    "TRANSCRIPTS",
    "Comparison",
    "Outcome",
    "Stages",
    "Step",
    "Transcript",
    "Window",
    "compare",
    "load",
    "play",
]
