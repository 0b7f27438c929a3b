"""A small project, and what Compose would say of it and of others as plain, without a Compose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.project.compose import Compose
from lab.project.config import Config
from lab.project.declaration import BLOCK
from lab.project.declaration import read as read_declaration
from lab.project.settings import Settings
from lab.project.topology import of_document

SMALL = """
x-lab:
  layers: [base]
  scale: {peer: {setting: LAB_PEERS, most: 120}}
  subnets: {lan: NET}
  rebuild: true
  disposable: true
  transcripts: transcripts.yaml
services:
  base:
    profiles: [images]
    image: small/base
    build: {context: services/base, target: base}
  router:
    image: small/router
    build: services/router
    labels: {lab.role: router, lab.try: ping it}
    networks:
      lan: {ipv4_address: "${NET:-10.0.0}.1"}
  peer:
    image: small/peer
    deploy: {replicas: "${LAB_PEERS:-2}"}
    networks: [lan]
networks:
  lan:
    ipam:
      config: [{subnet: "${NET:-10.0.0}.0/24"}]
volumes:
  logs:
"""


TRANSCRIPTS = """
stages:
  router: {title: The router, hosts: {router: router}}
transcripts:
- {id: one, title: It speaks, section: Here, stage: router, host: router, command: echo one, output: one}
- {id: two, title: It speaks again, section: Here, stage: router, host: router, command: echo two, output: two}
"""


def fill_in(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:-default}`, as Compose fills it in."""
    pattern = r"\$\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?\}"
    return re.sub(pattern, lambda match: variables.get(match["name"]) or match["default"] or "", text)


def config_of(text: str, root: Path, variables: Mapping[str, str] | None = None, project: str = "small") -> Config:
    document: dict[str, Any] = yaml.safe_load(fill_in(text, variables or {}))
    declaration = read_declaration([(root / "compose.yaml", document.pop(BLOCK, {}))])
    for service in document["services"].values():
        if "build" in service:
            build = service["build"] if isinstance(service["build"], dict) else {"context": service["build"]}
            service["build"] = {**build, "context": str(root / build["context"])}
    topology = of_document(document, project, order=list(document["services"]), layers=declaration.layers)
    return Config(topology, declaration, digest=repr(topology))


def compose_of(settings: Settings, command: Sequence[str] | None = None, text: str = SMALL) -> Compose:
    """A Compose that has been asked already what it says of the project."""
    made = Compose(settings, command)
    made.config = config_of(text, settings.root, settings.variables, settings.named_project or "small")
    return made
