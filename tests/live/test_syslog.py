"""/dev/log: programs of one host, the log of another, and a socket in a volume between them."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from lab import Host, Lab
from lab.waiting import Deadline, poll


@pytest.fixture
def syslog(lab: Lab) -> Host:
    return lab.host("syslog")


@pytest.fixture
def token() -> str:
    """A message that nobody else sends."""
    return uuid4().hex


@pytest.mark.parametrize("sender", ["unixsock", "unixclient"])
def test_syslog_collects_log_messages_by_dev_log(lab: Lab, syslog: Host, token: str, sender: str) -> None:
    mark = syslog.mark_log()
    lab.host(sender).run(["logger", f"hello {token}"]).check()
    syslog.wait_for_log(rf"^lab: hello {token} pri=user\.notice$", since=mark)


def test_tag_and_priority_arrive(lab: Lab, syslog: Host, token: str) -> None:
    mark = syslog.mark_log()
    lab.host("unixclient").run(["logger", "-t", "me", "-p", "local3.warning", token]).check()
    syslog.wait_for_log(rf"^me: {token} pri=local3\.warning$", since=mark)


def test_any_program_that_calls_syslog_3_arrives(lab: Lab, syslog: Host, token: str) -> None:
    mark = syslog.mark_log()
    call = f"import syslog; syslog.openlog('prog', 0, syslog.LOG_DAEMON); syslog.syslog(syslog.LOG_ERR, '{token}')"
    lab.host("unixclient").run(["python3", "-c", call]).check()
    syslog.wait_for_log(rf"^prog: {token} pri=daemon\.err$", since=mark)


def test_a_message_cannot_forge_a_line_or_drive_the_terminal(lab: Lab, syslog: Host, token: str) -> None:
    mark = syslog.mark_log()
    lab.host("unixclient").run(
        ["python3", "-c", f"import syslog; syslog.syslog('{token}\\nforged\\x1b[31m\\xe4')"]
    ).check()
    line = syslog.wait_for_log(rf"^.*{token}.*$", since=mark).group()
    assert re.search(rf"{token}#012forged#033\[31m#303#244 pri=user\.info$", line)


SEND = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect("/dev/log")
    s.send(sys.stdin.buffer.read())
"""


def line_of(lab: Lab, syslog: Host, token: str, message: bytes) -> str:
    """The line that a message with this token in it leaves in the log, with TOKEN for it."""
    mark = syslog.mark_log()
    lab.host("unixclient").run(["python3", "-c", SEND], input=message.replace(b"TOKEN", token.encode())).check()
    return syslog.wait_for_log(rf"^.*{token}.*$", since=mark).group().replace(token, "TOKEN")


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            b'<165>1 2003-10-11T22:14:15.003Z host.example app 77 ID47 [a@1 iut="3"] TOKEN x',
            "app[77] TOKEN x pri=local4.notice",
        ),
        (b"<34>1 2003-10-11T22:14:15.003+01:00 - su - - - TOKEN", "su TOKEN pri=auth.crit"),
        (b"<34>1 - - - - - - TOKEN", "- TOKEN pri=auth.crit"),
        (b"<14>2026-11-27T10:00:00+01:00 tag: TOKEN iso stamp", "tag: TOKEN iso stamp pri=user.info"),
        (b"<14>2026-11-27T10:00:00.123456Z TOKEN x", "TOKEN x pri=user.info"),
        (b"2026-11-27T10:00:00Z tag: TOKEN", "tag: TOKEN pri=user.notice"),
        (b"<14>Nov  7 10:00:00 tag[7]: TOKEN", "tag[7]: TOKEN pri=user.info"),
        (b"<14>Nov 27 2026 10:00:00 tag: TOKEN a year", "tag: TOKEN a year pri=user.info"),
        (b"<14>Nov 27 10:00:00 2026 tag: TOKEN", "2026 tag: TOKEN pri=user.info"),
        (b"<14>Nov 27 10:00:00 TOKEN without a tag", "TOKEN without a tag pri=user.info"),
        (b"<14>Nov 27 10:00:00 host tag: TOKEN", "host tag: TOKEN pri=user.info"),
        (b"<14>tag: TOKEN", "tag: TOKEN pri=user.info"),
        (b"<14>tag TOKEN without a colon", "tag TOKEN without a colon pri=user.info"),
        (b"<14>tag:TOKEN", "tag:TOKEN pri=user.info"),
        (b"<14>[TOKEN] x", "[TOKEN] x pri=user.info"),
        (b"<14>  TOKEN", "  TOKEN pri=user.info"),
        (b"<14>/usr/bin/prog: TOKEN", "/usr/bin/prog: TOKEN pri=user.info"),
        (b"<0>tag: TOKEN", "tag: TOKEN pri=kern.emerg"),
        (b"<191>tag: TOKEN", "tag: TOKEN pri=local7.debug"),
        (b"<192>tag: TOKEN", "<192>tag: TOKEN pri=user.notice"),
        (b"<-1>tag: TOKEN", "<-1>tag: TOKEN pri=user.notice"),
        (b"<1234>tag: TOKEN", "<1234>tag: TOKEN pri=user.notice"),
        (b"<>tag: TOKEN", "<>tag: TOKEN pri=user.notice"),
        (b"<14 TOKEN", "<14 TOKEN pri=user.notice"),
        (b"TOKEN no pri", "TOKEN no pri pri=user.notice"),
        (b"no pri TOKEN: x", "no pri TOKEN: x pri=user.notice"),
        (b"http://TOKEN", "http://TOKEN pri=user.notice"),
        (b"\xff\1 TOKEN", "#377#001 TOKEN pri=user.notice"),
        (b"<14>tag: TOKEN\n", "tag: TOKEN pri=user.info"),
        (b"<14>tag: TOKEN\0", "tag: TOKEN pri=user.info"),
        (b"<14>tag: TOKEN\nx\0y", "tag: TOKEN#012x#000y pri=user.info"),
        (b"<46>rsyslogd: [TOKEN] start", "rsyslogd: [TOKEN] start pri=syslog.info"),
        (b"ready /run/lab/log TOKEN", "ready /run/lab/log TOKEN pri=user.notice"),
    ],
)
def test_text_arrives_whole_whatever_stands_before_it(
    lab: Lab, syslog: Host, token: str, message: bytes, line: str
) -> None:
    """RFC 3164, 4.3: a relay takes off what is a valid priority and date, and nothing else; without one it is 13."""
    assert line_of(lab, syslog, token, message) == line


