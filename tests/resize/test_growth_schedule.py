"""An growth: when a brain grows, into what, and that it goes on after a kill."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from seed.config import load_profile, to_toml
from seed.curriculum.state import LAST
from seed.resize import growth_schedule
from seed.storage import RunDir
from seed.storage import checkpoint
from seed.resize.growth_schedule import Plateau, next_size
from seed.storage.metrics import Metrics
from seed.resize.trial import Size, base_of
from seed.resize.size_search import LADDER
from tests.resize.test_size_search import tried

TOY = load_profile("toy")
ENDLESS = (lambda profile: float("inf"))   # steps that are left


def asked(plateau: Plateau, losses, unlocked: int = LAST, first: int = 1) -> list[int]:
    """The steps at which it has said yes."""
    return [step for step, loss in enumerate(losses, first) if plateau(step, loss, unlocked)]


def test_a_brain_grows_when_its_loss_is_level_and_all_grades_are_open(tmp_path):
    fresh = (lambda: Plateau(tmp_path / "metrics.jsonl", LADDER[1], 0, LAST))
    level, falling = [1.0] * 2000, [0.99 ** (i / 10) for i in range(2000)]
    assert asked(fresh(), level) == [1000, 1250, 1500, 1750, 2000]
    assert asked(fresh(), falling) == []
    assert asked(fresh(), falling[:1000] + [falling[999]] * 1000) == [2000]
    assert asked(fresh(), level, unlocked=LAST - 1) == []
    one = fresh()
    assert asked(one, level[:900], LAST - 1) == [] and asked(one, level[:1100], first=901) == [2000]


def test_a_resumed_ascent_asks_the_same_of_its_metrics(tmp_path):
    """What was before the last growth, and before the last grade was opened, does not count."""
    path = tmp_path / "metrics.jsonl"
    for exam, grown, counted in ((0, 0, 1200), (300, 0, 900), (300, 700, 500), (700, 300, 500)):
        path.unlink(missing_ok=True)
        metrics = Metrics(path, 0)
        for step in range(1, 1501):   # 300 after the last save
            metrics.write("step", step, loss=1.0)
            if step == exam:
                metrics.write("curriculum", step, unlocked=LAST)
            if step == grown:
                metrics.write("grow", step, parameters=[1, 1], size=[*LADDER[1]])
        assert len(Plateau(path, LADDER[1], 1200, LAST).losses) == counted
        unborn = Plateau(path, LADDER[0], 1200, LAST)   # killed before it grew
        assert len(unborn.losses) == 1200 - exam
        assert len(Plateau(path, LADDER[1], 1200, LAST + 1).losses) == (0 if exam else counted)


def test_it_grows_rung_by_rung_up_to_the_limit():
    limit = Size(128, 6, 8, 200).of(TOY)
    sizes, profile = [], Size(64, 4, 8, 128).of(TOY)
    while (grown := next_size(profile, limit, ENDLESS, 60)):
        profile = grown
        sizes.append(growth_schedule.size_of(profile))
    assert sizes == [(64, 6, 8, 128), (96, 6, 8, 128), (128, 6, 8, 128), (128, 6, 8, 160),
                     (128, 6, 8, 192), (128, 6, 8, 200)]
    assert profile.curriculum == TOY.curriculum and profile.model.d_ff == 256


def test_a_size_of_one_s_own_leaves_no_rung_out():
    own = Size(64, 8, 33, 128).of(load_profile("toy", ["train.batch_size=33"]))
    limit = Size(128, 8, 33, 128).of(own)
    grown = next_size(own, limit, ENDLESS, 60)
    assert grown and growth_schedule.size_of(grown) == (96, 8, 33, 128)
    assert next_size(limit, own, ENDLESS, 60) is None   # beyond its limit


def test_it_does_not_grow_into_what_the_time_cannot_feed():
    limit, now = LADDER[3].of(TOY), LADDER[0].of(TOY)
    wanted_steps = 60 * 334_816 / 2048            # steps of the next size
    assert next_size(now, limit, lambda profile: 1.01 * wanted_steps, 60) == LADDER[1].of(TOY)
    assert next_size(now, limit, lambda profile: 0.99 * wanted_steps, 60) is None


SIZE = {"model.d_model": 64, "train.batch_size": 1, "train.seq_len": 32}
LESSONS = ["curriculum.tasks={copy=1.0}", "curriculum.eval_every_steps=0", "train.lr=0",
           "train.warmup_steps=0", "train.decay_fraction=0.1", "train.save_every_minutes=0.01",
           "train.write_gb_per_day=1e6", "curriculum.holdout_items=4",
           *(f"{key}={value}" for key, value in SIZE.items())]


def remembered(run_dir) -> None:
    """A search that has been: four and six layers are stable, eight are not."""
    base = base_of(load_profile("toy", LESSONS))
    rows = [tried(Size(64, layers, 1, 32), base=base, threads=1, ceiling_mb=6144.0,
                  skipped=int(layers == 8)) for layers in (4, 6, 8)]
    RunDir(run_dir).trial_log.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def train_growing(run_dir, *options: str) -> list[str]:
    return [sys.executable, "-m", "seed", "train_growing", "--run-dir", str(run_dir), "--threads=1",
            "--json", "--bytes-per-parameter=0.02", *options,
            *(f"--set={text}" for text in LESSONS)]


def kill_when_grown(command: list[str], run_dir) -> None:
    with open(run_dir / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    metrics, until = run_dir / "metrics.jsonl", time.monotonic() + 90
    while '"grow"' not in (metrics.read_text() if metrics.exists() else ""):
        assert process.poll() is None and time.monotonic() < until, (run_dir / "log").read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_an_ascent_that_was_killed_as_it_grew_ends_with_the_same_bits(tmp_path):
    """By steps, so that no clock has a word."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for run_dir in (whole, killed):
        run_dir.mkdir()
        remembered(run_dir)
    kill_when_grown(train_growing(killed, "--steps=1300"), killed)
    ends = [subprocess.run(train_growing(run_dir, "--steps=1300"), capture_output=True, text=True,
                           timeout=200) for run_dir in (killed, whole)]
    assert [done.returncode for done in ends] == [0, 0], ends[0].stderr + ends[1].stderr
    assert RunDir(whole).checkpoint.read_bytes() == RunDir(killed).checkpoint.read_bytes()
    rows = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert [row["parameters"] for row in rows if row["kind"] == "grow"] == [[234680, 334816]]
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, 1301))
    brain = load_profile(str(killed / "brain.toml"))
    assert growth_schedule.size_of(brain) == (64, 6, 1, 32) == growth_schedule.size_of(
        load_profile(str(killed / "limit.toml")))
    assert checkpoint.read(RunDir(killed).checkpoint).meta["profile"]["model"]["n_layers"] == 6
    page = (killed / "report.html").read_text()
    assert "<h2>Ladder</h2>" in page and "334,816 parameters" in page
    assert "1 steps were not finite" in page


