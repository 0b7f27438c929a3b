"""smtp.linuxvoice.com: takes mail for its own domain and keeps the last ten messages. SMTP (RFC 5321) by aiosmtpd."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session
from bounds import Places, log

DOMAIN = "linuxvoice.com"
MAX_MESSAGE = 16384
IDLE_TIMEOUT = 60.0

logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd's own, a line for each wrong command


class Mailbox:
    """What the SMTP server asks us: may this recipient have mail, and where does a message go."""

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque(maxlen=10)
        self.number = itertools.count(1)

    async def handle_RCPT(  # noqa: N802 (aiosmtpd looks for this name)
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.rpartition("@")[2].lower() != DOMAIN:
            return f"550 5.7.1 No relaying: this host takes mail for {DOMAIN} only"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        number, content = next(self.number), envelope.original_content or b""
        head = f"Message {number} from <{envelope.mail_from}> for <{'>, <'.join(envelope.rcpt_tos)}>\n\n"
        self.messages.append(head.encode(errors="replace") + content)
        log(f"mail {session.peer[0]} message {number}, {len(content)} octets, from {envelope.mail_from!a}")
        return f"250 2.0.0 Message {number} kept, see http://www.{DOMAIN}/mail"


class MailConnection(SMTP):
    """One SMTP client; one that comes to a full house ends the oldest."""

    places = Places()

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__(
            mailbox,
            hostname=f"smtp.{DOMAIN}",
            ident="ESMTP",
            data_size_limit=MAX_MESSAGE,
            timeout=IDLE_TIMEOUT,
            command_call_limit=100,  # of each command in one connection
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seat = cast(asyncio.Transport, transport)
        self.places.enter(self.seat)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.places.leave(self.seat)
        super().connection_lost(error)
