"""Rules as engines write them, captured; and what a user or another program adds."""

import json
from pathlib import Path

import pytest

from lab.checks import firewall
from lab.checks.firewall import Firewall

ENGINE_20_10 = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o br-1f2e -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o br-1f2e -j DOCKER
-A FORWARD -i br-1f2e ! -o br-1f2e -j ACCEPT
-A FORWARD -i br-1f2e -o br-1f2e -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
ENGINE_28 = """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 192.168.1.10/32 ! -i br-1f2e -j DROP
-A PREROUTING -d 172.20.0.5/32 ! -i br-77aa -j DROP
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -j DOCKER-CT
-A FORWARD -j DROP
COMMIT
"""


def seen(rules: str) -> Firewall:
    return Firewall(True, rules)


@pytest.mark.parametrize("rules", [ENGINE_20_10, ENGINE_28])
def test_an_engines_own_rules_are_no_foreign_ones(rules: str) -> None:
    """Nor is what comes after them: the engine has let the frames of its bridges pass by then."""
    assert seen(rules).foreign_drops() == []


def test_a_rule_that_drops_what_a_router_forwards_is_named_when_it_is_for_the_lab() -> None:
    assert seen(ENGINE_28).drops_for(["192.168.1.0/24"]) == [
        "iptables -t raw -A PREROUTING -d 192.168.1.10/32 ! -i br-1f2e -j DROP"
    ]
    assert seen(ENGINE_28).drops_for(["192.168.2.0/24"]) == []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("-A DOCKER-USER -j DROP", True),
        ("-A DOCKER-USER -s 192.168.1.0/24 -j REJECT --reject-with icmp-port-unreachable", True),
        ("-A DOCKER-USER ! -i eth0 -j DROP", True),
        ("-A DOCKER-USER -i br+ -j DROP", True),
        ("-A DOCKER-USER -i eth0 -j DROP", False),
        ("-A DOCKER-USER -o virbr0 -j DROP", False),
        ("-A DOCKER-USER -p tcp -j LOG", False),
        ("-A DOCKER-USER -j mine\n-A mine -p udp -j DROP", True),
        ("-A DOCKER-USER -j mine\n-A mine -j mine", False),
    ],
)
@pytest.mark.parametrize("rules", [ENGINE_20_10, ENGINE_28])
def test_a_foreign_rule_is_told_when_it_may_drop_what_a_bridge_carries(rules: str, rule: str, told: bool) -> None:
    found = seen(rules.replace("-A FORWARD -j DOCKER-USER", f"{rule}\n-A FORWARD -j DOCKER-USER")).foreign_drops()
    assert found == ([f"iptables {rule.splitlines()[-1]}"] if told else [])


def test_what_comes_after_a_rule_that_lets_bridged_frames_pass_is_not_told() -> None:
    passing = "-A FORWARD -m physdev  --physdev-is-bridged -j ACCEPT\n-A DOCKER-USER -j DROP\n"
    assert (
        seen(ENGINE_28.replace("-A FORWARD -j DOCKER-USER", f"{passing}-A FORWARD -j DOCKER-USER")).foreign_drops()
        == []
    )


def test_a_policy_that_drops_is_told_where_no_engine_lets_anything_pass() -> None:
    """As with `iptables: false`."""
    assert seen("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n").foreign_drops() == ["iptables -P FORWARD DROP"]


def chain(table: str, policy: str = "accept", family: str = "inet", hook: str = "forward") -> dict[str, object]:
    return {"chain": {"family": family, "table": table, "name": "fwd", "hook": hook, "policy": policy}}


def rule(table: str, *expr: dict[str, object], family: str = "inet", in_chain: str = "fwd") -> dict[str, object]:
    return {"rule": {"family": family, "table": table, "chain": in_chain, "expr": list(expr)}}


@pytest.mark.parametrize(
    ("ruleset", "told"),
    [
        ([chain("mine", "drop")], True),
        ([chain("mine"), rule("mine", {"drop": None})], True),
        ([chain("mine"), rule("mine", {"accept": None})], False),
        ([chain("mine", "drop", hook="input")], False),
        ([chain("mine", "drop", family="ip6")], False),
        ([chain("filter", "drop", family="ip")], False),  # iptables' own, told by iptables-save
        ([chain("docker-bridges", "drop", family="ip")], False),
    ],
)
def test_chains_of_nftables_are_told_when_they_may_drop(ruleset: list[dict[str, object]], told: bool) -> None:
    found = Firewall(True, "", ruleset).foreign_drops()
    assert found == (["nftables chain inet mine fwd"] if told else [])


def test_the_nftables_rules_of_an_engine_are_told_like_those_of_iptables() -> None:
    receiver = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "10.0.0.5"}}
    dropping = rule("docker-bridges", receiver, {"drop": None}, family="ip", in_chain="raw-PREROUTING")
    assert Firewall(True, "", [dropping]).drops_for(["10.0.0.0/24"]) == ["nft raw-PREROUTING: ip daddr 10.0.0.5 drop"]


@pytest.mark.parametrize(("written", "expected"), [("1\n", True), ("0\n", False), (None, False)])
def test_whether_bridged_frames_are_seen_is_read_from_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str | None, expected: bool
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if written:
        (tmp_path / "sys/net/bridge").mkdir(parents=True)
        (tmp_path / "sys/net/bridge/bridge-nf-call-iptables").write_text(written)
    assert firewall.read(tmp_path).sees_bridges is expected


def test_what_the_programs_print_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sys/net/bridge").mkdir(parents=True)
    (tmp_path / "sys/net/bridge/bridge-nf-call-iptables").write_text("1")
    (tmp_path / "77").mkdir()
    (tmp_path / "77/comm").write_text("firewalld\n")
    ruleset = json.dumps({"nftables": [chain("mine", "drop")]})
    for name, text in (("iptables-save", ENGINE_20_10), ("nft", ruleset)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nexec /bin/cat <<'END'\n{text}\nEND\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    read = firewall.read(tmp_path)
    assert read.foreign_drops() == ["nftables chain inet mine fwd"]
    assert read.firewalld
    assert "DOCKER-USER" in (read.rules or "")
