"""A host of the lab: what a user, a test or a command does with one."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from lab.capture.capture import Capture
from lab.engine.base import Container, Engine
from lab.engine.logs import LogReader
from lab.errors import HostError
from lab.exec.processes import Completed, Process
from lab.exec.sessions import Sessions
from lab.lifecycle.readiness import Readiness
from lab.project.topology import Topology
from lab.toolbox.image import program

if TYPE_CHECKING:
    from scapy.packet import Packet


class Host:
    """One running container of the lab, by the name that users type.

    It stays the same host through restarts; after a `lab up` that made it anew, ask the `Lab` for it again.
    """

    def __init__(self, name: str, container: Container, engine: Engine, sessions: Sessions, topology: Topology) -> None:
        self.name = name
        self.id = container.id
        self._record = container  # of what does not change: its labels
        self._engine = engine
        self._sessions = sessions
        self._topology = topology

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.id[:12]}>"

    @property
    def container(self) -> Container:
        """The engine's record of the host as it is now."""
        if container := self._engine.container(self.id):
            return container
        raise HostError(f"host {self.name} is gone", "lab up makes it anew.")

    @property
    def addresses(self) -> dict[str, str]:
        """IPv4 address by network; empty while the host is stopped."""
        return self._topology.addresses(self.container.addresses)

    @property
    def address(self) -> str:
        """The address of a host that is on one network."""
        addresses = self.addresses
        if len(addresses) != 1:
            raise HostError(f"{self.name} has {len(addresses)} addresses: {addresses}", "Use host.addresses[NETWORK].")
        return next(iter(addresses.values()))

    @property
    def health(self) -> str:
        """The engine's last verdict: `starting`, `healthy`, `unhealthy`, or empty where there is no check."""
        return self.container.health

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        timeout: float = 10.0,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Completed:
        """Run a command in the host to its end, with `input` as its whole standard input.

        An exit code other than 0 is data. Raises CommandTimeout after `timeout` seconds, when the command's whole
        process group in the host has been killed.
        """
        with self.start(argv, user=user, env=env, cwd=cwd) as process:
            return process.communicate(input, timeout)

    def start(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        collect: bool = True,
    ) -> Process:
        """Start a command and go on beside it; as a context manager it is killed at the end of the block.

        `collect=False`: its output is not kept, but read by `Process.chunks`.
        """
        session = self._sessions.open(self._record, user, self.name)
        return Process(session.start(argv, env=env, cwd=cwd), collect=collect)

    def logs(self, since: float | None = None) -> str:
        """What the host's main program wrote, from `since` (seconds since 1970) or from its start."""
        return b"".join(self._engine.logs(self.id, since=since)).decode(errors="backslashreplace")

    def mark_log(self) -> float:
        """A moment to hand to `logs` or `wait_for_log` as `since`."""
        return time.time()

    def wait_for_log(self, pattern: str, timeout: float = 5.0, *, since: float | None = None) -> re.Match[str]:
        """The first match of `pattern` in what is logged after this call, or after `since`.

        Raises ExpectationFailed, with what was logged instead, after `timeout` seconds.
        """
        with LogReader(self._engine, self.id, time.time() if since is None else since) as reader:
            return reader.expect(pattern, timeout, self.name)

    def pause(self) -> None:
        """Freeze every process of the host; its address stays, and nothing answers."""
        self._engine.act(self.id, "pause")

    def unpause(self) -> None:
        self._engine.act(self.id, "unpause")

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to the host's main process."""
        self._engine.act(self.id, "kill", signal=signal)

    def stop(self) -> None:
        """End the host's main process, and so the host; it keeps its place in the lab."""
        self._engine.act(self.id, "stop", timeout=3)

    def boot(self) -> None:
        """Start a host again that was stopped or has ended."""
        self._engine.act(self.id, "start")

    def restart(self) -> None:
        """Stop and start again; sessions and processes of before are gone."""
        self._engine.act(self.id, "restart", timeout=3)

    def wait_healthy(self, timeout: float = 10.0) -> None:
        """Return when the host's own health check succeeds; HostError after `timeout` seconds."""
        with Readiness(self._engine, self._sessions.probe, timeout) as readiness:
            readiness.wait([self.container])

    def capture(
        self, filter: str = "", *, interface: str | None = None, network: str | None = None, lossy: bool = False
    ) -> AbstractContextManager[Capture]:
        """Record the packets of the host that match a pcap filter (pcap-filter(7)), in its own network namespace.

        On its only interface, on all of them where it has several, or on lo where there is no other. `network` names
        that one by the network it is on; `interface` by its own name, such as `lo`. What is named may yet come: it is
        waited for some seconds. Frames are what the host's kernel hands to its card, so TCP's may be larger than the
        wire's (segmentation offload). Raises HostError at the end of the block when packets are missing, unless
        `lossy`, and at once for a host on the machine's own network.
        """
        chosen = self._interface(interface, network)
        return Capture(self._sessions.sniffer(self.id, self._topology.project, self.name), filter, chosen, lossy)

    def inject(self, packets: Iterable[Packet], *, interface: str | None = None, network: str | None = None) -> None:
        """Send packets from this host, hand-made or captured: whole IPv4 packets, or Ethernet frames as they are.

        IPv4 packets go where the host's routes lead; frames leave by its only interface, or the one that is named as
        for `capture`. It takes nothing inside the host.
        """
        from scapy.layers.l2 import Ether

        wanted = list(packets)
        framed = [isinstance(packet, Ether) for packet in wanted]
        if any(framed) and not all(framed):
            raise ValueError("inject takes IPv4 packets or Ethernet frames, not both in one call")
        data = b"".join(struct.pack(">I", len(raw)) + raw for raw in map(bytes, wanted))
        words = ["frames", self._interface(interface, network)] if all(framed) else ["packets"]
        session = self._sessions.sniffer(self.id, self._topology.project, self.name)
        with Process(session.start(program("sender", *words))) as process:
            process.communicate(data).check()

    def _interface(self, interface: str | None, network: str | None) -> str:
        """As programs of the toolbox want it: a name, an address that it has, or nothing."""
        if interface or not network:
            return interface or ""
        owner = self.container
        while owner.network_mode.startswith("container:"):
            found = self._engine.container(owner.network_mode.removeprefix("container:"))
            if found is None:
                break
            owner = found
        addresses = self._topology.addresses(owner.addresses)
        if address := owner.addresses.get(network) or addresses.get(network):
            return address
        raise HostError(
            f"{self.name} has no address on a network {network}",
            f"It is on: {', '.join(sorted(addresses)) or 'none'}. Another's interface can be named: interface=NAME.",
        )
