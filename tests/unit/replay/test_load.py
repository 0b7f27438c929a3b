"""Reading transcripts: the article's own file, and what is said of a file with mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab.errors import UsageError
from lab.replay import Step, Suite, load
from lab.replay.model import ARGUMENT
from lab.replay.rules import RULES

ROOT = Path(__file__).parents[3]
TRANSCRIPTS = ROOT / "tests/article/transcripts.yaml"

STAGES = """\
stages:
  workstation: {title: Here, hosts: {client: client}}
  room: {title: "A room", containers: {host: {image: "{argument}"}}}
"""

GOOD = """\
transcripts:
- id: one
  title: it speaks
  section: Somewhere
  stage: workstation
  host: client
  command: echo hello
  output: hello
"""


def mistakes(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "t.yaml"
    path.write_text(text + (STAGES if text.startswith("transcripts") else ""))
    with pytest.raises(UsageError) as refused:
        load(path)
    return [line.removeprefix(f"{path}:") for line in refused.value.cause.splitlines()]


def test_the_least_transcript(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(STAGES + GOOD)
    (one,) = load(path).transcripts
    assert (one.number, one.id, one.printed, one.main.command, one.expected) == (
        1,
        "one",
        "echo hello",
        "echo hello",
        "hello",
    )
    assert (one.steps, one.rules, one.waits, one.exit, one.stays, one.line) == ((), (), 0.0, 0, False, 5)
    assert one.source == "the text"


def test_windows_and_steps(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(
        STAGES
        + GOOD
        + "  windows:\n    other: {host: client, command: cat}\n"
        + "  steps:\n    - {at: other, type: x}\n    - see: 'x\n\n'\n    - press: ^C\n    - {at: other}\n"
        + "  waits: 1.5s\n  stays: true\n  exit: 3\n"
    )
    (one,) = load(path).transcripts
    assert one.windows["other"].command == "cat"
    assert one.steps == (Step("other", type="x"), Step(see="x\n"), Step(press="^C"), Step("other"))
    assert (one.waits, one.stays, one.exit, one.interrupted) == (1.5, True, 3, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("  output: hello\n", ""), ["2: a transcript needs output"]),
        (GOOD + "  colour: red\n", ["9: a transcript has no field 'colour'"]),
        (GOOD + "  rules: [no-such]\n", ["9: no rule 'no-such'; there are "]),
        (GOOD.replace("workstation", "moon 7"), ["5: no stage 'moon 7'; there are room, workstation"]),
        (GOOD.replace("workstation", "workstation 7"), ["5: stage workstation takes no argument"]),
        (
            GOOD.replace("workstation", "room"),
            ["5: stage room needs an argument: room WORD", "6: stage room has no host"],
        ),
        (GOOD.replace("client", "server"), ["6: stage workstation has no host 'server'; it has client"]),
        (GOOD + "  waits: 3\n", ["9: '3' is no duration in seconds; write 3s"]),
        (GOOD + "  stays: maybe\n", ["9: write true, or leave it out"]),
        (GOOD + "  exit: -1\n", ["9: '-1' is no exit code"]),
        (GOOD + "  steps:\n    - {see: a, type: b}\n", ["10: a step does one thing, not see and type"]),
        (GOOD + "  steps:\n    - press: C\n", ["10: 'C' is no control key; write ^C"]),
        (GOOD + "  steps:\n    - {at: attic, see: a}\n", ["10: no window 'attic'; there are main"]),
        (GOOD + "  windows:\n    other: {host: client}\n", ["10: a window needs command"]),
        (
            GOOD + "  windows:\n    other: {host: attic, command: cat}\n",
            ["10: stage workstation has no host 'attic'; it has client"],
        ),
        (GOOD + "  today: echo hallo\n", ["9: another command than the printed one needs a note that says why"]),
        (GOOD + GOOD.partition("\n")[2], ["9: id 'one' is that of line 2, too"]),
        (GOOD + "  title: [a]\n  exit: x\n", ["9: expected a text", "10: 'x' is no exit code"]),
        ("- id: one\n", ["1: expected the file, written as NAME: VALUE", "1: no transcript"]),
        ("transcripts: one\n", ["1: expected a list (lines that begin with -)", "1: no transcript"]),
        (
            "transcripts:\n- just words\n",
            ["2: expected a transcript, written as NAME: VALUE"],
        ),
        ("", ["1: no transcript"]),
        ("- id: 'one\n", ["2: no YAML: "]),
    ],
)
def test_mistakes_are_told_with_their_lines(tmp_path, text, expected):
    told = mistakes(tmp_path, text)
    assert [line[: len(start)] for line, start in zip(told, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("{hosts: {a: b}}", "a stage needs title"),
        ("{title: x}", "a stage needs hosts or containers"),
        ("{title: x, hosts: {a: b}, colour: red}", "a stage has no field 'colour'; it has containers, hosts, stopped"),
        ("{title: x, hosts: [a], containers: {b: {image: i}}}", "expected hosts, written as NAME: VALUE"),
        ("{title: x, hosts: {a: b}, containers: {a: {image: i}}}", "'a' is one of the stage's hosts already"),
        ("{title: x, containers: {a: {}}}", "a container needs image"),
        ("{title: x, containers: {a: {image: i, privileged: true}}}", "a container has no field 'privileged'; it has"),
        ("{title: x, containers: {a: {image: i, network_of: b}}}", "no host 'b'; there are none"),
        (
            "{title: x, hosts: {b: b}, containers: {a: {image: i, network_of: b, networks: [lan]}}}",
            "a container has networks of its own or another's, not both",
        ),
        ("{title: x, containers: {a: {image: i, address_of: b}}}", "address_of needs networks:"),
        ("{title: x, containers: {a: {image: i, ready: '('}}}", "'(' is no regular expression: "),
        ("{title: x, containers: {a: {image: i, run: [{input: f}]}}}", "a command to run needs command"),
        ("{title: x, hosts: {a: b}, stopped: {network: lan}}", "stopped needs names"),
    ],
)
def test_mistakes_of_a_stage_are_told_with_their_lines(tmp_path, stage, expected):
    (told,) = mistakes(tmp_path, STAGES + f"  wrong: {stage}\n" + GOOD)
    assert told.startswith(f"4: {expected}")


# The article's own


@pytest.fixture(scope="module")
def article() -> Suite:
    return load(TRANSCRIPTS)


def test_the_compose_file_names_them():
    declared = yaml.safe_load((ROOT / "compose.yaml").read_text())["x-lab"]["transcripts"]
    assert ROOT / declared == TRANSCRIPTS


def test_the_files_that_transcripts_and_stages_put_exist(article):
    for transcript in article.transcripts:
        for source in transcript.files.values():
            assert (ROOT / source).is_file(), f"{TRANSCRIPTS}:{transcript.line}: {source}"
    put = [step.input for stage in article.stages.values() for one in stage.containers.values() for step in one.run]
    assert all((ROOT / source).is_file() for source in put if source)


def test_the_stages_name_hosts_images_and_networks_of_the_project(article):
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    images = {service.get("image") for service in document["services"].values()}
    for stage in article.stages.values():
        assert set(stage.hosts.values()) <= set(document["services"])
        for container in stage.containers.values():
            assert container.image in {ARGUMENT, *images}
            assert set(container.networks) <= set(document["networks"])
            assert container.address_of is None or container.address_of in document["services"]
    assert set(article.subnets) <= set(document["x-lab"]["subnets"])


def test_there_are_about_thirty_each_with_a_name_of_its_own(article):
    transcripts = article.transcripts
    assert len(transcripts) == len({transcript.id for transcript in transcripts}) >= 29
    assert [transcript.number for transcript in transcripts] == list(range(1, len(transcripts) + 1))


def test_no_stage_and_no_rule_is_left_over(article):
    assert {transcript.stage.split()[0] for transcript in article.transcripts} == set(article.stages)
    assert {name for transcript in article.transcripts for name in transcript.rules} == set(RULES)


def test_a_command_of_the_article_that_is_typed_otherwise_says_why(article):
    for transcript in article.transcripts:
        if transcript.printed != transcript.main.command:
            assert transcript.note, f"{TRANSCRIPTS}:{transcript.line}"
        if transcript.printed.startswith("sudo "):
            assert transcript.main.user == "root" or transcript.stage.startswith("xinetd")  # root there anyway
            assert "sudo" in transcript.note


def test_a_transcript_without_printed_output_says_what_the_article_claims(article):
    for transcript in article.transcripts:
        if not transcript.expected:
            assert transcript.says, f"{TRANSCRIPTS}:{transcript.line}"
