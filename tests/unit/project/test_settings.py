from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.project.discover import find_root
from lab.project.settings import Settings, load, read_env_file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / ".env").write_text("# a comment\nCOMPOSE_PROJECT_NAME=quoted\nLAB_PEERS='3'\n\nexport LAB_BASE=build\n")
    return tmp_path


def test_the_environment_wins_over_the_env_file(project: Path) -> None:
    settings = load({"LAB_PEERS": "7"}, project)
    assert settings.variables["LAB_PEERS"] == "7"
    assert settings.named_project == "quoted"
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
        ("A= # b", ""),
        ("A=it's", "it's"),
        ("A=''", ""),
        ("A=", ""),
        ("export A = 3 # three", "3"),
        ("\ufeffA=3", "3"),
    ],
)
def test_a_value_ends_where_compose_ends_it(tmp_path: Path, line: str, value: str) -> None:
    """As Compose 2 does; 1.29 takes the comment of an empty value for the value."""
    (tmp_path / ".env").write_text(f"{line}\nB=2\n")
    assert read_env_file(tmp_path / ".env") == {"A": value, "B": "2"}


@pytest.mark.parametrize("line", ["A='3", 'A="3', "A='3'x", 'A="3" 4'])
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
    with pytest.raises(UsageError, match=r"no Compose file in .*looked for compose\.yaml"):
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


def test_a_compose_file_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    for name in ("docker-compose.yaml", "docker-compose.yml", "compose.yml", "compose.yaml"):
        (tmp_path / name).touch()
        (tmp_path / "deep").mkdir(exist_ok=True)
        settings = load({}, tmp_path / "deep")
        assert settings.root == tmp_path.resolve()
        assert settings.compose_files == (tmp_path.resolve() / name,)


def test_an_override_goes_along(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").touch()
    (tmp_path / "docker-compose.override.yml").touch()
    assert [path.name for path in load({}, tmp_path).compose_files] == [
        "docker-compose.yml",
        "docker-compose.override.yml",
    ]


def test_compose_file_names_the_project_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.yaml").touch()
    settings = load({"COMPOSE_FILE": "there/a.yaml:there/b.yaml"}, tmp_path)
    assert settings.root == (tmp_path / "there").resolve()
    assert settings.chosen["COMPOSE_FILE"].split(":") == [
        str(tmp_path / "there/a.yaml"),
        str(tmp_path / "there/b.yaml"),
    ]


def test_a_compose_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"COMPOSE_FILE names .*none\.yaml, which is no file"):
        load({"COMPOSE_FILE": "none.yaml"}, tmp_path)


def test_the_caller_may_choose_file_and_name(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "lab.yaml").touch()
    settings = load({"LAB_DIR": str(project), "COMPOSE_FILE": "x"}, project, file=other / "lab.yaml", project="mine")
    assert settings.root == other.resolve()
    assert settings.named_project == "mine"
    assert settings.chosen == {"COMPOSE_FILE": str(other.resolve() / "lab.yaml"), "COMPOSE_PROJECT_NAME": "mine"}
    assert load({"LAB_DIR": str(other)}, other, file=project).root == project.resolve()


def test_a_folder_without_a_compose_file_is_nobodys_project(tmp_path: Path) -> None:
    """Above all not that of the folder which `lab` itself was installed from."""
    with pytest.raises(UsageError, match=rf"no Compose file in {tmp_path}.* nor above it"):
        load({}, tmp_path)


def test_without_settings_the_defaults_hold() -> None:
    settings = Settings(Path("/some/Folder"), {})
    assert (settings.base, settings.named_project) == ("auto", "")
