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
