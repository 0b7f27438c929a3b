"""The article's one machine behind two names: www.linuxvoice.com (port 80) and smtp.linuxvoice.com (port 25).

    mainsite.py PAGES

Serves every index.html below the folder PAGES, and at /mail the mail that came.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from bounds import log
from mail import DOMAIN, Mailbox, MailConnection
from web import MAX_LINE, Website


async def main(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    mailbox = Mailbox()
    website = Website(folder, mailbox)
    await asyncio.start_server(website.serve, "0.0.0.0", 80, limit=MAX_LINE)
    await loop.create_server(lambda: MailConnection(mailbox), "0.0.0.0", 25)
    log(f"ready: web on port 80 ({len(website.pages)} pages), mail for {DOMAIN} on port 25")
    await done.wait()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "index.html").is_file():
        print("mainsite: expected a folder with an index.html; usage: mainsite.py PAGES", file=sys.stderr)
        sys.exit(100)
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except OSError as error:
        print(f"mainsite: cannot serve: {error}; does another program hold port 80 or 25 here?", file=sys.stderr)
        sys.exit(111)
