"""seed curves: what it plots, which files it writes, what it refuses."""
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from seed.__main__ import main
from seed.evaluation.exact_match import Score
from tests.support.terminals import terminal


def write_run(path, losses) -> str:
    path.mkdir(parents=True)
    rows = [{"kind": "step", "step": step, "time": 1.7e9 + step, "loss": loss}
            for step, loss in enumerate(losses, 1)]
    rows.append({"kind": "eval", "step": len(losses), "time": 1.7e9 + len(losses), "returns": [],
                 "choices": [], "scores": [Score("copy", 1, 3, 4, 0.1).to_dict()]})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def runs(tmp_path) -> list[str]:
    return [write_run(tmp_path / "a/first", [4.0, 2.0, 1.0]),
            write_run(tmp_path / "b/second", [3.0, 2.5])]


def seed(*arguments: object) -> int:
    return main(["curves", *map(str, arguments)])


def test_a_pipe_gets_a_plot_of_plain_text(runs, capsys):
    assert seed(*runs) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "loss (nats a byte) by step" and len(rows) <= 24
    assert rows[-2:] == [" ● first  last 1, from 1 to 4", " × second  last 2.5, from 2.5 to 3"]
    assert max(map(len, rows)) <= 80 and "\x1b" not in "".join(rows)


@pytest.mark.parametrize("columns, rows, variables, text", [
    (40, 12, {}, "─ first"), (80, 24, {"NO_COLOR": "1"}, "● first"),
    (160, 50, {"PYTHONIOENCODING": "ascii"}, "- first"), (80, 30, {"TERM": "dumb"}, "● first")])
def test_a_terminal_gets_a_plot_of_its_size(runs, columns, rows, variables, text):
    environment = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1", **variables}
    with terminal(columns, rows) as seen:
        done = subprocess.run([sys.executable, "-m", "seed", "curves", *runs], env=environment,
                              stdout=seen.out, stderr=subprocess.PIPE, timeout=60)
        lines = seen.lines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "loss (nats a byte) by step" and text in lines[-2]
    assert rows - 4 <= len(lines) <= rows - 1 and len(lines[3]) <= columns


def test_without_a_name_it_is_the_newest_run_with_a_brain(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/toy-1", [4.0, 2.0])
    assert seed() == 2 and "train one with" in capsys.readouterr().err
    (tmp_path / "runs/toy-1/checkpoint.safetensors").touch()
    assert seed() == 0
    assert capsys.readouterr().out.splitlines()[-1] == " ─ toy-1  last 2, from 2 to 4"


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, capsys):
    paths = [write_run(tmp_path / name / "run", [1.0]) for name in ("x", "y")]
    assert seed(*paths, paths[0], "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [curve["name"] for curve in facts["curves"]] == ["x/run", "y/run"]
    assert facts["curves"][0]["points"] == [[1, 1.0]]


def test_curves_of_one_point_are_told_in_words(runs, capsys):
    assert seed(*runs, "--what=accuracy") == 0
    assert capsys.readouterr().out.splitlines() == [
        "accuracy (0 to 1) by step", "  first holdout: 0.75 at step 3, its only value yet",
        "  second holdout: 0.75 at step 2, its only value yet"]


def test_files_are_written_whole_and_again(runs, tmp_path, capsys):
    svg, table, events = tmp_path / "c.svg", tmp_path / "c.csv", tmp_path / "new/events"
    for _ in range(2):
        assert seed(*runs, "--what=accuracy", "--svg", svg, "--csv", table,
                    "--tensorboard", events) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"written: {svg}, {table}, {events}"
    texts = [element.text for element in ElementTree.parse(svg).getroot().iter()]
    assert "accuracy (0 to 1)" in texts and "second holdout: last 0.75, from 0.75 to 0.75" in texts
    assert table.read_text().splitlines()[0] == "run,step,time,loss,accuracy/holdout"
    assert len(table.read_text().splitlines()) == 1 + 3 + 2
    assert sorted(path.parent.name for path in events.rglob("*tfevents*")) == ["first", "second"]


@pytest.mark.parametrize("arguments, message", [
    (["--what=los"], "no run has 'los'; nearest is loss; there are loss, accuracy"),
    (["--what=\x1b["], "no run has '\\x1b['; there are"), (["--svg=metrics.jsonl"], "is the name"),
    (["--csv=nowhere/c.csv"], "nowhere is not a directory: create it first"),
    (["--svg=a/first/metrics.jsonl"], "exists and is not an SVG file"),
    (["--tensorboard=a/first/metrics.jsonl"], "is not a directory: use another name"),
    (["a"], "has no step of a training in metrics.jsonl: name the run directory of one")])
def test_bad_input_is_one_line_and_writes_nothing(runs, tmp_path, monkeypatch, capsys, arguments,
                                                  message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert seed(*runs, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_event_file_is_not_written_over_something_else(runs, tmp_path, capsys):
    (tmp_path / "tb/first").mkdir(parents=True)
    (tmp_path / "tb/first/events.out.tfevents.seed").write_text("a diary")
    assert seed(*runs, "--tensorboard", tmp_path / "tb") == 2
    assert "exists and is not an event file" in capsys.readouterr().err
