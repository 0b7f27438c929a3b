"""The machine at 213.138.101.172 is the web server and the mail server, as the article concludes, and both are real."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.hosts.host import Host
    from lab.lab import Lab

WEB, MAIL = "www.linuxvoice.com", "smtp.linuxvoice.com"


def ask(client: Host, request: bytes, port: str = "80", host: str = WEB) -> bytes:
    """What comes back for these bytes until the server hangs up, or says nothing for a second."""
    return client.run(["nc", "-w1", host, port], input=request, timeout=15).stdout


def python(client: Host, script: str, timeout: float = 20.0) -> str:
    return client.run(["python3", "-"], input=script.encode(), timeout=timeout).check().text


def test_both_names_lead_to_one_machine_that_answers_ping(client: Host) -> None:
    for name in (WEB, MAIL):
        assert "213.138.101.172" in client.run(["ping", "-c1", "-n", name]).check().text


def test_request_typed_into_nc_brings_the_page(client: Host) -> None:
    head, _, page = ask(client, b"GET / HTTP/1.0\n\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in head
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(page)
    assert b"<h1>It works</h1>" in page


def test_page_that_the_article_points_to_is_there(client: Host) -> None:
    page = python(client, f"import urllib.request as u; print(u.urlopen('http://{WEB}/coretech06/').read().decode())")
    assert "upper case" in page


def test_one_connection_carries_many_requests(client: Host) -> None:
    script = f"""
import http.client
link = http.client.HTTPConnection("{WEB}", timeout=5)
for method, path in [("GET", "/"), ("HEAD", "/"), ("GET", "/nothing"), ("GET", "/mail"), ("POST", "/")]:
    link.request(method, path)
    local = link.sock.getsockname()
    answer = link.getresponse()
    print(method, path, answer.status, len(answer.read()) > 0, local == first if path != "/" or method != "GET" else 0)
    first = local
"""
    assert python(client, script).splitlines() == [
        "GET / 200 True 0",
        "HEAD / 200 False True",
        "GET /nothing 404 True True",
        "GET /mail 200 True True",
        "POST / 405 True True",
    ]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"GET http://www.linuxvoice.com/?a=b HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
    ],
)
def test_request_gets_its_status(client: Host, request_: bytes, status: bytes) -> None:
    assert ask(client, request_).split(b" ")[1] == status


def test_request_without_end_is_cut_off(client: Host) -> None:
    assert ask(client, b"GET /" + b"a" * 100_000) == b""
    assert ask(client, b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 1000) == b""
    assert ask(client, b"GET / HTTP/1.0\n\n").startswith(b"HTTP/1.1 200 OK")


def test_mail_server_speaks_to_a_learner_line_by_line(client: Host) -> None:
    with client.start(["nc", "-C", MAIL, "25"]) as nc:
        nc.expect(rb"220 smtp\.linuxvoice\.com ESMTP\r\n")
        for line, reply in [
            (b"MAIL FROM:<me@client.example>", rb"503 .*\r\n"),
            (b"HELO client", rb"250 smtp\.linuxvoice\.com\r\n"),
            (b"EHLO client", rb"250 HELP\r\n"),
            (b"RCPT TO:<editor@linuxvoice.com>", rb"503 .*\r\n"),
            (b"MAIL FROM:<me@client.example>", rb"250 .*\r\n"),
            (b"DATA", rb"503 .*\r\n"),
            (b"RCPT TO:<someone@elsewhere.example>", rb"550 5\.7\.1 .*\r\n"),
            (b"RCPT TO:<editor@linuxvoice.com>", rb"250 .*\r\n"),
            (b"NOOP", rb"250 .*\r\n"),
            (b"VRFY editor", rb"252 .*\r\n"),
            (b"HELLO", rb"500 .*\r\n"),
            (b"DATA", rb"354 .*\r\n"),
            (b"Subject: hello\n\nfrom nc\n..hidden dot\n.", rb"250 2\.0\.0 Message \d+ kept.*\r\n"),
            (b"RSET", rb"250 .*\r\n"),
            (b"QUIT", rb"221 .*\r\n"),
        ]:
            nc.write(line + b"\n")
            nc.expect(reply)
        nc.close_stdin()
        assert nc.wait(5).exit == 0
    assert b"from nc\r\n.hidden dot\r\n" in ask(client, b"GET /mail HTTP/1.0\n\n")


def test_mail_sent_by_a_library_is_kept_and_logged(lab: Lab, client: Host) -> None:
    mainsite = lab.host("mainsite")
    mark = mainsite.mark_log()
    script = f"""
