"""RUN, --run-dir, or none; what the commands that list and delete runs print and ask."""
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from seed.__main__ import main, make_parser
from seed.commands import options
from seed.errors import BAD_INPUT
from seed.interpreter import shown_command
from seed.storage import RunDir
from tests.support import brains
from tests.support.tflite import ROOT, SMALL


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with two brains in runs/; the newest is `second`."""
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(["second", "first"]):
        brains.untrained(tmp_path / "runs" / name, "toy", *SMALL)
        os.utime(RunDir(tmp_path / "runs" / name).checkpoint, (0, 10 ** 9 - age))
    return tmp_path


@pytest.mark.parametrize("words, expected", [
    ([], "second"), (["runs/first"], "first"), (["--run-dir", "runs/first"], "first")],
    ids=["none", "RUN", "--run-dir"])
def test_a_command_takes_the_run_that_is_named_or_the_newest_and_says_which(
        folder, capsys, words, expected):
    args = make_parser().parse_args(["chat", *words])
    options.choose_run(args)
    assert args.run_dir == RunDir(Path("runs") / expected)
    assert capsys.readouterr().err == ("" if words else "run runs/second\n")


def test_a_training_takes_a_number_and_a_profile_can_be_described_without_a_run(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, path in (["train"], Path("runs/1")), (["info"], None):
        args = make_parser().parse_args(words)
        options.choose_run(args)
        assert (args.run_dir and args.run_dir.path) == path


@pytest.mark.parametrize("words", [
    "--profile=nope", "--body=nope", "--body=nope.py:Arm", "--data=nowhere", "--task=nope",
    "--set=train.lrr=1 --status-dir=status", "--memory=0.01", "--grow --profile=nope"])
def test_a_training_that_cannot_begin_says_why_and_leaves_nothing(tmp_path, words):
    done = subprocess.run([sys.executable, "-m", "seed", "train", *words.split()], text=True,
                          capture_output=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == BAD_INPUT and done.stderr.startswith("seed: ")
    assert done.stderr.count("\n") == 1 and done.stdout == "" and not os.listdir(tmp_path)


@pytest.mark.parametrize("words", ["info brain.tflite", "info --profile=toy",
                                   "kernels --profile=toy"])
def test_what_is_named_is_not_preceded_by_the_name_of_another_run(folder, capsys, words):
    args = make_parser().parse_args(words.split())
    options.choose_run(args)
    assert args.run_dir is None and capsys.readouterr().err == ""


@pytest.mark.parametrize("words", ["grow --to=seed", "adapt --undo", "live --body=cartpole",
                                   "scale --dry-run"])
def test_a_command_that_changes_a_brain_asks_for_its_name(folder, capsys, words):
    assert main(words.split()) == BAD_INPUT
    assert capsys.readouterr().err == "seed: no run is named: give one, such as runs/second\n"


def test_without_a_brain_the_fix_is_a_command_that_makes_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["chat"]) == BAD_INPUT
    message = capsys.readouterr().err
    assert message.startswith("seed: runs/ has no brain: train one with ") and " train" in message


def test_a_run_that_is_named_twice_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["chat", "runs/first", "--run-dir", "runs/second"])
    assert exit.value.code == BAD_INPUT and "not allowed with" in capsys.readouterr().err


def test_the_brains_of_a_folder_are_listed(folder, capsys):
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "runs/first", "runs/second"]
    assert main(["runs", "elsewhere"]) == 0
    assert capsys.readouterr().out == "elsewhere has no brains\n"


def test_a_deletion_needs_an_answer_or_a_flag(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["rm", "runs/first"]) == BAD_INPUT
    assert "give --yes" in capsys.readouterr().err and (folder / "runs/first").exists()
    assert main(["rm", "runs/first", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": ["runs/first"]}
    assert os.listdir("runs") == ["second"]


def test_a_run_that_is_named_twice_is_deleted_once(folder, capsys):
    assert main(["rm", "runs/../runs/first", "runs/first/", "./runs/first", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": ["runs/first"]}
    assert os.listdir("runs") == ["second"]


def test_a_run_that_is_none_is_answered_with_the_command_that_lists_them(folder, capsys):
    assert main(["rm", "runs/fist"]) == BAD_INPUT
    error = capsys.readouterr().err
    assert error == f"seed: runs/fist is no directory: {shown_command('runs')} lists the brains\n"


def test_nothing_is_deleted_if_one_of_the_runs_cannot_be(folder, capsys):
    (folder / "runs/second/photo.jpg").write_text("mine")
    assert main(["rm", "runs/first", "runs/second", "--yes"]) == BAD_INPUT
    assert "photo.jpg" in capsys.readouterr().err and len(os.listdir("runs")) == 2


@pytest.mark.parametrize("answer, left", [("y", 1), ("yes", 1), ("n", 2), ("", 2), ("\4", 2),
                                          ("\udcff", 2)])
def test_a_person_is_asked_in_a_terminal(folder, answer, left):
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "seed", "rm", "runs/first", "--json"],
                               stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    os.write(master, f"{answer}\n".encode("utf-8", "surrogateescape"))
    printed, told = process.communicate(timeout=60)
    os.close(master)
    os.close(slave)
    assert process.returncode == 0 and len(os.listdir("runs")) == left
    assert json.loads(printed) == {"deleted": ["runs/first"] if left == 1 else []}
    assert told.startswith("delete runs/first: toy, 7 steps, ")


@pytest.mark.parametrize("arguments, message", [
    ("rm runs/first <&-", "seed rm asks before it deletes, which needs a terminal: give --yes"),
    ("info runs/first >/dev/full", "cannot use the output: No space left on device")])
def test_a_closed_input_and_a_full_output_are_one_line(folder, arguments, message):
    done = subprocess.run(f"{sys.executable} -m seed {arguments}", shell=True, text=True,
                          capture_output=True)
    assert done.returncode and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert (folder / "runs/first").exists()
