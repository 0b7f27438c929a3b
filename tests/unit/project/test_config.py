"""What is asked of Compose, when it is asked again, and what its versions answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.project import config
from lab.project.config import Config
from lab.project.declaration import Declaration, Scale
from lab.project.settings import Settings, load

TEXT = """
x-lab: {scale: {web: {setting: WEBS, most: 3}}}
services:
  web: {image: w, deploy: {replicas: "${WEBS:-1}"}}
  db: {image: d}
"""

# Of a project in plain style, as each prints it.
ANSWERS = {
    "1.29": """
networks: {lan: {ipam: {config: [{subnet: 10.7.0.0/24}]}}}
services:
  db: {image: d, labels: {lab.role: data}, networks: {lan: {ipv4_address: 10.7.0.9}}}
  web: {build: {context: /shop/web}, depends_on: {db: {condition: service_started}}}
version: '3.9'
volumes: {rows: {}}
""",
    "2.40 and 5.6": """
name: shop
services:
  db:
    command: null
    entrypoint: null
    image: d
    labels: {lab.role: data}
    networks: {lan: {ipv4_address: 10.7.0.9}}
  web:
    build: {context: /shop/web, dockerfile: Dockerfile}
    command: null
    depends_on: {db: {condition: service_started, required: true}}
    entrypoint: null
    networks: {default: null}
networks:
  default: {name: shop_default, ipam: {}}
  lan: {name: shop_lan, ipam: {config: [{subnet: 10.7.0.0/24}]}}
volumes: {rows: {name: shop_rows}}
""",
}


class Asked:
    """Answers with a text, and counts."""

    def __init__(self, answer: str = "services: {web: {image: w}, db: {image: d}}") -> None:
        self.answer = answer
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return self.answer


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(TEXT.replace('"${WEBS:-1}"', "2"))
    return tmp_path


def read(root: Path, ask: Asked, variables: dict[str, str] | None = None) -> Config:
    return config.read(Settings(root, variables or {}), ["/bin/compose"], ask)


@pytest.mark.parametrize("version", ANSWERS)
def test_each_version_of_compose_says_the_same(tmp_path: Path, version: str) -> None:
    (tmp_path / "shop").mkdir()
    found = read(tmp_path / "shop", Asked(ANSWERS[version])).topology
    assert found.project == "shop"
    assert found.host_names() == ["db", "web"]
    assert found.services["db"].role == "data"
    assert found.services["db"].addresses == {"lan": "10.7.0.9"}
    assert found.services["web"].addresses == {"default": None}
    assert found.services["web"].build == Path("/shop/web")
    assert {name: one.full_name for name, one in found.networks.items()} == {
        "lan": "shop_lan",
        "default": "shop_default",
    }
    assert found.volumes == {"rows": "shop_rows"}


def test_compose_is_asked_once_while_nothing_changes(project: Path) -> None:
    ask = Asked((project / "compose.yaml").read_text())
    first = read(project, ask)
    assert first.declaration == Declaration(scale={"web": Scale("WEBS", 3)})
    assert read(project, ask) == first
    assert ask.times == 1


@pytest.mark.parametrize("change", ["file", "override", "variable", "project", "command", "kept"])
def test_compose_is_asked_again_after_a_change(project: Path, change: str) -> None:
    path = project / "compose.yaml"
    path.write_text(path.read_text().replace("image: d", "image: '${IMAGE:-d}'"))
    ask = Asked("services: {web: {image: w}}")
    read(project, ask)
    variables: dict[str, str] = {"OTHER": "x"}
    if change == "file":
        path.write_text(path.read_text() + "# more\n")
    elif change == "override":
        (project / "compose.override.yaml").write_text("services: {web: {image: x}}")
    elif change == "variable":
        variables["IMAGE"] = "e"
    elif change == "project":
        variables["COMPOSE_PROJECT_NAME"] = "other"
    elif change == "kept":
        (project / ".lab/config.json").write_text("{")
    command = ["/bin/another"] if change == "command" else ["/bin/compose"]
    config.read(Settings(project, variables), command, ask)
    assert ask.times == 2


@pytest.mark.parametrize("word", ["include: [more.yaml]", "x-note: env_file", "x-note: extends"])
def test_a_file_that_brings_in_others_is_asked_about_each_time(project: Path, word: str) -> None:
    with (project / "compose.yaml").open("a") as file:
        file.write(word)
    ask = Asked("services: {web: {image: w}}")
    read(project, ask)
    read(project, ask)
    assert ask.times == 2


def test_where_nothing_can_be_kept_compose_is_asked_each_time(project: Path) -> None:
    (project / ".lab").write_text("in the way")
    ask = Asked()
    read(project, ask)
    read(project, ask)
    assert ask.times == 2


def test_what_is_kept_holds_no_secret_and_is_out_of_the_sight_of_git(project: Path) -> None:
    (project / ".env").write_text("PASSWORD=tiger\n")
    ask = Asked("services: {web: {image: w, environment: {PASSWORD: tiger}}}")
    config.read(load({}, project), ["/bin/compose"], ask)
    assert "tiger" not in (project / ".lab/config.json").read_text()
    assert (project / ".lab/.gitignore").read_text() == "*\n"


def test_of_two_files_the_later_ones_block_counts(project: Path) -> None:
    (project / "compose.override.yaml").write_text("x-lab: {disposable: true, scale: {db: {}}}\n")
    assert read(project, Asked()).declaration == Declaration(scale={"db": Scale()}, disposable=True)


def test_without_a_block_any_service_without_a_name_or_an_address_of_its_own_is_scalable(tmp_path: Path) -> None:
    text = """
services:
  web: {image: w}
  named: {image: w, container_name: it}
  placed: {image: w, networks: {lan: {ipv4_address: 10.0.0.3}}}
networks: {lan: {ipam: {config: [{subnet: 10.0.0.0/24}]}}}
"""
    assert read(tmp_path, Asked(text)).scalable == {"web": 1000}


@pytest.mark.parametrize("text", ["-1", "many", "4", "1.5", " ", "٣", "²", "9" * 5000])
def test_a_number_of_hosts_that_cannot_be_is_refused(project: Path, text: str) -> None:
    with pytest.raises(UsageError, match="WEBS is") as caught:
        read(project, Asked(), {"WEBS": text})
    assert len(caught.value.cause) < 80


@pytest.mark.parametrize(
    "text", ["192.168", "1.2.3.4", "a.b.c", "127.0.0", "0.0.0", "224.0.0", "255.255.255", "01.2.3"]
)
def test_a_network_that_no_host_can_be_on_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="LAN, which chooses the subnet of lan, is"):
        Declaration(subnets={"lan": "LAN"}).check({"LAN": text}, Path(".env"))


def test_any_other_network_will_do() -> None:
    Declaration(subnets={"lan": "LAN"}).check({"LAN": "10.20.30"}, Path(".env"))
