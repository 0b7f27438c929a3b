"""Comparing the article's text with today's."""

from __future__ import annotations

from lab.replay import compare


def test_the_same_to_the_letter():
    found = compare("A\nB\n", "A\nB")
    assert (found.same, found.exact) == (True, True)


def test_blanks_that_cannot_be_seen_do_not_count():
    assert compare("A", "A  \n\n").exact
    assert not compare("A", "\nA").exact
    assert not compare("A", " A").exact


def test_another_text_differs():
    assert not compare("A\nB", "A").same
    assert not compare("", "A").same


def test_a_rule_makes_the_difference():
    found = compare("A", "ready\nA", ("ready-line",))
    assert (found.same, found.exact, found.superfluous) == (True, False, ())


def test_a_rule_does_not_excuse_more():
    assert not compare("A", "ready\nB", ("ready-line",)).same


def test_a_rule_too_many_is_named():
    assert compare("A", "A", ("ready-line",)).superfluous == ("ready-line",)
    assert compare("A", "ready\nA", ("columns", "ready-line")).superfluous == ("columns",)


def test_of_texts_that_differ_no_rule_is_called_superfluous():
    assert compare("A", "B", ("columns",)).superfluous == ()