def test_an_ascent_by_time_that_has_ended_does_not_go_on(tmp_path):
    remembered(tmp_path)
    said = []
    for _ in range(4):
        done = subprocess.run(train_growing(tmp_path, "--minutes=0.15", "--bytes-per-parameter=0.001"),
                              capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        said.append(RunDir(tmp_path).checkpoint.read_bytes())
    assert len(set(said)) == 1


def test_the_time_of_a_search_that_was_killed_counts(tmp_path):
    """But for the trial that it was in."""
    process = subprocess.Popen(train_growing(tmp_path, "--minutes=60", "--trial-seconds=1"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    searched, trials = tmp_path / "searched_s.json", RunDir(tmp_path).trial_log
    until = time.monotonic() + 90
    while not searched.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert trials.read_text().count("\n") == 1 and not (tmp_path / "limit.toml").exists()
    assert 1 < json.loads(searched.read_text()) < 90


def test_a_brain_whose_mlp_no_rung_has_does_not_begin_to_ascend(tmp_path):
    remembered(tmp_path)
    wide = load_profile("toy", LESSONS)
    (tmp_path / "wide.toml").write_text(to_toml(replace(
        wide, model=replace(wide.model, d_ff=256))))
    done = subprocess.run(train_growing(tmp_path, "--steps=10", f"--profile={tmp_path}/wide.toml"),
                          capture_output=True, text=True)
    assert done.returncode == 2 and "model.d_ff is 256: what grows has" in done.stderr
    assert not RunDir(tmp_path).checkpoint.exists()


@pytest.mark.parametrize("options, says", [
    (["--minutes=0"], "--minutes is 0.0: use 0.1 to 1000000"),
    (["--steps=0"], "--steps is 0: use at least 1"),
    (["--bytes-per-parameter=nan"], "--bytes-per-parameter is nan: use 0 to 1e+09"),
    (["--trial-seconds=0"], "--trial-seconds is 0.0")])
def test_bad_input_to_ascend_is_one_line(tmp_path, options, says):
    done = subprocess.run([sys.executable, "-m", "seed", "train_growing", "--run-dir", str(tmp_path),
                           *options], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
