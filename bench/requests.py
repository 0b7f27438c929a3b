"""Requests a second of the upper-case server against the shortest loop that Python allows, in the same place.

Both run in containers of the server's own image on `lan`, made alike; the client loads them by turns with load.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.bench import Bench
from bench.measure import Row, Sample, by_turns
from lab import Host

REQUESTS = 30_000
"""For each sample: a quarter of a second or so."""
PORT = "4444"

LOOP = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 4444))
print("ready", flush=True)
while True:
    data, client = sock.recvfrom(1024)
    sock.sendto(data.upper(), client)
"""


def measure(bench: Bench) -> Iterator[Row]:
    lab = bench.lab
    lab.up()
    client = lab.host("client")
    program = Path(__file__).with_name("load.c").read_bytes()
    client.run(["sh", "-c", "gcc -x c -O2 -o /tmp/bench-load -"], input=program, timeout=60).check()
    image = "datagram-lab/ucserver"
    try:
        with (
            lab.container(image, networks=["lan"]) as server,
            lab.container(image, networks=["lan"], command=["python3", "-u", "-c", LOOP]) as loop,
        ):
            samples = [rate(client, host) for host in (server, loop)]
            for sample in samples:
                sample()  # the first one warms caches up and is not counted
            ours, bare = by_turns(samples, 3 * bench.rounds)
    finally:
        client.run(["rm", "-f", "/tmp/bench-load"])
    yield Row("requests", "ucserver", "a bare recvfrom/sendto loop", "requests/s", ours, bare, ">= 0.9")


def rate(client: Host, server: Host) -> Sample:
    server.wait_for_log("^ready", since=1)
    address = server.address

    def sample() -> float:
        done = client.run(["/tmp/bench-load", address, PORT, str(REQUESTS)], timeout=40).check()
        replies, seconds, _ = done.text.split()
        return int(replies) / float(seconds)

    return sample
