"""The benchmark of acting times a step of control by each path, and rollouts of several widths."""
import json
import shutil

from seed.__main__ import main
from seed.bench import acting_speed
from seed.export.c_file import COMPILERS
from seed.profile_file import load_profile


def test_each_path_takes_its_turns(monkeypatch, capsys):
    for name in ("STEPS_PER_TURN", "ANSWER_BYTES"):
        monkeypatch.setattr(acting_speed, name, 2)
    monkeypatch.setattr(acting_speed, "ROWS", (1, 3))
    words = ["bench", "--act", "--profile", "control", "--turns", "2", "--threads", "1",
             "--set", "model.n_layers=1", "--set", "model.d_model=32", "--set", "model.d_ff=32"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    paths = [row["path"] for row in report["control"]]
    assert paths == ["trainer", "TFLite, portable", "TFLite, litert",
                     *(f"C, {compiler}" for compiler in filter(shutil.which, COMPILERS))]
    assert report["turns"] == 2 and report["control"][0]["of_trainer"]["median"] == 1.0
    assert all(row["us"] > 0 and row["per_s"] > 0 for row in report["control"])
    assert [row["rows"] for row in report["rollouts"]] == [1, 3]
    lines = acting_speed.table(report).splitlines()
    assert lines[0] == "profile control, turns: 2" and lines[2].startswith("trainer")
    assert lines[-1].startswith("3 ")


def test_the_first_turn_counts_nowhere_and_turns_end_with_the_time(monkeypatch):
    seconds = iter([9.0] + [1.0] * 9)
    paths = {"trainer": acting_speed.Turns(lambda: None, 1)}
    monkeypatch.setattr("seed.bench.turns.timed", lambda step_fn, n: [next(seconds)])
    monkeypatch.setattr(acting_speed, "control_turns", lambda profile: paths)
    monkeypatch.setattr(acting_speed, "ROWS", ())
    report = acting_speed.bench(load_profile("control"), 1, 5, -1.0)
    assert paths["trainer"].turns == [[1.0]] * 3 and report["turns"] == 3