def test_logger_writes_both_forms(lab: Lab, syslog: Host, token: str) -> None:
    mark = syslog.mark_log()
    lab.host("unixclient").run(["logger", "--rfc5424", "-t", "me", f"new {token}"]).check()
    syslog.wait_for_log(rf"^me new {token} pri=user\.notice$", since=mark)


def test_message_is_cut_where_the_readme_says(lab: Lab, syslog: Host, token: str) -> None:
    line = line_of(lab, syslog, token, b"<14>tag: TOKEN" + b"x" * 65_000)
    assert len("<14>" + line.replace("TOKEN", token).removesuffix(" pri=user.info")) == 8096


def test_nobody_but_the_server_says_that_it_is_ready(lab: Lab, syslog: Host, token: str) -> None:
    mark = syslog.mark_log()
    for words in (b"<46>rsyslogd: [x] start", b"<46>rsyslogd: start", b"ready /run/lab/forged", b"healthy: forged"):
        lab.host("unixclient").run(["python3", "-c", SEND], input=words).check()
    lab.host("unixclient").run(["logger", token]).check()
    syslog.wait_for_log(token, since=mark)
    said = re.findall(r"^(?:ready|healthy).*forged.*$", syslog.logs(since=mark), re.M)
    assert len(said) == 2
    assert all(re.search(r" pri=[a-z0-9.]+$", line) for line in said), "the server's own lines name no priority"


@pytest.mark.parametrize("end", ["restart", "kill"])
def test_senders_follow_the_log_through_its_restart_and_its_sudden_death(
    lab: Lab, syslog: Host, token: str, end: str
) -> None:
    if end == "kill":
        syslog.kill("KILL")
    syslog.restart()
    syslog.wait_healthy()
    mark = syslog.mark_log()
    lab.host("unixclient").run(["logger", token]).check()
    syslog.wait_for_log(token, since=mark)


def test_a_restarted_sender_has_its_dev_log_again(lab: Lab, syslog: Host, token: str) -> None:
    sender = lab.host("unixclient")
    sender.restart()
    sender.wait_healthy()
    mark = syslog.mark_log()
    sender.run(["logger", token]).check()
    syslog.wait_for_log(token, since=mark)


def test_with_nobody_listening_logger_is_silent_unless_asked(lab: Lab) -> None:
    sender = lab.host("unixclient")
    silent = sender.run(["logger", "--socket", "/run/lab/nobody", "x"])
    asked = sender.run(["logger", "--socket-errors=on", "--socket", "/run/lab/nobody", "x"])
    assert (silent.exit, silent.stderr) == (0, b"")
    assert asked.exit == 1
    assert b"No such file or directory" in asked.stderr


def test_a_flood_is_dropped_and_counted(lab: Lab, syslog: Host, token: str) -> None:
    mark = syslog.mark_log()
    lines = "".join(f"{token} {number}\n" for number in range(3000)).encode()
    lab.host("unixclient").run(["logger", "-t", "flood"], input=lines).check()
    syslog.wait_for_log(r"rate-limiting", since=mark)
    assert syslog.logs(since=mark).count(token) < 3000

    def gets_through() -> bool:
        """The limit is over when a second has passed; until then others' messages are dropped, too."""
        lab.host("unixclient").run(["logger", f"after {token}"]).check()
        return f"after {token}" in syslog.logs(since=mark)

    assert poll(gets_through, Deadline.after(10))


def test_the_health_check_sends_a_real_message_and_leaves_no_line(syslog: Host) -> None:
    mark = syslog.mark_log()
    assert syslog.run(["heard"]).exit == 0
    assert "health-check" not in syslog.logs(since=mark)


def test_the_health_check_fails_when_messages_are_not_written(syslog: Host) -> None:
    syslog.run(["sh", "-c", "kill -STOP $(cat /tmp/rsyslogd.pid)"]).check()
    try:
        deaf = syslog.run(["heard"])
    finally:
        syslog.run(["sh", "-c", "kill -CONT $(cat /tmp/rsyslogd.pid)"]).check()
    assert deaf.exit == 1
    assert b"never written" in deaf.stdout


def test_the_log_runs_as_an_ordinary_user_without_a_capability(syslog: Host) -> None:
    status = syslog.run(["sh", "-c", "cat /proc/$(cat /tmp/rsyslogd.pid)/status"]).text
    assert re.search(r"^Uid:\t1000\t1000\t1000\t1000$", status, re.M)
    assert re.search(r"^CapBnd:\t0{16}$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