import smtplib
with smtplib.SMTP("{MAIL}", timeout=5) as link:
    print(link.sendmail("a@client.example", ["editor@linuxvoice.com", "b@linuxvoice.com"], "Subject: two\\n\\nsmtplib"))
    try:
        link.sendmail("a@client.example", ["c@elsewhere.example"], "relay this")
    except smtplib.SMTPRecipientsRefused as refused:
        print(refused.recipients["c@elsewhere.example"][0])
large = ("y" * 70 + "\\n") * 1000
for greet in ("ehlo", "helo"):  # the size is announced with the sender, or found out
    with smtplib.SMTP("{MAIL}", timeout=5) as link:
        getattr(link, greet)()
        try:
            link.sendmail("a@client.example", ["editor@linuxvoice.com"], large)
        except smtplib.SMTPResponseException as refused:
            print(type(refused).__name__, refused.smtp_code)
"""
    assert python(client, script) == "{}\n550\nSMTPSenderRefused 552\nSMTPDataError 552\n"
    page = ask(client, b"GET /mail HTTP/1.0\n\n").decode()
    assert "for <editor@linuxvoice.com>, <b@linuxvoice.com>" in page
    assert "relay this" not in page
    mainsite.wait_for_log(
        rf"mail {re.escape(client.address)} message \d+, \d+ octets, from 'a@client\.example'", since=mark
    )


def test_dot_between_bare_line_feeds_does_not_end_a_message(client: Host) -> None:
    """Otherwise one message could smuggle in a second."""
    lines = ["EHLO a", "MAIL FROM:<a@client.example>", "RCPT TO:<editor@linuxvoice.com>", "DATA"]
    script = f"""
import socket
link = socket.create_connection(("{MAIL}", 25), 5)
talk = link.makefile("rwb", 0)
talk.readline()
for line in {lines!r}:
    talk.write(line.encode() + b"\\r\\n")
    while (answer := talk.readline())[3:4] == b"-":
        pass
talk.write(b"one\\n.\\nMAIL FROM:<b@client.example>\\r\\n.\\r\\nQUIT\\r\\n")
print(talk.read().count(b"250 "))
"""
    assert python(client, script) == "1\n"


def test_newcomer_finds_a_place_among_silent_connections(client: Host) -> None:
    for host, port, request, greeting in [
        (WEB, 80, b"GET / HTTP/1.0\n\n", b"HTTP/1.1 200"),
        (MAIL, 25, b"QUIT\r\n", b"220 "),
    ]:
        hold = (
            "import socket, sys\n"
            f"held = [socket.create_connection(('{host}', {port}), 5) for _ in range(150)]\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()\n"
        )
        with client.start(["python3", "-c", hold]) as holder:
            holder.expect(rb"held\n", timeout=15)
            assert ask(client, request, str(port), host).startswith(greeting)


def test_line_of_a_stranger_is_escaped_in_the_log(lab: Lab, client: Host) -> None:
    mainsite = lab.host("mainsite")
    mark = mainsite.mark_log()
    ask(client, b"GET /\x1b[2J HTTP/1.0\n\n")
    line = mainsite.wait_for_log(r"web \S+ .*2J.*", since=mark)
    assert "\\x1b[2J HTTP/1.0' 404" in line[0]
