"""What the images hold: what their host needs, and nothing that building them left behind."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import docker
import pytest

from lab.build import archives
from lab.progress import Silent

SERVICES = Path(__file__).parents[2] / "services"
IMAGES = sorted({path.parent.name for path in SERVICES.glob("*/Dockerfile")} | {"python", "toolchain"})
NAMED = {"base": 1, "python": 2, "toolchain": 3}
"""How many of the base's `apt-add` lines each of the shared layers has."""

# Before apt is asked anything, since that makes caches itself. The locks are empty files.
LOOK = """
find /var/lib/apt/lists /var/cache/apt /var/log/apt /var/log/dpkg.log /tmp /var/tmp -type f -size +0 2>/dev/null
echo --
apt-mark showmanual
echo --
apt-get -s -o Debug::NoLocking=1 -o APT::AutoRemove::RecommendsImportant=0 autoremove | sed -n 's/^Remv //p'
"""


def contents(lab, image: str) -> list[list[str]]:
    """Files that building left, the packages that somebody asked for, and those that nothing needs."""
    with lab.container(f"datagram-lab/{image}", command=["sleep", "120"], user="0") as host:
        said = host.run(["sh", "-c", LOOK], timeout=60).stdout.decode()
    return [part.strip().splitlines() for part in said.split("--\n")]


def named(image: str) -> set[str]:
    """What the Dockerfile of the image, and those of the layers below it, ask for."""
    shared = archives.packages([SERVICES / "base"])
    if image in NAMED:
        return set(" ".join(shared[: NAMED[image]]).split())
    below = re.findall(r"^FROM datagram-lab/(\w+)$", (SERVICES / image / "Dockerfile").read_text(), re.MULTILINE)[-1]
    return set(" ".join([*shared[: NAMED[below]], *archives.packages([SERVICES / image])]).split())


@pytest.fixture(scope="module")
def debian(lab) -> set[str]:
    """What was there before any Dockerfile."""
    return set(contents(lab, "base")[1]) - named("base")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_packages_that_it_names_and_what_they_need(lab, image, debian):
    left_behind, asked_for, needless = contents(lab, image)
    assert set(asked_for) == debian | named(image)
    assert needless == []
    assert left_behind == []


def test_packages_are_taken_from_where_they_were_fetched_once(lab):
    """A step that cannot use the offer asks Debian, and nobody would notice but for the time."""
    folders = [SERVICES / "nsd", SERVICES / "daytime"]
    project = lab.project
    with (
        archives.offered(lab.engine, project, folders, Silent()) as offer,
        contextlib.closing(docker.from_env()) as engine,
    ):
        said = engine.containers.run(
            "datagram-lab/base",
            ["apt-add", *archives.packages(folders)[0].split()],
            user="0",
            environment={"ftp_proxy": offer},
            labels={"lab.temporary": project},
            remove=True,
        ).decode()
    fetched = re.findall(r"^Get:\d+ (http://\S+)", said, re.MULTILINE)
    assert set(fetched) == {offer}, said


APT_GET = b"""#!/bin/sh
echo $(grep -c SourceList /tmp/apt-add.conf) $*
"""


@pytest.mark.parametrize("offer", ["http://127.0.0.1:9/datagram-lab", "http://proxy.example:3128", ""])
def test_packages_come_from_debian_where_no_offer_can_be_reached(lab, offer):
    """Nobody listens on the first; the second is a proxy of the user's, which is none of the lab's business."""
    with lab.container("datagram-lab/base", command=["sleep", "60"], user="0", env={"ftp_proxy": offer}) as host:
        host.run(["sh", "-c", "cat >/usr/local/bin/apt-get && chmod +x /usr/local/bin/apt-get"], input=APT_GET).check()
        said = host.run(["apt-add", "rsyslog"]).check().stdout.decode().splitlines()
    assert (f"apt-add: not to be had from {offer}; from Debian" in said) == offer.startswith("http://127")
    assert said[-2:] == ["0 -q -c /tmp/apt-add.conf update", "0 -qy -c /tmp/apt-add.conf install rsyslog"]
