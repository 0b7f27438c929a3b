from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.project.settings import Settings, find_root, load, read_env_file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    (tmp_path / "compose.yaml").write_text("services: {}\nnetworks: {}\n")
    (tmp_path / ".env").write_text("# a comment\nCOMPOSE_PROJECT_NAME=quoted\nLAB_PEERS='3'\n\nexport LAB_BASE=build\n")
    return tmp_path


def test_the_environment_wins_over_the_env_file(project: Path) -> None:
    settings = load({"LAB_PEERS": "7"}, project)
    assert settings.peers == 7
    assert settings.project == "quoted"
    assert settings.base == "build"


def test_quotes_are_taken_off_a_value(project: Path) -> None:
    assert read_env_file(project / ".env")["LAB_PEERS"] == "3"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=3   # three", "3"),
        ("A=3\t# three", "3"),
        ('A="build" # from packages', "build"),
        ("A='build'# from packages", "build"),
        ("A='a # b' # c", "a # b"),
        ('A="it\'s" # c', "it's"),
        ("A=a#b", "a#b"),
        ("A=a b # c # d", "a b"),
        ("A=#b", "#b"),
        ("A= # b", "# b"),
        ("A=it's", "it's"),
        ("A=''", ""),
        ("A=", ""),
        ("export A = 3 # three", "3"),
        ("\ufeffA=3", "3"),
    ],
)
def test_a_value_ends_where_compose_ends_it(tmp_path: Path, line: str, value: str) -> None:
    """As python-dotenv 0.21 reads it for docker-compose 1.29."""
    (tmp_path / ".env").write_text(f"{line}\nB=2\n")
    assert read_env_file(tmp_path / ".env") == {"A": value, "B": "2"}


@pytest.mark.parametrize("line", ["A='3", 'A="3', "A='3'x", 'A="3" 4', "A='it\\'s'"])
def test_a_value_whose_quotes_do_not_hold_it_is_told(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(line)
    with pytest.raises(UsageError, match=r"\.env:1: expected NAME=value, found"):
        read_env_file(tmp_path / ".env")


def test_the_project_is_found_from_a_folder_below_it(project: Path) -> None:
    below = project / "services" / "deep"
    below.mkdir()
    assert find_root({}, below) == project.resolve()


def test_lab_dir_names_the_project_from_anywhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert find_root({"LAB_DIR": str(project)}, elsewhere) == project.resolve()


def test_a_lab_dir_without_a_lab_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no lab in .*looked for compose\.yaml"):
        find_root({"LAB_DIR": str(tmp_path)}, tmp_path)


def test_a_working_directory_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the working directory cannot be looked into: No such file or directory"):
        load({})


def test_with_lab_dir_the_working_directory_may_be_gone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load({"LAB_DIR": str(project)}).root == project.resolve()


def test_of_a_lab_dir_that_is_too_long_not_all_is_told() -> None:
    with pytest.raises(UsageError, match=r"LAB_DIR .* cannot be looked into: File name too long") as caught:
        load({"LAB_DIR": "/" + "x" * 5000})
    assert len(caught.value.cause) < 200


def test_a_line_that_is_no_assignment_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GOOD=1\nno equals sign\n")
    with pytest.raises(UsageError, match=r"\.env:2: expected NAME=value, found 'no equals sign'"):
        read_env_file(tmp_path / ".env")


@pytest.mark.parametrize("text", ["-1", "many", "121", "1.5", " ", "٣", "²", "9" * 5000])
def test_a_number_of_peers_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="LAB_PEERS is") as caught:
        _ = Settings(Path("/nowhere"), {"LAB_PEERS": text}).peers
    assert len(caught.value.cause) < 80


@pytest.mark.parametrize(
    "text", ["192.168", "1.2.3.4", "a.b.c", "127.0.0", "0.0.0", "224.0.0", "255.255.255", "01.2.3"]
)
def test_a_network_that_no_host_can_be_on_is_refused(project: Path, text: str) -> None:
    with pytest.raises(UsageError, match="LAB_FAR is"):
        load({"LAB_FAR": text}, project)


def test_any_other_network_will_do(project: Path) -> None:
    assert load({"LAB_LAN": "10.20.30"}, project).variables["LAB_LAN"] == "10.20.30"


def test_the_projects_name_is_made_of_the_folders_as_compose_makes_it() -> None:
    assert Settings(Path("/some/My Lab.2"), {}).project == "mylab2"


def test_without_settings_the_defaults_hold() -> None:
    settings = Settings(Path("/some/Folder"), {})
    assert (settings.peers, settings.base, settings.project) == (1, "auto", "folder")
