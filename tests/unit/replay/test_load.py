"""Reading transcripts: the article's own file, and what is said of a file with mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.replay import TRANSCRIPTS, Step, load
from lab.replay.rules import RULES
from lab.replay.stages import STAGES

ROOT = Path(__file__).parents[3]

GOOD = """\
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
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load(path)
    return [line.removeprefix(f"{path}:") for line in refused.value.cause.splitlines()]


def test_the_least_transcript(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(GOOD)
    (one,) = load(path)
    assert (one.number, one.id, one.printed, one.main.command, one.expected) == (
        1,
        "one",
        "echo hello",
        "echo hello",
        "hello",
    )
    assert (one.steps, one.rules, one.waits, one.exit, one.stays, one.line) == ((), (), 0.0, 0, False, 1)


def test_windows_and_steps(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(
        GOOD
        + "  windows:\n    other: {host: client, command: cat}\n"
        + "  steps:\n    - {at: other, type: x}\n    - see: 'x\n\n'\n    - press: ^C\n    - {at: other}\n"
        + "  waits: 1.5s\n  stays: true\n  exit: 3\n"
    )
    (one,) = load(path)
    assert one.windows["other"].command == "cat"
    assert one.steps == (Step("other", type="x"), Step(see="x\n"), Step(press="^C"), Step("other"))
    assert (one.waits, one.stays, one.exit, one.interrupted) == (1.5, True, 3, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("  output: hello\n", ""), ["1: a transcript needs output"]),
        (GOOD + "  colour: red\n", ["8: a transcript has no field 'colour'"]),
        (GOOD + "  rules: [no-such]\n", ["8: no rule 'no-such'; there are "]),
        (GOOD.replace("workstation", "moon 7"), ["4: no stage 'moon 7'; there are "]),
        (GOOD + "  waits: 3\n", ["8: '3' is no duration in seconds; write 3s"]),
        (GOOD + "  stays: maybe\n", ["8: write true, or leave it out"]),
        (GOOD + "  exit: -1\n", ["8: '-1' is no exit code"]),
        (GOOD + "  steps:\n    - {see: a, type: b}\n", ["9: a step does one thing, not see and type"]),
        (GOOD + "  steps:\n    - press: C\n", ["9: 'C' is no control key; write ^C"]),
        (GOOD + "  steps:\n    - {at: attic, see: a}\n", ["9: no window 'attic'; there are main"]),
        (GOOD + "  windows:\n    other: {host: client}\n", ["9: a window needs command"]),
        (GOOD + "  today: echo hallo\n", ["8: another command than the article's needs a note that says why"]),
        (GOOD + GOOD, ["8: id 'one' is that of line 1, too"]),
        (GOOD + "  title: [a]\n  exit: x\n", ["8: expected a text", "9: 'x' is no exit code"]),
        ("id: one\n", ["1: expected a list (lines that begin with -)", "1: no transcript"]),
        ("- just words\n", ["1: expected a transcript, written as NAME: VALUE", "1: a transcript needs command, host"]),
        ("", ["1: no transcript"]),
        ("- id: 'one\n", ["2: no YAML: "]),
    ],
)
def test_mistakes_are_told_with_their_lines(tmp_path, text, expected):
    told = mistakes(tmp_path, text)
    assert [line[: len(start)] for line, start in zip(told, expected, strict=True)] == expected


# The article's own


def test_every_transcript_is_of_a_known_stage_and_its_files_exist():
    for transcript in load():
        assert transcript.stage.split()[0] in STAGES
        for source in transcript.files.values():
            assert (ROOT / source).is_file(), f"{TRANSCRIPTS}:{transcript.line}: {source}"


def test_there_are_about_thirty_each_with_a_name_of_its_own():
    transcripts = load()
    assert len(transcripts) == len({transcript.id for transcript in transcripts}) >= 29
    assert [transcript.number for transcript in transcripts] == list(range(1, len(transcripts) + 1))


def test_no_stage_and_no_rule_is_left_over():
    transcripts = load()
    assert {transcript.stage.split()[0] for transcript in transcripts} == set(STAGES)
    assert {name for transcript in transcripts for name in transcript.rules} == set(RULES)


def test_a_command_of_the_article_that_is_typed_otherwise_says_why():
    for transcript in load():
        if transcript.printed != transcript.main.command:
            assert transcript.note, f"{TRANSCRIPTS}:{transcript.line}"
        if transcript.printed.startswith("sudo "):
            assert transcript.main.user == "root" or transcript.stage.startswith("xinetd")  # root there anyway
            assert "sudo" in transcript.note


def test_a_transcript_without_printed_output_quotes_the_article():
    for transcript in load():
        if not transcript.expected:
            assert transcript.says, f"{TRANSCRIPTS}:{transcript.line}"
