"""The benchmark's arithmetic, and what it says when a contender cannot run."""
import contextlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seed.storage import RunDir
from tests.support import brains
from seed.__main__ import main
from seed.experiments import ablate, growth, lengths, new_rules
from seed.bench import compare, turns
from seed.curriculum.task import Item
from seed.profile_file import load_profile, to_toml
from seed.storage import checkpoint, metrics_reader
from seed.training.stop_signals import StopSignals

TINY = ["model.n_layers=1", "model.d_model=32", "model.d_ff=32", "train.batch_size=2",
        "train.seq_len=32"]


def contender(name: str, turns: list[float]) -> compare.Contender:
    return compare.Contender(name, [], None, turns=turns)


def test_ratios_are_paired_turn_by_turn():
    peer, seed = contender("peer", [2.0, 9.0, 4.0]), contender("seed", [1.0, 3.0, 4.0])
    assert peer.ratio(seed) == (2.0, 1.0, 3.0)


def test_a_contender_that_dies_is_named_with_its_last_words():
    with pytest.raises(compare.BenchError, match="nobody did not run: KeyError: 'nobody'"):
        compare.measure(["nobody"], "toy", TINY, 1, 1)


def test_a_contender_that_is_killed_between_its_turns_is_named_too(tmp_path):
    """A write to it fails before anything is read of it; no other error comes of its pipes."""
    killed = contender("matmul", [])
    killed.arguments, killed.cache = ["matmul", "toy", "1", *TINY], tmp_path
    killed.kill()   # before its start: nothing to do
    killed.start()
    killed.process.kill()
    killed.process.wait()
    with pytest.raises(compare.BenchError, match=r"matmul did not run: it was killed \(Killed\)"):
        killed.turn()
    killed.kill()


def is_killed(pid: int) -> bool:
    """Whether it ends: who is killed is there until it gets time."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if "\nState:\tZ" in status:
            return True
        time.sleep(0.01)
    return False


def test_a_contender_may_write_more_to_its_standard_error_than_a_pipe_holds(monkeypatch, tmp_path):
    talk = """import json, sys
