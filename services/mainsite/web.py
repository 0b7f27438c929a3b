"""www.linuxvoice.com: GET and HEAD as in RFC 9110 and 9112, for a few pages and the mailbox."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from bounds import Places, log
from mail import Mailbox

TIMEOUT = 10.0  # for a whole request and its answer
MAX_LINE, MAX_LINES = 8192, 100
OTHER_METHODS = {"POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}


class Website:
    """The pages by path, and one coroutine for each connection."""

    def __init__(self, folder: Path, mailbox: Mailbox) -> None:
        files = folder.rglob("index.html")
        self.pages = {"/" + file.parent.relative_to(folder).as_posix().strip("."): file.read_bytes() for file in files}
        self.mailbox = mailbox
        self.places = Places()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        self.places.enter(writer.transport)
        try:
            stay = True
            while stay:
                async with asyncio.timeout(TIMEOUT):
                    if not (lines := await read_head(reader)):
                        break
                    answer, stay, status = self.answer(lines)
                    writer.write(answer)
                    await writer.drain()
                if peer != "127.0.0.1":  # the health check
                    log(f"web {peer} {lines[0]!a} {status.value}")
            writer.close()
            async with asyncio.timeout(TIMEOUT):
                await writer.wait_closed()
        except (OSError, TimeoutError, ValueError):
            writer.transport.abort()  # it has gone, is too slow, or sends lines without end
        finally:
            self.places.leave(writer.transport)

    def answer(self, lines: list[str]) -> tuple[bytes, bool, HTTPStatus]:
        """The response to a request's lines, whether the connection stays open, and the status."""
        fields = [line.partition(":") for line in lines[1:]]
        header = {name.lower(): value.strip().lower() for name, _, value in fields}
        method, target, version = [*lines[0].split(" "), "", ""][:3]
        hosts = sum(name.lower() == "host" for name, _, _ in fields)
        malformed = (
            lines[0].count(" ") != 2
            or not version.startswith("HTTP/")
            or any(not colon or name != name.strip() for name, colon, _ in fields)
            or hosts > 1
            or (version == "HTTP/1.1" and not hosts)
        )
        kind, body, more = "text/plain", b"", ""
        if malformed:
            status = HTTPStatus.BAD_REQUEST
        elif not version.startswith("HTTP/1."):
            status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        elif method in OTHER_METHODS:
            status, more = HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n"
        elif method not in ("GET", "HEAD"):
            status = HTTPStatus.NOT_IMPLEMENTED
        else:
            status, kind, body = self.page(target)
        if status is not HTTPStatus.OK:
            body = f"{status.value} {status.phrase}: {status.description}\n".encode()
        has_body = "content-length" in header or "transfer-encoding" in header  # it is not read: nothing may follow it
        wish = header.get("connection", "keep-alive" if version == "HTTP/1.1" else "close")
        stay = "keep-alive" in wish and not malformed and not has_body
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: {formatdate(usegmt=True)}\r\nServer: mainsite\r\n"
            f"Content-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n{more}"
            f"Connection: {'keep-alive' if stay else 'close'}\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body), stay, status

    def page(self, target: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, media type and content of what a request asks for."""
        try:
            path = urlsplit(target).path.rstrip("/") or "/"
        except ValueError:
            return HTTPStatus.BAD_REQUEST, "text/plain", b""
        if path == "/mail":
            text = b"\n--------\n".join(self.mailbox.messages) or b"No mail yet.\n"
            return HTTPStatus.OK, "text/plain", text
        if path in self.pages:
            return HTTPStatus.OK, "text/html", self.pages[path]
        return HTTPStatus.NOT_FOUND, "text/plain", b""


async def read_head(reader: asyncio.StreamReader) -> list[str]:
    """The request line and the header lines, up to the empty one; none at the end of the connection.

    A bare line feed ends a line too (RFC 9112, 2.2), so that a request can be typed into nc.
    """
    lines: list[str] = []
    while raw := await reader.readline():
        if line := raw.decode("latin-1").rstrip("\r\n"):
            lines.append(line)
            if len(lines) > MAX_LINES:
                raise ValueError("a header without end")
        elif lines:
            return lines
    return []
