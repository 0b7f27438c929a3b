"""Reading the stages of a file of transcripts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from lab.replay.model import ARGUMENT, Container, Preparation, Stage, Stopped
from lab.replay.nodes import NodeReader

STAGE = {"title", "hosts", "containers", "stopped"}
CONTAINER = {"image", "networks", "address_of", "network_of", "command", "user", "cap_add", "env", "ready", "run"}


def read_stages(reader: NodeReader, node: yaml.Node | None) -> dict[str, Stage]:
    """The stages by name; what is wrong with them is noted with the reader."""
    return {name: _stage(reader, name, entry) for name, entry in reader.fields(node, "stages").items()}


def _stage(reader: NodeReader, name: str, node: yaml.Node) -> Stage:
    fields = reader.fields(node, "a stage", STAGE, needed={"title"})
    hosts = reader.text_fields(fields.get("hosts"), "hosts")
    containers: dict[str, Container] = {}
    for inner, entry in reader.fields(fields.get("containers"), "containers").items():
        if inner in hosts:
            reader.wrong(entry, f"{inner!r} is one of the stage's hosts already")
        containers[inner] = _container(reader, entry, {**hosts, **containers})
    if not hosts and not containers:
        reader.wrong(node, "a stage needs hosts or containers")
    return Stage(
        name=name,
        title=reader.text(fields.get("title")),
        hosts=hosts,
        containers=containers,
        stopped=_stopped(reader, fields["stopped"]) if "stopped" in fields else None,
        takes_argument=ARGUMENT in " ".join(_scalars(node)),
    )


def _container(reader: NodeReader, node: yaml.Node, before: Mapping[str, object]) -> Container:
    """`before` are the hosts that stand when it is made."""
    fields = reader.fields(node, "a container", CONTAINER, needed={"image"})
    if "network_of" in fields and "networks" in fields:
        reader.wrong(fields["network_of"], "a container has networks of its own or another's, not both")
    if "address_of" in fields and "networks" not in fields:
        reader.wrong(fields["address_of"], "address_of needs networks: on which it takes that host's address")
    return Container(
        image=reader.text(fields.get("image")),
        networks=reader.texts(fields.get("networks")),
        address_of=reader.text(fields.get("address_of")) or None,
        network_of=reader.one_of(fields.get("network_of"), before, "host") or None,
        command=reader.texts(fields["command"]) if "command" in fields else None,
        user=reader.text(fields.get("user")) or None,
        cap_add=reader.texts(fields.get("cap_add")),
        env=reader.text_fields(fields.get("env"), "env"),
        ready=_pattern(reader, fields.get("ready")),
        run=tuple(_preparation(reader, item) for item in reader.items(fields.get("run"))),
    )


def _preparation(reader: NodeReader, node: yaml.Node) -> Preparation:
    fields = reader.fields(node, "a command to run", {"command", "input"}, needed={"command"})
    return Preparation(reader.texts(fields.get("command")), reader.text(fields.get("input")) or None)


def _stopped(reader: NodeReader, node: yaml.Node) -> Stopped:
    fields = reader.fields(node, "stopped", {"names", "network"}, needed={"names"})
    return Stopped(_pattern(reader, fields.get("names")) or "", reader.text(fields.get("network")) or None)


def _pattern(reader: NodeReader, node: yaml.Node | None) -> str | None:
    if node is None:
        return None
    text = reader.text(node)
    try:
        re.compile(text)
    except re.error as error:
        reader.wrong(node, f"{text!r} is no regular expression: {error}")
    return text


def _scalars(node: yaml.Node) -> list[str]:
    if isinstance(node, yaml.MappingNode):
        return [text for _, value in node.value for text in _scalars(value)]
    if isinstance(node, yaml.SequenceNode):
        return [text for value in node.value for text in _scalars(value)]
    return [str(node.value)]