sys.stderr.write("warning\\n" * 100_000)
print(json.dumps({"loss": 1.0, "third_step_at": 0.0}), flush=True)
sys.stdin.readline()
sys.exit("the last word")"""
    monkeypatch.setattr(compare, "seed_command", lambda *arguments, module: [
        sys.executable, "-c", talk])
    talking = compare.Contender("talking", ["", "", "1"], tmp_path, time.monotonic() + 30)
    talking.start()
    with pytest.raises(compare.BenchError, match="talking did not run: the last word"):
        talking.turn()
    talking.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_bench_with_its_processes_and_files(tmp_path, number):
    bench = subprocess.Popen(
        [sys.executable, "-m", "seed", "bench", "--profile", "toy", "--threads", "1",
         *(f"--set={text}" for text in TINY)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)}, start_new_session=True)
    children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
    while not (started := [int(pid) for pid in children.read_text().split()
                           if b"seed.bench.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]):
        assert bench.poll() is None
        time.sleep(0.05)
    bench.send_signal(number)
    assert bench.communicate()[1] == "seed: interrupted\n" and bench.returncode == 130
    assert not [*tmp_path.iterdir()] and is_killed(started[0])


def test_two_real_contenders_take_their_turns():
    contenders = compare.measure(["seed", "matmul"], "toy", TINY, 2, 2)
    for measured in contenders.values():
        assert len(measured.turns) == 2 and min(measured.turns) > 0
        assert measured.warm_s > 0 and 0 < measured.cold_s and 10 < measured.peak_rss_mb < 1000


def test_another_loss_on_the_same_architecture_is_refused(monkeypatch):
    losses = {"seed": 5.0, "torch eager": 5.01}
    monkeypatch.setattr(compare, "measure", lambda names, *rest: {
        name: compare.Contender(name, [], None, loss=losses.get(name, 5.0), turns=[1.0])
        for name in names})
    with pytest.raises(compare.BenchError, match="torch eager starts at loss 5.01, seed at 5.0"):
        compare.bench("toy", [], 1, "torch", 1, 10.0)
    losses["torch eager"] = 5.0001
    report = compare.bench("toy", [], 1, "torch", 1, 10.0)
    assert [c["ratio"] for c in report["contenders"]] == [1.0] * 5
    assert json.dumps(report) and "mamba2 compile" in compare.table(report)
    assert compare.table(report).startswith("profile toy, threads: 1, turns: 1\n")


def test_without_a_peer_the_shares_of_openblas_are_measured(monkeypatch):
    measured = []
    monkeypatch.setattr(compare, "measure", lambda names, *rest: measured.append(names) or {
        name: compare.Contender(name, [], None, turns=[2.0 if name == "seed" else 1.0])
        for name in names})
    report = compare.bench("toy", [], 1, "", 1, 10.0)
    assert measured == [["seed"], *[["seed", "matmul"]] * 3]
    assert [s["share"] for s in report["matmul_share"]] == [0.5] * 3
    assert "d_model  256   50.0 %" in compare.table(report) and " - " in compare.table(report)


def test_a_contender_that_is_not_ready_in_time_is_named():
    with pytest.raises(compare.BenchError,
                       match="seed takes longer than --minutes allows: give more, or a smaller"):
        compare.measure(["seed"], "toy", TINY, 1, 1, ready_s=0.0)


def test_turns_end_with_the_time_but_not_before_the_third(monkeypatch):
    clock = map(float, range(0, 10**6, 60))
    fake = SimpleNamespace(monotonic=clock.__next__)
    monkeypatch.setattr(compare, "time", fake)
    monkeypatch.setattr(turns, "time", fake)
    for name in ("start", "answer", "kill", "stop"):
        monkeypatch.setattr(compare.Contender, name, lambda contender: 1.0)
    monkeypatch.setattr(compare.Contender, "turn", lambda contender: contender.turns.append(1.0))
    for minutes, count in ((0.5, 3), (9.5, 12), (1e3, 20)):
        contender = compare.measure(["seed"], "toy", [], 1, 20, minutes)["seed"]
        assert len(contender.turns) == count
        assert (contender.warm_s is None) == (minutes < 1e3)


def test_a_peer_that_is_not_installed_is_refused_with_the_fix(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "--peer", "torch"]) == 2
    assert capsys.readouterr().err == \
        "seed: --peer torch needs PyTorch: pip install 'seed-brain[peer]'\n"
    assert main(["bench", "--peer", "mlx"]) == 2
    assert capsys.readouterr().err == "seed: --peer mlx needs mlx: pip install 'mlx[cpu]'\n"


def test_accuracy_is_the_mean_over_tasks_not_over_levels():
    scores = [{"task": "copy", "accuracy": 1.0}, {"task": "copy", "accuracy": 0.5},
              {"task": "parity", "accuracy": 0.25}]
    assert ablate.accuracy(scores) == 0.5
    assert ablate.accuracy(scores, 1) == 0.75 and ablate.accuracy(scores, 4) == 0.25
    assert np.isnan(ablate.accuracy(scores, 2))


def run_here(command: str, run_dir: RunDir, *options: str) -> dict:
    """ablate.run without a process of its own."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main([command, "--run-dir", str(run_dir.path), "--json", *options]) == 0
    return json.loads(output.getvalue())


@pytest.fixture
def no_processes(monkeypatch):
    monkeypatch.setattr(StopSignals, "watch", lambda signals: signals)
    for module in (ablate, growth):
        monkeypatch.setattr(module, "run", run_here)


