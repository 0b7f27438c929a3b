"""Each rule: what it overlooks, and what it must not."""

from __future__ import annotations

import pytest

from lab.replay.rules import RULES, apply, reason

LSOF = "xinetd    27465   root    5u  IPv4 165011      0t0  UDP *:daytime"

OVERLOOKED = {
    "ready-line": ("ready: udp/4444\nA", "A"),
    "resolved-address": (
        "Connection to localhost (127.0.0.1) 4444 port [udp/*] succeeded!",
        "Connection to localhost 4444 port [udp/*] succeeded!",
    ),
    "apt-progress": ("Reading package lists... Done\nA\n0 upgraded, 0 newly installed.", "A"),
    "package-version": ("gcc is already the newest version (4:12.2.0-3).", "gcc is already the newest version."),
    "dig-banner": ("; <<>> DiG 9.9.5 <<>> a\n;; global options: +cmd\nA", "A"),
    "dig-details": ("\n;; Query time: 4 msec\n;; QUESTION SECTION:\n", ";; QUESTION SECTION:"),
    "three-roots": ("a.root-servers.net.\nd.root-servers.net.\nf.root-servers.net.\ni.root-servers.net.",
                    "f.root-servers.net.\ni.root-servers.net.\nd.root-servers.net."),
    "init-script-words": ("Reloading internet superserver configuration: xinetd.\nA", "A"),
    "log-link": ("/run/lab/log", "/dev/log"),
    "other-sockets": ("/run/lab/stream\n/dev/log", "/dev/log"),
    "powerless-root": ("find: '/proc/1/fd': Permission denied\n/dev/log", "/dev/log"),
    "process-id": (LSOF, LSOF.replace("27465", "7")),
    "file-descriptor": (LSOF, LSOF.replace("    5u", " 12u")),
    "inode": (LSOF, LSOF.replace("165011", "1")),
    "file-size": ("-rwsr-xr-x 1 root root 44168 May", "-rwsr-xr-x 1 root root 7 May"),
    "file-date": ("1 May  7 22:51 /bin/ping", "1 Mar 30  2026 /bin/ping"),
    "columns": ("  a\t\tb", "a b"),
    "quotation-marks": ("\u2018a\u2019", "'a'"),
    "typed-blank-line": ("\nA", "A"),
}  # fmt: skip

KEPT = {
    "ready-line": ("already\nA", "A"),
    "resolved-address": ("Connection to localhost (127.0.0.1) failed", "Connection to elsewhere failed"),
    "apt-progress": ("E: no such package", ""),
    "package-version": ("gcc is already the newest version.", "gcc is not installed."),
    "dig-banner": (";; QUESTION SECTION:", ""),
    "dig-details": (";; communications error to 8.8.8.8#53: timed out", ""),
    "three-roots": ("f.root-servers.net.\ni.root-servers.net.", "d.root-servers.net.\nf.root-servers.net."),
    "init-script-words": ("Reloading failed!", ""),
    "log-link": ("/run/lab/stream", "/dev/log"),
    "other-sockets": ("/dev/log", ""),
    "powerless-root": ("find: '/proc/1/fd': Input/output error", ""),
    "process-id": (LSOF, LSOF.replace("xinetd", "inetd ")),
    "file-descriptor": (LSOF, LSOF.replace("root", "mail")),
    "inode": (LSOF, LSOF.replace("IPv4", "IPv6")),
    "file-size": ("-rwsr-xr-x 1 root root 1", "-rwxr-xr-x 1 root root 1"),
    "file-date": ("May  7 22:51 /bin/ping", "May  7 22:51 /bin/pong"),
    "columns": ("a b", "ab"),
    "quotation-marks": ("\u2018a\u2019", '"a"'),
    "typed-blank-line": ("A\n\nB", "A\nB"),
}


def test_every_rule_is_tried_here():
    assert set(OVERLOOKED) == set(KEPT) == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_overlooks_what_it_names(name):
    one, other = OVERLOOKED[name]
    assert one != other
    assert apply((name,), one) == apply((name,), other)


@pytest.mark.parametrize("name", RULES)
def test_and_nothing_else(name):
    one, other = KEPT[name]
    assert apply((name,), one) != apply((name,), other)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_gives_its_reason_in_one_sentence(name):
    assert reason(name)[-1] in '."'
    assert reason(name)[-2:] != ".."
