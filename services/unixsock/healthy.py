#!/usr/bin/python3 -ES
"""Health check: healthy TYPE:NAME... asks each of the sockets, and fails at the first that does not answer right."""

from __future__ import annotations

import contextlib
import sys

from unixclient import ask, connect
from unixname import Address

SECONDS = 2.0

for text in sys.argv[1:]:
    try:
        with contextlib.ExitStack() as on_exit:
            sock = connect(Address.parse(text), "beside", on_exit)
            sock.settimeout(SECONDS)
            if (reply := ask(sock, b"ping")) != b"PING":
                sys.exit(f"{text}: expected PING, got {reply!r}")
    except (OSError, EOFError) as error:
        sys.exit(f"{text}: {error}")
