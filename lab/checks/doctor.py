"""What `lab doctor` looks at beyond the checks that `lab up` begins with: what the machine's firewall makes of frames
that the lab's bridges carry, the engine's unusual settings, and whether a packet really crosses the router.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checks.firewall import Firewall
from lab.checks.firewall import read as read_firewall
from lab.errors import CommandTimeout, LabError
from lab.lifecycle import preflight
from lab.lifecycle.preflight import Check, Finding, Machine

if TYPE_CHECKING:
    from lab.hosts.host import Host
    from lab.lab import Lab

CONFIGURATION = Path("/etc/docker/daemon.json")
PROCESS_ID = Path("/var/run/docker.pid")
CROSSING_SECONDS = 3.0
CLOSED_PORT = "9"
"""Discard, which no host of a lab listens on: a refusal comes back as surely as an answer."""

_OUT_OF_SIGHT = (
    "Take bridged frames out of its sight: sudo sysctl net.bridge.bridge-nf-call-iptables=0 (Kubernetes wants it 1)"
)


def examine(lab: Lab) -> list[Finding]:
    """Every check's finding: those of `lab up` first, then the firewall, the engine's settings, and what crosses."""
    machine = lab.machine
    return preflight.examine(machine, [*preflight.CHECKS, firewall, settings, crossing(lab)])


def firewall(machine: Machine) -> Finding:
    """Whether the machine's firewall sees what the bridges carry, and may drop it."""
    if not machine.engine.facts().here:
        return Finding("firewall", "ok", "the engine is on another machine, whose firewall is not looked at")
    pools = [pool.subnet for network in machine.topology.networks.values() for pool in network.pools]
    return judged(read_firewall(), pools)


def judged(seen: Firewall, subnets: Sequence[str]) -> Finding:
    if not seen.sees_bridges:
        return Finding("firewall", "ok", "the machine's firewall does not see what the lab's bridges carry")
    if dropping := seen.drops_for(subnets):
        return Finding(
            "firewall",
            "fail",
            f"the engine's firewall drops what the router forwards: {dropping[0]} ({len(dropping)} such in all)",
            "lab down and lab up make the networks anew, without such rules; plain Compose: gateway_mode_ipv4: routed.",
        )
    if foreign := seen.foreign_drops():
        return Finding(
            "firewall",
            "warn",
            f"the machine's firewall sees what bridges carry, and may drop it: {'; '.join(foreign[:3])}",
            f"{_OUT_OF_SIGHT}, or let them pass: sudo iptables -I FORWARD -m physdev --physdev-is-bridged -j ACCEPT.",
        )
    if seen.firewalld:
        return Finding(
            "firewall",
            "warn",
            "firewalld runs, and sees what bridges carry; it lets pass only what is of its zone docker",
            f"{_OUT_OF_SIGHT}, or restart the engine after each firewall-cmd --reload, so that it adds its bridges.",
        )
    if seen.rules is None:
        return Finding(
            "firewall", "ok", "the machine's firewall sees what bridges carry; only root can read its rules (sudo)"
        )
    return Finding("firewall", "ok", "the machine's firewall sees what bridges carry, and lets it pass")


def settings(machine: Machine) -> Finding:
    """Settings of the engine that are not the usual ones and that somebody may wonder about in a lab."""
    facts = machine.engine.facts()
    configured = configuration() if facts.here else {}
    default = next((network.options for network in machine.networks if network.name == "bridge"), {})
    options = configured.get("default-network-opts", {}).get("bridge", {})
    told = []
    if default.get("com.docker.network.bridge.enable_icc") == "false":
        told.append("icc=false (no word between containers on the default bridge; on the lab's networks there is)")
    if configured.get("userland-proxy") is False:
        told.append("userland-proxy=false (of no matter: the lab publishes no port)")
    if facts.live_restore:
        told.append("live-restore (hosts go on while the engine restarts; sessions into them end)")
    if facts.firewall not in ("", "iptables"):
        told.append(f"firewall by {facts.firewall}")
    if options.get("com.docker.network.enable_ipv4") == "false":
        told.append("networks without IPv4 (the lab's ask for it)")
    return Finding("settings", "ok", "; ".join(told) or "none of the engine's that matters to a lab is unusual")


def configuration(
    file: Path = CONFIGURATION, process_id: Path = PROCESS_ID, proc: Path = Path("/proc")
) -> dict[str, Any]:
    """What the engine of this machine was told by its file and by its command line, as far as one may read that."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # not there, not for us to read, or not what the engine would take
        found = json.loads(file.read_text())
    try:
        words = (proc / process_id.read_text().strip() / "cmdline").read_text().split("\0")
    except OSError:
        words = []
    for word in words:
        name, _, value = word.partition("=")
        if name.startswith("--") and value in ("true", "false", ""):
            found[name.removeprefix("--")] = value != "false"
    return found


@dataclass(frozen=True)
class _Way:
    """Two hosts of two networks, with a third that is on both."""

    source: Host
    target: Host
    address: str
    router: str


def crossing(lab: Lab) -> Check:
    """Whether a packet from each network reaches another one, and comes back, when the lab is up."""

    def check(machine: Machine) -> Finding:
        ways = list(_ways(lab.hosts(), {container.id: container.addresses for container in machine.own}))
        if not ways:
            return Finding("crossing", "ok", "not tried: no two networks have hosts that are up, and one between them")
        with ThreadPoolExecutor(len(ways)) as pool:
            lost = [way for way, why in zip(ways, pool.map(_try, ways), strict=True) if why]
        if lost:
            way = lost[0]
            return Finding(
                "crossing",
                "fail",
                f"{way.source.name} gets nothing back from {way.target.name} ({way.address}), over {way.router}",
                f"See firewall above, as root; lab logs {way.router}; lab down and lab up make all anew.",
            )
        return Finding("crossing", "ok", f"packets cross between {len(ways)} networks, and come back")

    check.__name__ = "crossing"
    return check


def _ways(hosts: Sequence[Host], addresses_of: Mapping[str, Mapping[str, str]]) -> Iterator[_Way]:
    """From one host of each network to one of the next, over a host that is on both."""
    ends: dict[str, tuple[Host, str]] = {}
    between: list[tuple[str, set[str]]] = []
    for host in hosts:
        addresses = addresses_of.get(host.id, {})
        if len(addresses) > 1:
            between.append((host.name, set(addresses)))
        for network, address in addresses.items():
            if len(addresses) == 1:
                ends.setdefault(network, (host, address))
    names = list(ends)
    for one, other in zip(names, names[1:] + names[:1], strict=True):
        router = next((name for name, networks in between if {one, other} <= networks), None)
        if router and one != other:
            yield _Way(ends[one][0], *ends[other], router)


def _try(way: _Way) -> bool:
    """Whether it is lost. A host without bash cannot tell, and counts as reached."""
    knock = f"exec 3<>/dev/tcp/{shlex.quote(way.address)}/{CLOSED_PORT}"
    try:
        done = way.source.run(["bash", "-c", knock], timeout=CROSSING_SECONDS, env={"LC_ALL": "C"})
    except CommandTimeout:
        return True
    except LabError:
        return False
    return b"unreachable" in done.stderr or b"No route" in done.stderr
