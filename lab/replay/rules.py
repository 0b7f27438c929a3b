"""The differences between 2014 and today that a comparison may overlook: each a named rule with its reason.

A rule is a function of one text, applied to the article's and to today's alike. Its docstring's first line is the
reason that the replay shows. A test fails for a rule that no transcript needs, or that one names without need.
Two more, at the end, hold for every text and are named by none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Rule = Callable[[str], str]

RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its name with hyphens."""
    RULES[function.__name__.replace("_", "-")] = function
    return function


def reason(name: str) -> str:
    """Why the two texts may differ so: the first line of the rule's docstring."""
    return (RULES[name].__doc__ or "").strip().splitlines()[0]


def apply(names: tuple[str, ...], text: str) -> str:
    for name in names:
        text = RULES[name](text)
    return text


def _without_lines(pattern: str, text: str) -> str:
    """The text without the lines that match as a whole."""
    return "\n".join(line for line in text.split("\n") if not re.fullmatch(pattern, line))


# Programs that say more, or less, than they did


@rule
def ready_line(text: str) -> str:
    """Each server of the lab says `ready` when it can serve; the article's says nothing."""
    return _without_lines("ready.*", text)


@rule
def resolved_address(text: str) -> str:
    """A newer nc adds the address that a name stands for: `localhost (127.0.0.1)`."""
    return re.sub(r"(?<=Connection to localhost) \([\d.]+\)", "", text)


@rule
def apt_progress(text: str) -> str:
    """apt-get first tells how it gets on, and sums up at the end."""
    return _without_lines(r"(Reading|Building) .*\.\.\. Done|\d+ upgraded, .*", text)


@rule
def package_version(text: str) -> str:
    """The version of a package is Debian's of today."""
    return re.sub(r"(?<=newest version) \(\S+\)", "", text)


@rule
def dig_banner(text: str) -> str:
    """Since 9.18 dig leaves its banner out when it is told +noall."""
    return _without_lines(r"; <<>> DiG .*|;; global options: .*", text)


@rule
def dig_details(text: str) -> str:
    """The article leaves out the header, the statistics and the empty lines, as it admits."""
    return _without_lines(
        r"|; <<>> DiG .*|;; (global options|Got answer|->>HEADER<<-|flags|Query time|SERVER|WHEN|MSG SIZE).*"
        r"|;; OPT PSEUDOSECTION:|; EDNS: .*",
        text,
    )


@rule
def three_roots(text: str) -> str:
    """The article shows three of the 13 root servers, in the order of that day; the lab's have that of the alphabet."""
    return "\n".join(sorted(re.findall(r"^[fid]\.root-servers\.net\.$", text, re.MULTILINE)))


@rule
def init_script_words(text: str) -> str:
    """Debian's init script says what it reloads; the article shows no output."""
    return _without_lines(r"Reloading internet superserver configuration: xinetd\.", text)


@rule
def log_link(text: str) -> str:
    """/dev/log is a link to the socket, as on any machine with systemd; find names the socket itself."""
    return re.sub(r"^/run/lab/log$", "/dev/log", text, flags=re.MULTILINE)


@rule
def other_sockets(text: str) -> str:
    """The lab has named sockets of its own, as the article expects of any machine."""
    return _without_lines(r"/run/lab/(stream|dgram|seqpacket)", text)


@rule
def powerless_root(text: str) -> str:
    """root of a host has no capability, so that what other users have closed stays closed to it."""
    return _without_lines(r"find: '/.*': (Permission denied|No such file or directory)", text)


# Numbers that no two runs share


@rule
def process_id(text: str) -> str:
    """Process ids are given out in turn."""
    return re.sub(r"^(xinetd +)\d+", r"\1PID", text, flags=re.MULTILINE)


@rule
def file_descriptor(text: str) -> str:
    """The lab's xinetd has its log on one descriptor more, and the socket gets the next."""
    return re.sub(r"(?<= root) +\d+u(?= +IPv4)", " FDu", text)


@rule
def inode(text: str) -> str:
    """The kernel numbers sockets as they are made."""
    return re.sub(r"(?<=IPv4)( +)\d+", r"\1INODE", text)


@rule
def file_size(text: str) -> str:
    """Another build of the program has another size."""
    return re.sub(r"^(\S+ 1 root root )\d+", r"\1SIZE", text, flags=re.MULTILINE)


@rule
def file_date(text: str) -> str:
    """Another build of the program has another date, and ls prints the year of one that is older than half a year."""
    return re.sub(r"[A-Z][a-z]{2} [ \d]\d +(\d\d:\d\d|\d{4})(?= /)", "DATE", text)


# Print


@rule
def columns(text: str) -> str:
    """Blanks between columns: the programs write tabs or as many blanks as it takes, the printer set his own."""
    return re.sub(r"[ \t]+", " ", re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE))


@rule
def quotation_marks(text: str) -> str:
    """The printer set curled quotation marks; the program writes straight ones."""
    return text.replace("\u2018", "'").replace("\u2019", "'")


@rule
def typed_blank_line(text: str) -> str:
    """The blank line that was typed stands above the answer; the article leaves it out."""
    return text.removeprefix("\n")


# Of every text


def unseen_blanks(text: str) -> str:
    """Blanks at the end of a line, and empty lines at the end of the text, cannot be seen in print."""
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


def moved(text: str, subnets: Iterable[tuple[str, str]]) -> str:
    """A setting may have moved a network elsewhere: how its addresses begin today, and how they are to."""
    for today, wanted in subnets:
        text = text.replace(f"{today}.", f"{wanted}.")
    return text
