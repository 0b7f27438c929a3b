"""Which engine is asked, by docker's own order; its errors are held by tests/errors/endpoint.yaml."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from lab.engine import docker_tls
from lab.engine.endpoint import SOCKET, TLS_PORT, Endpoint, find

OFFICE = "tcp://office:2376"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def make_context(
    docker: Path, name: str, host: str = OFFICE, *, certificates: bool = False, unverified: bool = False
) -> Path:
    """As `docker context create` does; the folder of its certificates."""
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = docker / "contexts/meta" / folder / "meta.json"
    meta.parent.mkdir(parents=True)
    entry = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": unverified}}}
    meta.write_text(json.dumps(entry))
    tls = docker / "contexts/tls" / folder / "docker"
    if certificates:
        tls.mkdir(parents=True)
        for file in ("ca.pem", "cert.pem", "key.pem"):
            (tls / file).touch()
    return tls


def use(docker: Path, name: str) -> None:
    """As `docker context use` does."""
    docker.mkdir(exist_ok=True)
    (docker / "config.json").write_text(json.dumps({"auths": {}, "currentContext": name}))


def test_where_nothing_is_said_it_is_this_machines_own(home: Path) -> None:
    assert find({"HOME": str(home)}) == Endpoint(SOCKET)


def test_docker_host_comes_before_docker_context_and_that_before_the_context_in_use(home: Path) -> None:
    for name in ("named", "used"):
        make_context(home / ".docker", name, f"unix:///run/{name}.sock")
    use(home / ".docker", "used")
    said = {"HOME": str(home), "DOCKER_CONTEXT": "named", "DOCKER_HOST": "tcp://tower:2375"}
    assert str(find(said)) == "tcp://tower:2375 (DOCKER_HOST)"
    assert str(find({**said, "DOCKER_HOST": ""})) == "unix:///run/named.sock (context named)"
    assert str(find({"HOME": str(home)})) == "unix:///run/used.sock (context used)"
    assert str(find({"HOME": str(home), "DOCKER_CONTEXT": ""})) == "unix:///run/used.sock (context used)"


def test_the_context_called_default_is_none(home: Path) -> None:
    make_context(home / ".docker", "used")
    use(home / ".docker", "used")
    assert find({"HOME": str(home), "DOCKER_CONTEXT": "default"}) == Endpoint(SOCKET)
    use(home / ".docker", "default")
    assert find({"HOME": str(home)}) == Endpoint(SOCKET)


def test_docker_config_is_another_place_for_contexts(home: Path) -> None:
    make_context(home / "elsewhere", "office")
    use(home / "elsewhere", "office")
    assert find({"HOME": str(home), "DOCKER_CONFIG": str(home / "elsewhere")}).address == OFFICE


@pytest.mark.parametrize("text", ["{half", "[]", "{}", '{"currentContext": null}', "\xff"])
def test_settings_that_docker_cannot_read_choose_nothing(home: Path, text: str) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(text, "latin-1")
    assert find({"HOME": str(home)}) == Endpoint(SOCKET)


def test_a_context_brings_its_certificates(home: Path) -> None:
    tls = make_context(home / ".docker", "office", certificates=True)
    found = find({"HOME": str(home), "DOCKER_CONTEXT": "office"})
    assert found == Endpoint(OFFICE, "context office", tls, verified=True)
    sdk = docker_tls.of(found)
    assert sdk is not None
    assert (sdk.cert, sdk.ca_cert, sdk.verify) == ((f"{tls}/cert.pem", f"{tls}/key.pem"), f"{tls}/ca.pem", True)


def test_a_context_that_skips_verification_has_tls_all_the_same(home: Path) -> None:
    make_context(home / ".docker", "office", unverified=True)
    found = find({"HOME": str(home), "DOCKER_CONTEXT": "office"})
    sdk = docker_tls.of(found)
    assert sdk is not None
    assert (sdk.cert, sdk.ca_cert, sdk.verify) == (None, None, False)
    assert found.environment({})["DOCKER_TLS"] == "1"


def test_a_context_takes_no_certificates_from_the_environment(home: Path) -> None:
    make_context(home / ".docker", "office")
    said = {"HOME": str(home), "DOCKER_CONTEXT": "office", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    assert find(said) == Endpoint(OFFICE, "context office")


@pytest.mark.parametrize(
    ("said", "certificates", "verified"),
    [
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}, "/certs", True),
        ({"DOCKER_TLS_VERIFY": "0", "DOCKER_CERT_PATH": "/certs"}, "/certs", True),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": "/config"}, "/config", True),
        ({"DOCKER_TLS": "1", "DOCKER_CERT_PATH": "/certs"}, "/certs", False),
    ],
)
def test_tls_is_had_by_dockers_variables(said: dict[str, str], certificates: str, verified: bool) -> None:
    assert find({"DOCKER_HOST": OFFICE, **said}) == Endpoint(OFFICE, "DOCKER_HOST", Path(certificates), verified)
    alone = find({"DOCKER_CONFIG": "/config", **said})
    assert (alone.address, alone.certificates, alone.verified) == (TLS_PORT, Path(certificates), verified)


@pytest.mark.parametrize("said", [{"DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": "/certs"}, {"DOCKER_CERT_PATH": "/x"}])
def test_certificates_alone_are_no_wish_for_tls(said: dict[str, str]) -> None:
    assert find({"DOCKER_HOST": OFFICE, **said}) == Endpoint(OFFICE, "DOCKER_HOST")


def test_what_is_handed_on_leaves_no_other_choice(home: Path) -> None:
    tls = make_context(home / ".docker", "office", certificates=True)
    said = {"HOME": str(home), "DOCKER_CONTEXT": "office", "DOCKER_TLS": "1", "PATH": "/bin"}
    handed = find(said).environment(said)
    assert handed == {
        "HOME": str(home),
        "PATH": "/bin",
        "DOCKER_HOST": OFFICE,
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tls),
    }
    assert str(find(handed)) == f"{OFFICE} (DOCKER_HOST)"


def test_even_this_machines_own_is_named_since_a_context_may_be_in_use(home: Path) -> None:
    said = {"HOME": str(home), "DOCKER_CONTEXT": "default"}
    assert find(said).environment(said) == {"HOME": str(home), "DOCKER_HOST": SOCKET}
