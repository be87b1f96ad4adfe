"""What commands print keeps to the columns of a terminal, and is whole lines elsewhere."""
import io
import re
from dataclasses import replace

import pytest

from seed.__main__ import COMMANDS, main, make_parser
from seed.commands import options
from seed.commands.shells import commands_of
from seed.profile_file import to_toml
from seed.runtime import Answer
from seed.terminal_text import fitted, unbroken
from tests.support import brains, recorded_run, small_run
from tests.support.tflite import ROOT, SMALL
from tests.support.terminals import terminal

FAST = (*SMALL, "curriculum.holdout_items=1", "train.seq_len=64")
ROW = "delegate    takes 12 of 34 operators"
PRINTING = {"chat", "curves", "eval", "health", "play", "rm"}   # a plot, an answer, a file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a brain that has everything a command could tell of."""
    path = tmp_path_factory.mktemp("columns")
    brains.untrained(path / "a", "toy", *FAST)
    recorded_run.write(path / "a", recorded_run.rows())
    profile = small_run.untrained_run(path / "g")
    larger = replace(profile, model=replace(profile.model, d_ff=2 * profile.model.d_ff))
    (path / "larger.toml").write_text(to_toml(larger))
    (path / "rule.jsonl").write_text('{"prompt": "ab>", "answer": "ba"}\n')
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(path)
        for words in ("export a --no-verify --out a.tflite", "pack a --out a.seedpack"):
            assert main([*words.split()]) == 0
    return path


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("words", [
    "", "samples --count=2", "info --profile=seed", "info a", "info a.tflite", "eval a --items=1",
    "eval a --data=rule.jsonl", "generate a --prompt=ab> --max-bytes=9",
    "export a --no-verify --int8", "run a.tflite --prompt=ab> --max-bytes=9",
    "unpack a.seedpack --run-dir=b; pack b --out=b.seedpack; rm b --yes",
    "grow g --to=larger.toml; grow g --undo", "runs .", "curves a", "curves a --what=accuracy",
    "report a", "health",
    "scale --dry-run --profile=toy --run-dir=limit"])
def test_no_line_is_longer_than_a_terminal_unless_its_words_are(folder, monkeypatch, words,
                                                                columns):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    options.screen.cache_clear()
    with terminal(columns, 24) as seen:
        monkeypatch.setattr("sys.stdout", seen.out)
        monkeypatch.setattr("sys.stderr", seen.out)
        codes = [main(command.split()) for command in words.split(";")]
        lines = seen.written()
    options.screen.cache_clear()
    assert words == "health" or not any(codes), lines
    for line in lines:
        assert len(line) <= columns or "/" in line or len(line.split()) == 1, line


def test_what_commands_print_themselves_is_known():
    """All else is printed by outcome.show and options.log, which keep to the terminal."""
    files = (ROOT / "seed/commands").glob("*_command.py")
    assert {file.stem.removesuffix("_command") for file in files
            if re.search(r"\bprint\(|\.write\(", file.read_text())} <= PRINTING


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_keeps_to_the_terminal(monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = commands_of(make_parser())[name].format_help().splitlines()
    assert max(len(line) for line in lines if len(line.split()) > 1) <= columns


def test_a_row_goes_on_below_its_second_column_and_a_sentence_a_little_to_the_right():
    with terminal(40, 24) as seen:
        row, sentence = (fitted(text, seen.out) for text in (
            f"{ROW} in 5 partitions", "grew from 12 to 34 parameters, and is the same as before"))
        path, command = "/a" * 30, unbroken("seed train --run-dir=a --minutes=30 --x")
        assert fitted(f"in {path}", seen.out) == f"in\n  {path}"
        assert fitted(f"train it: {command}", seen.out) == (
            "train it:\n  seed train --run-dir=a --minutes=30 --x")
        assert fitted(f"   {command} --y", seen.out) == (
            "   seed train --run-dir=a --minutes=30 --x\n     --y")
    assert row == f"{ROW} in\n{' ' * 12}5 partitions"
    assert sentence == "grew from 12 to 34 parameters, and is\n  the same as before"


def test_elsewhere_a_line_stays_whole():
    text = f"{ROW * 9}\n{unbroken('a b')}"
    assert fitted(text, io.StringIO()) == f"{ROW * 9}\na b"


def test_an_answer_is_printed_as_it_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("seed.runtime.Brain.answer",
                        lambda *_: Answer("a  b " * 40, 1.0, True))
    with terminal(80, 24) as seen:
        monkeypatch.setattr("sys.stdout", seen.out)
        assert main(["run", "a.tflite", "--prompt=x"]) == 0
        assert "a  b " * 40 in seen.written()
