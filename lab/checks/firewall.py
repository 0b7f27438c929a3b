"""What the machine's firewall does to what a lab's bridges carry: read, never changed.

A bridge hands frames on below IP, past the machine's firewall. With the kernel's module br_netfilter it shows them to
the firewall first, and a rule that was made for what the machine itself routes may then drop what a container of the
lab forwards to another, or all of it. Docker Engine up to 26 loads the module at its start, later ones for
`icc=false` and `userland-proxy=false`; Kubernetes and libvirt load it, too.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINES_CHAINS = ("DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1", "DOCKER-INGRESS", "DOCKER")
ENGINES_TABLE = "docker-bridges"
"""Of an engine whose firewall backend is nftables."""
LETS_PASS = r"(-[io] br-\w+|-A FORWARD -m physdev +--physdev-is-bridged) .*-j ACCEPT"
"""A rule of an engine before 28 for one of its bridges, or one that lets all pass that bridges carry."""
IPTABLES_TABLES = ("filter", "nat", "raw", "mangle", "security")
"""Those that nft lists, too, where iptables keeps its rules there."""
SECONDS = 10.0
"""Reading the rules of a big machine takes one or two."""


@dataclass(frozen=True)
class Firewall:
    """What was read of it."""

    sees_bridges: bool
    """Whether frames between two ports of a bridge meet its rules (IPv4)."""
    rules: str | None
    """As iptables-save prints them; None where they cannot be read, as by an ordinary user."""
    ruleset: Sequence[Mapping[str, Any]] = ()
    """As nft lists it in JSON (libnftables-json(5))."""
    firewalld: bool = False

    def drops_for(self, subnets: Iterable[str]) -> list[str]:
        """The engine's own rules that drop what comes to a host of these subnets by a container of another's."""
        ours = [ipaddress.ip_network(subnet) for subnet in subnets]
        found = []
        for line in _chain(self.rules or "", "raw", "PREROUTING"):
            if (match := re.search(r"-d ([\d.]+)/32 ! -i \S+ .*-j DROP", line)) and _among(match[1], ours):
                found.append(f"iptables -t raw {line}")
        for rule in _entries(self.ruleset, "rule"):
            if rule["table"] == ENGINES_TABLE and _drops(rule):
                found += [f"nft {rule['chain']}: ip daddr {one} drop" for one in _receivers(rule) if _among(one, ours)]
        return found

    def foreign_drops(self) -> list[str]:
        """Rules of others that may drop what a bridge carries: those that come before the engine's own accept it."""
        text = self.rules or ""
        found = list(_before_the_engines(text, "FORWARD", {"FORWARD"}))
        for chain in _entries(self.ruleset, "chain"):
            place = (chain["family"], chain["table"], chain["name"])
            foreign = chain["table"] not in (*IPTABLES_TABLES, ENGINES_TABLE, "firewalld")
            if chain.get("hook") != "forward" or not foreign or chain["family"] not in ("ip", "inet"):
                continue
            own = (
                one for one in _entries(self.ruleset, "rule") if (one["family"], one["table"], one["chain"]) == place
            )
            if chain.get("policy") == "drop" or any(_drops(rule) for rule in own):
                found.append(f"nftables chain {' '.join(place)}")
        return found


def read(proc: Path = Path("/proc")) -> Firewall:
    """The firewall of the machine that this runs on."""
    try:
        seen = (proc / "sys/net/bridge/bridge-nf-call-iptables").read_text().strip() == "1"
    except OSError:  # the module is not loaded
        seen = False
    if not seen:
        return Firewall(False, None)
    listed = _output("nft", "-j", "list", "ruleset")
    running = any(_name(process) == "firewalld" for process in proc.glob("[0-9]*"))
    return Firewall(True, _output("iptables-save"), json.loads(listed)["nftables"] if listed else (), firewalld=running)


def _output(program: str, *words: str) -> str | None:
    """What it prints; None when it is not there, fails, or may not."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        return None
    try:
        done = subprocess.run([path, *words], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:  # it has ended
        return ""


def _chain(text: str, table: str, chain: str) -> Iterator[str]:
    """The rules of a chain, as iptables-save writes them."""
    here = False
    for line in text.splitlines():
        if line.startswith("*"):
            here = line == f"*{table}"
        elif here and line.startswith(f"-A {chain} "):
            yield line


def _before_the_engines(text: str, chain: str, walked: set[str]) -> Iterator[str]:
    """Rules that drop, in the order in which a packet meets them, up to the engine's own."""
    for line in _chain(text, "filter", chain):
        target = re.search(r"-[jg] (\S+)", line)
        if target is None or _of_another_interface(line):
            continue
        if target[1] in ENGINES_CHAINS or re.search(LETS_PASS, line):
            return
        if target[1] in ("DROP", "REJECT"):
            yield f"iptables {line}"
        elif target[1] not in walked:
            walked.add(target[1])
            yield from _before_the_engines(text, target[1], walked)
    if chain == "FORWARD" and re.search("^:FORWARD DROP ", text, re.MULTILINE):
        yield "iptables -P FORWARD DROP"


def _of_another_interface(line: str) -> bool:
    """Whether a rule is for an interface that is no bridge of the engine's."""
    named = re.findall(r"(?<!! )-[io] (\S+)", line)
    return any(not name.startswith("br-") and not "br-".startswith(name.rstrip("+")) for name in named)


def _entries(ruleset: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Mapping[str, Any]]:
    return (entry[kind] for entry in ruleset if kind in entry)


def _drops(rule: Mapping[str, Any]) -> bool:
    return any("drop" in step or "reject" in step for step in rule["expr"])


def _receivers(rule: Mapping[str, Any]) -> Iterator[str]:
    """The addresses that a rule is for."""
    for step in rule["expr"]:
        match = step.get("match", {})
        if match.get("left") == {"payload": {"protocol": "ip", "field": "daddr"}} and isinstance(match["right"], str):
            yield match["right"]


def _among(address: str, subnets: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(ipaddress.ip_address(address) in subnet for subnet in subnets)