def test_variants_are_trained_compared_and_never_trained_again(tmp_path, capsys, no_processes):
    words = ["--steps", "2", "--seeds", "2", "--threads", "1", "--out", str(tmp_path),
             "--set=curriculum.tasks={copy=1.0,parity=1.0}", "--set=curriculum.holdout_items=2",
             *(f"--set={text}" for text in TINY), "", "train.lr=1e-3 train.warmup_steps=5"]
    assert ablate.main(words) == 0
    *_, first_seed, _, last = [table.splitlines()
                               for table in capsys.readouterr().out.rstrip().split("\n\n")]
    assert "grade 1" in last[0] and "grade 4" in last[0] and "grade 2" not in last[0]
    assert last[1].startswith("as in the profile") and last[1].split()[4] == "2"
    assert last[2].startswith("train.lr=1e-3 train.warmup_steps=5") and len(last) == 3
    profiles = [checkpoint.read(path).meta["profile"]
                for path in tmp_path.glob("*/checkpoint.safetensors")]
    assert sorted((p["train"]["seed"], p["train"]["lr"]) for p in profiles) == [
        (0, 1e-3), (0, 4e-3), (1, 1e-3), (1, 4e-3)]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")}
    words[words.index("2", 2)] = "1"   # the first seed again
    assert ablate.main(words) == 0
    assert capsys.readouterr().out.rstrip().split("\n\n")[-1].splitlines() == first_seed
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_growth_compares_a_grown_brain_with_one_of_its_shape(tmp_path, capsys, no_processes):
    """Neither is trained again."""
    shapes = {"small": (32, 1, 32), "large": (64, 3, 64)}
    for name, (d_model, n_layers, d_ff) in shapes.items():
        (tmp_path / f"{name}.toml").write_text(to_toml(load_profile("toy", [
            *TINY[3:], "curriculum.tasks={copy=1.0}", "curriculum.holdout_items=2",
            f"model.d_model={d_model}", f"model.n_layers={n_layers}", f"model.d_ff={d_ff}",
            "train.decay_fraction=0.4"])))
    words = ["--steps=20", "--at=0.2", "--seeds", "3", "--threads=1",
             f"--profile={tmp_path}/large.toml", f"--small={tmp_path}/small.toml",
             f"--out={tmp_path}/out"]
    assert growth.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["3", "grown", "20"],
                                                        ["3", "scratch", "20"]]
    metas = [checkpoint.read(tmp_path / f"out/{kind}-3/checkpoint.safetensors").meta for kind in
             ("grown", "scratch")]
    for meta, line in zip(metas, lines[1:]):
        assert [meta["profile"]["model"][key] for key in growth.SHAPE] == [64, 3, 64]
        assert meta["profile"]["train"]["decay_fraction"] == 0.4
        assert meta["plan"]["decay_start"] == 12
        assert 0.0 < float(line.split()[3]) < 8.0
    growths = [metrics_reader.read(tmp_path / f"out/{kind}-3/metrics.jsonl", "grow") for kind in
               ("grown", "scratch")]
    assert [row["step"] for row in growths[0]] == [4] and growths[1] == []
    assert growth.main(words) == 0 and capsys.readouterr().out.splitlines() == lines


def test_new_rules_are_learnt_by_copies_and_the_brain_is_not_changed(tmp_path, capsys):
    path = brains.untrained(tmp_path / "brain", "fast", *TINY,
                            "curriculum.tasks={copy=1.0}", "curriculum.holdout_items=2")
    before = path.read_bytes()
    assert new_rules.main(["--run-dir", str(path.parent), "--out", str(tmp_path / "rules"),
                           "--examples=20", "--seeds=1", "--threads=1", "--steps=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    with pytest.raises(SystemExit):
        new_rules.main(["--run-dir", str(path.parent), "--out", str(path.parent)])
    assert "exists: name another directory, or remove it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        new_rules.main(["--run-dir", str(tmp_path), "--out", str(tmp_path / "none")])
    assert "has no brain" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert [line.split()[:3] for line in lines[1:]] == [
        [rule, "0", "0.0"] for rule in ("12&34", "12@34", "12%34")]
    assert path.read_bytes() == before
    for copy in tmp_path.glob("rules/*"):
        rows = [json.loads(line) for line in (copy / "rule.jsonl").read_text().splitlines()]
        assert len(rows) == 20 and checkpoint.read(RunDir(copy).checkpoint).meta["adapted"]


def test_examples_of_a_new_rule_are_not_evaluated():
    pairs = new_rules.examples("%", 1)
    shown, unseen = set(pairs[:200]), set(pairs[200:])
    assert len(shown) == 200 and len(unseen) == 9800 and not shown & unseen
    assert ("49%97=", "147") in shown | unseen


def test_lengths_are_groups_of_forty_bytes_and_lose_no_item():
    items = [Item("parity", 4, n * b"1" + b"#", b"1") for n in (256, 41, 80, 81, 120)]
    grouped = lengths.by_length(items)
    assert [item.level for item in grouped] == [80, 80, 120, 120, 280]
    assert {item.prompt for item in grouped} == {item.prompt for item in items}


@pytest.mark.parametrize("tasks, message", [
    ("juggling", "--tasks juggling: no extrapolation level"),
    ("identity", "--tasks identity: no extrapolation level"),
    (None, "has no brain: train one with --run-dir")])
def test_lengths_rejects_in_one_line(tmp_path, monkeypatch, capsys, tasks, message):
    if tasks:
        brains.untrained(tmp_path, "toy", *TINY)
    monkeypatch.setattr("sys.argv", ["lengths", "--run-dir", str(tmp_path),
                                     "--tasks", tasks or "parity"])
    with pytest.raises(SystemExit) as stop:
        lengths.main()
    assert stop.value.code == 2 and message in capsys.readouterr().err
