"""Setting a stage up as the file of transcripts describes it, and tearing it down again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from lab.hosts.host import Host
from lab.lab import Lab
from lab.replay.model import ARGUMENT, Container, Stage, Stopped

Hosts = Mapping[str, Host]
"""The hosts of a stage by the names that its transcripts use."""


@contextmanager
def set_up(lab: Lab, stage: Stage, argument: str = "") -> Iterator[Hosts]:
    """The stage's hosts: those of the lab, and temporary containers in the order of the file."""
    hosts = {name: lab.host(real) for name, real in stage.hosts.items()}
    networks = {name: _networks(lab, container) for name, container in stage.containers.items()}
    with ExitStack() as stack:
        if stage.stopped:
            stopped = _matching(lab, stage.stopped)
            stack.callback(_for_each, _start_again, stopped)
            _for_each(_stop, stopped)
        for name, container in stage.containers.items():
            hosts[name] = stack.enter_context(_running(lab, container, networks[name], hosts, argument))
        yield hosts


def _networks(lab: Lab, container: Container) -> dict[str, str | None]:
    """Its networks with the address to take on each; read while the host that has it still runs."""
    if container.address_of is None:
        return dict.fromkeys(container.networks)
    addresses = lab.host(container.address_of).addresses
    return {name: addresses[name] for name in container.networks}


@contextmanager
def _running(
    lab: Lab, container: Container, networks: Mapping[str, str | None], hosts: Hosts, argument: str
) -> Iterator[Host]:
    def filled(text: str) -> str:
        return text.replace(ARGUMENT, argument)

    with lab.container(
        filled(container.image),
        networks=networks,
        command=None if container.command is None else [filled(word) for word in container.command],
        network_of=hosts[container.network_of] if container.network_of else None,
        user=container.user,
        cap_add=container.cap_add,
        env={name: text for name, value in container.env.items() if (text := filled(value))},
    ) as host:
        if container.ready:
            host.wait_for_log(container.ready, since=0)
        for step in container.run:
            data = (lab.settings.root / step.input).read_bytes() if step.input else b""
            host.run([filled(word) for word in step.command], input=data).check()
        yield host


def _matching(lab: Lab, stopped: Stopped) -> list[Host]:
    """By name first: to ask any other host for its addresses is to fail when it goes away meanwhile."""
    named = [host for host in lab.hosts() if re.fullmatch(stopped.names, host.name)]
    return [host for host in named if stopped.network is None or stopped.network in host.addresses]


def _stop(host: Host) -> None:
    host.stop()


def _start_again(host: Host) -> None:
    host.restart()
    host.wait_healthy()


def _for_each(action: Callable[[Host], None], hosts: Sequence[Host]) -> None:
    """At once, as far as the machine can; raises the first error when all are done."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(action, hosts))
