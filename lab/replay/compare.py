"""Two texts, the printed one and today's: the same, but for what named rules allow?"""

from __future__ import annotations

from dataclasses import dataclass

from lab.replay import rules


@dataclass(frozen=True)
class Comparison:
    expected: str
    """As the text has it."""
    shown: str
    """As a terminal shows it today."""
    same: bool
    """After the rules were applied to both."""
    superfluous: tuple[str, ...] = ()
    """Rules without which they would be the same, too."""

    @property
    def exact(self) -> bool:
        """To the letter, without any named rule."""
        return self.expected == self.shown


def compare(expected: str, shown: str, names: tuple[str, ...] = ()) -> Comparison:
    expected, shown = rules.unseen_blanks(expected), rules.unseen_blanks(shown)
    same = _alike(expected, shown, names)
    spare = [name for name in names if _alike(expected, shown, tuple(other for other in names if other != name))]
    return Comparison(expected, shown, same, tuple(spare) if same else ())


def _alike(expected: str, shown: str, names: tuple[str, ...]) -> bool:
    return rules.apply(names, expected).rstrip("\n") == rules.apply(names, shown).rstrip("\n")
