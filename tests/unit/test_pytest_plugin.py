"""What the plug-in brings into other projects' tests: one name."""

from __future__ import annotations

from lab import pytest_plugin


def test_the_plugin_claims_no_fixture_but_lab() -> None:
    """`client` is what pytest-django and pytest-flask call theirs; only one of the two could be had."""
    public = {name for name in vars(pytest_plugin) if not name.startswith("_")}
    assert public - {"annotations", "Iterator", "TYPE_CHECKING", "pytest"} == {"lab"}
