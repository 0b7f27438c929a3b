"""Each host's own health check: announced in its log as it starts, and asked again by the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.small_project import config_of

PROJECT = Path(__file__).parents[2]
HOSTS = [service.name for service in config_of((PROJECT / "compose.yaml").read_text(), PROJECT).topology.hosts]


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_announces_that_it_passed_its_health_check(lab, name: str) -> None:
    host = lab.host("peer-1" if name == "peer" else name)
    check = host.run(["sh", "-c", 'echo "$HEALTHCHECK"']).text.strip()
    assert check
    assert f"healthy: {check}\n" in host.logs()
    assert lab.engine.health_command(host.id) == ["/bin/sh", "-c", 'eval "$HEALTHCHECK"']
