"""Where a transcript is typed: each stage sets some hosts up as the article has them, and takes all of it away again.

The first line of a stage's docstring tells the reader of a replay where he is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager

from lab.hosts.host import Host
from lab.lab import Lab

Hosts = Mapping[str, Host]
"""The hosts of a stage by the names that its transcripts use."""
Stage = Callable[[Lab, str], AbstractContextManager[Hosts]]

WORKSTATION = "datagram-lab/client"
IDLE = ("sleep", "infinity")
PACKAGE_FILE = "/usr/share/xinetd.d/daytime"  # copied to /etc/xinetd.d when the host starts
AS_SHIPPED = "/disable/ s/= no/= yes/"  # the image enables both versions
UDP_ALONE = "/the udp version/,$ {/disable/ s/= yes/= no/}"

STAGES: dict[str, Stage] = {}


def _stage(function: Callable[[Lab, str], Iterator[Hosts]]) -> Stage:
    made = contextmanager(function)
    STAGES[function.__name__] = made
    return made


def place(stage: str) -> str:
    """In words, where a stage is."""
    return (STAGES[stage.partition(" ")[0]].__doc__ or "").strip().splitlines()[0].removesuffix(".")


@_stage
def workstation(lab: Lab, _: str) -> Iterator[Hosts]:
    """The workstation of the lab."""
    yield {"client": lab.host("client")}


@_stage
def shop(lab: Lab, _: str) -> Iterator[Hosts]:
    """A machine of its own on which the server's file lies."""
    with lab.container("datagram-lab/ucserver", networks=["lan"], command=IDLE) as server:
        server.run(["ln", "-sf", "/opt/ucserver/minimal_udp.py", "/tmp/ucserver.py"]).check()
        yield {"server": server}


@_stage
def ucserver(lab: Lab, _: str) -> Iterator[Hosts]:
    """The machine of the upper-case server (localhost is its own)."""
    server = lab.host("ucserver")
    with lab.container(WORKSTATION, network_of=server) as client:
        yield {"client": client, "server": server}


@_stage
def packages(lab: Lab, image: str) -> Iterator[Hosts]:
    """A machine whose package manager may change files, as root's may elsewhere."""
    with lab.container(image, command=IDLE, cap_add=["CHOWN", "FOWNER"], user="root") as host:
        yield {"host": host}


@_stage
def xinetd_as_packaged(lab: Lab, _: str) -> Iterator[Hosts]:
    """The machine of the daytime service, which its package ships disabled."""
    with _xinetd(lab, AS_SHIPPED, "") as server:
        yield {"server": server}


@_stage
def xinetd(lab: Lab, clock: str) -> Iterator[Hosts]:
    """The machine of the daytime service, edited as the article says (localhost is its own)."""
    with (
        _xinetd(lab, f"{AS_SHIPPED}; {UDP_ALONE}", clock) as server,
        lab.container(WORKSTATION, network_of=server) as client,
    ):
        yield {"server": server, "client": client}


@contextmanager
def _xinetd(lab: Lab, script: str, clock: str) -> Iterator[Host]:
    """`script` edits what the package ships; `clock` is the time at which its clock stands still, if any."""
    with lab.container(
        "datagram-lab/daytime",
        networks=["lan"],
        command=["sh", "-c", f"sed -i '{script}' {PACKAGE_FILE}; exec superserver"],
        env={"FAKETIME": clock} if clock else None,
    ) as server:
        server.wait_for_log("^ready", since=0)
        yield server


@_stage
def peers(lab: Lab, _: str) -> Iterator[Hosts]:
    """The article's two machines, 192.168.1.69 and .73; the lab's own peers are off meanwhile."""
    addresses = {name: lab.host(name).addresses["lan"] for name in ("peer69", "peer73")}
    off = [host for host in lab.hosts() if "lan" in host.addresses and re.fullmatch(r"peer(69|73|-\d+)", host.name)]
    source = (lab.settings.root / "services/peer/article/update.c").read_bytes()
    with ExitStack() as stack:
        stack.callback(_for_each, _start_again, off)
        _for_each(Host.stop, off)
        machines = {}
        for name, address in addresses.items():
            # Two minutes and no more: should this program be killed, the addresses are free again by themselves.
            machine = stack.enter_context(
                lab.container(WORKSTATION, networks={"lan": address}, command=["sleep", "120"])
            )
            machine.run(["gcc", "-xc", "-", "-o", "update"], input=source).check()
            machines[name] = machine
        yield machines


def _start_again(host: Host) -> None:
    host.restart()
    host.wait_healthy()


def _for_each(action: Callable[[Host], None], hosts: Sequence[Host]) -> None:
    """At once, as far as the machine can; raises the first error when all are done."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(action, hosts))


@_stage
def sockets(lab: Lab, _: str) -> Iterator[Hosts]:
    """The machine of the Unix-domain sockets."""
    yield {"server": lab.host("unixsock")}
