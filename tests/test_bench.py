"""The benchmark's arithmetic, and what it says when a contender cannot run."""
import importlib.util
import json

import pytest

from seed.__main__ import main
from seed.bench import compare

TINY = ["model.n_layers=1", "model.d_model=32", "model.d_ff=32", "train.batch_size=1",
        "train.seq_len=16"]


def contender(name: str, turns: list[float]) -> compare.Contender:
    return compare.Contender(name, [], None, turns=turns)


def test_ratios_are_paired_turn_by_turn():
    found = compare.ratios(contender("peer", [2.0, 9.0, 4.0]), contender("seed", [1.0, 3.0, 4.0]))
    assert found == (2.0, 1.0, 3.0)


def test_a_contender_that_dies_is_named_with_its_last_words():
    with pytest.raises(compare.BenchError, match="nobody did not run: KeyError: 'nobody'"):
        compare.measure(["nobody"], "toy", TINY, 1, 1)


def test_two_real_contenders_take_their_turns():
    found = compare.measure(["seed", "matmul"], "toy", TINY, 2, 2)
    for one in found.values():
        assert len(one.turns) == 2 and min(one.turns) > 0
        assert 0 < one.warm_s and 0 < one.cold_s and 10 < one.peak_rss_mb < 1000
    assert found["matmul"].cold_s < found["seed"].cold_s


def test_another_loss_on_the_same_architecture_is_refused(monkeypatch):
    losses = {"seed": 5.0, "torch eager": 5.01}
    monkeypatch.setattr(compare, "measure", lambda names, *rest: {
        name: compare.Contender(name, [], None, loss=losses.get(name, 5.0), turns=[1.0])
        for name in names})
    with pytest.raises(compare.BenchError, match="torch eager starts at loss 5.01, seed at 5.0"):
        compare.bench("toy", [], 1, True, 1)
    losses["torch eager"] = 5.0001
    report = compare.bench("toy", [], 1, True, 1)
    assert [c["ratio"] for c in report["contenders"]] == [1.0] * 5
    assert json.dumps(report) and "mamba2 compile" in compare.table(report)


def test_a_peer_that_is_not_installed_is_refused_with_the_fix(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "--peer", "torch"]) == 2
    assert capsys.readouterr().err == \
        "seed: --peer torch needs PyTorch: pip install 'seed-brain[peer]'\n"
