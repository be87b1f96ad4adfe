"""The benchmark of memory: a process's own peak, and what it says when there is none."""
import importlib.util
import json

import pytest

from seed.__main__ import main
from seed.bench import peak_memory
from seed.errors import BAD_INPUT, BenchError

TINY = ["model.n_layers=1", "model.d_model=32", "model.d_ff=32", "train.batch_size=2",
        "train.seq_len=128"]


def test_a_training_and_its_steps_are_measured_in_processes_of_their_own(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ballast = bytearray(400 * 2 ** 20)   # of this process, which is not in the figures
    options = [f"--set={override}" for override in TINY]
    assert main(["bench", "--memory", "fast", "--threads", "1", "--json", *options]) == 0
    row, = json.loads(capsys.readouterr().out)["memory"]
    assert row["profile"] == "fast" and row["torch_eager_mb"] is None
    assert 30 < row["steps_mb"] < 150 and 30 < row["training_mb"] < 200 and ballast


def test_the_table_names_what_is_not_installed():
    rows = [{"profile": "toy", "training_mb": 90.4, "steps_mb": 80.0, "torch_eager_mb": None},
            {"profile": "seed", "training_mb": 120.0, "steps_mb": 110.0, "torch_eager_mb": 1038.2}]
    assert peak_memory.table({"memory": rows}).splitlines()[1:] == [
        "toy                 90      80  not installed",
        "seed               120     110           1038"]


def test_a_training_that_fails_is_named_with_its_last_words(tmp_path):
    with pytest.raises(BenchError, match="a training of toy did not run: .*train.seq_len"):
        peak_memory.training_mb("toy", ["train.seq_len=4"], 1, tmp_path)


def test_an_unknown_profile_is_refused_before_any_process_starts(monkeypatch, capsys):
    monkeypatch.setattr(peak_memory, "bench", lambda *_: pytest.fail("it was measured"))
    assert main(["bench", "--memory", "sed"]) == BAD_INPUT
    assert "sed" in capsys.readouterr().err
