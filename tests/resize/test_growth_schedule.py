"""Growth: when a brain grows, to which size, and resuming after a kill."""
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from seed.curriculum.state import LAST
from seed.profile_file import load_profile, to_toml
from seed.resize import growth_schedule
from seed.resize.growth_schedule import Plateau, next_profile
from seed.resize.size_search import LADDER
from seed.resize.trial import Size
from seed.storage import RunDir, checkpoint
from seed.storage.metrics import Metrics
from tests.support.small_run import seed, wait_until
from tests.support.trials import (GROWING, TOY, grow_quickly, known_search,
                                  train_growing_command)

ENDLESS = (lambda profile: float("inf"))   # steps that are left


def level_steps(plateau: Plateau, losses, unlocked: int = LAST, first: int = 1) -> list[int]:
    """The steps at which the loss counts as level."""
    return [step for step, loss in enumerate(losses, first)
            if plateau.update(step, loss, unlocked)]


def test_a_brain_grows_when_its_loss_is_level_and_all_grades_are_unlocked(tmp_path):
    new = (lambda: Plateau(tmp_path / "metrics.jsonl", LADDER[1], 0, LAST))
    level, falling = [1.0] * 2000, [0.99 ** (i / 10) for i in range(2000)]
    assert level_steps(new(), level) == [1000, 1250, 1500, 1750, 2000]
    assert level_steps(new(), falling) == []
    assert level_steps(new(), falling[:1000] + [falling[999]] * 1000) == [2000]
    assert level_steps(new(), level, unlocked=LAST - 1) == []
    plateau = new()
    assert level_steps(plateau, level[:900], LAST - 1) == []
    assert level_steps(plateau, level[:1100], first=901) == [2000]


def test_a_resumed_growth_counts_the_same_losses(tmp_path):
    """None from before the last growth or before the last grade was unlocked."""
    path = tmp_path / "metrics.jsonl"
    for unlocked, grown, count in ((0, 0, 1200), (300, 0, 900), (300, 700, 500), (700, 300, 500)):
        path.unlink(missing_ok=True)
        metrics = Metrics(path, 0)
        for step in range(1, 1501):   # 300 after the last save
            metrics.write("step", step, loss=1.0)
            if step == unlocked:
                metrics.write("curriculum", step, unlocked=LAST, accuracy={})
            if step == grown:
                metrics.write("grow", step, parameters=[1, 1], size=[*LADDER[1]])
        assert len(Plateau(path, LADDER[1], 1200, LAST).losses) == count
        not_yet_grown = Plateau(path, LADDER[0], 1200, LAST)   # killed before it grew
        assert len(not_yet_grown.losses) == 1200 - unlocked
        assert len(Plateau(path, LADDER[1], 1200, LAST + 1).losses) == (0 if unlocked else count)


def test_a_brain_grows_size_by_size_up_to_the_limit():
    limit = Size(128, 6, 8, 200).apply_to(TOY)
    sizes, profile = [], Size(64, 4, 8, 128).apply_to(TOY)
    while (grown := next_profile(profile, limit, ENDLESS, 60)):
        profile = grown
        sizes.append(Size.of(profile))
    assert sizes == [(64, 6, 8, 128), (96, 6, 8, 128), (128, 6, 8, 128), (128, 6, 8, 160),
                     (128, 6, 8, 192), (128, 6, 8, 200)]
    assert profile.curriculum == TOY.curriculum and profile.model.d_ff == 256


def test_a_brain_between_two_sizes_of_the_ladder_skips_none():
    profile = Size(64, 8, 33, 128).apply_to(load_profile("toy", ["train.batch_size=33"]))
    limit = Size(128, 8, 33, 128).apply_to(profile)
    grown = next_profile(profile, limit, ENDLESS, 60)
    assert grown and Size.of(grown) == (96, 8, 33, 128)
    assert next_profile(limit, profile, ENDLESS, 60) is None   # beyond its limit


def test_a_brain_does_not_grow_without_the_time_to_train_the_larger_one():
    limit, profile = LADDER[3].apply_to(TOY), LADDER[0].apply_to(TOY)
    needed_steps = 60 * 334_816 / 2048            # steps of the next size
    assert next_profile(profile, limit, lambda _: 1.01 * needed_steps, 60) == (
        LADDER[1].apply_to(TOY))
    assert next_profile(profile, limit, lambda _: 0.99 * needed_steps, 60) is None


def assert_killed_growth_has_the_bits_of(whole: RunDir, command: list[str], killed: RunDir,
                                         steps: int) -> None:
    """Kills a growth as it grows, and lets it resume. By steps, so that no clock decides."""
    with open(killed.path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_until(lambda: killed.metrics.exists() and '"grow"' in killed.metrics.read_text(), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert whole.checkpoint.read_bytes() == killed.checkpoint.read_bytes()
    rows = [json.loads(line) for line in killed.metrics.read_text().splitlines()]
    assert [row["parameters"] for row in rows if row["kind"] == "grow"] == [[234680, 334816]]
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, steps + 1))
    brain, limit = (load_profile(str(path)) for path in (
        killed.grown_profile, killed.limit_profile))
    assert Size.of(brain) == (64, 6, 1, 32) == Size.of(limit)
    assert checkpoint.read(killed.checkpoint).meta["profile"]["model"]["n_layers"] == 6


@pytest.mark.long
def test_a_growth_that_was_killed_as_it_grew_ends_with_the_same_bits(tmp_path, monkeypatch):
    """As those of a growth within a single process."""
    whole, killed = (RunDir(known_search(tmp_path / name)) for name in ("whole", "killed"))
    for name in ("WINDOW_STEPS", "CHECK_EVERY_STEPS", "MIN_LOSS_FALL"):   # to be restored
        monkeypatch.setattr(growth_schedule, name, getattr(growth_schedule, name))
    assert grow_quickly(whole, 130).finished
    bits = whole.checkpoint.read_bytes()
    assert grow_quickly(whole, 130).finished and whole.checkpoint.read_bytes() == bits
    assert_killed_growth_has_the_bits_of(
        whole, [sys.executable, "-m", "tests.support.trials", str(killed), "130"], killed, 130)


@pytest.mark.long
def test_a_killed_growth_by_the_command_line_ends_with_the_same_bits_and_a_report(tmp_path):
    whole, killed = (RunDir(known_search(tmp_path / name)) for name in ("whole", "killed"))
    subprocess.run(train_growing_command(whole.path, "--steps=1300"), check=True)
    assert_killed_growth_has_the_bits_of(
        whole, train_growing_command(killed.path, "--steps=1300"), killed, 1300)
    page = killed.report.read_text()
    assert "<h2>Size search</h2>" in page and "334,816 parameters" in page
    assert "1 steps were not finite" in page


@pytest.mark.long
def test_a_finished_growth_by_time_does_not_train_again_and_writes_a_report(tmp_path):
    known_search(tmp_path)
    checkpoints = []
    for _ in range(2):
        done = subprocess.run(
            train_growing_command(tmp_path, "--minutes=0.1", "--tokens-per-param=0.001"),
            capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        checkpoints.append(RunDir(tmp_path).checkpoint.read_bytes())
    assert len(set(checkpoints)) == 1
    size = Size.of(load_profile(str(tmp_path / "brain.toml")))
    assert size.n_layers in (4, 6)   # depends on the speed of the machine
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Size search</h2>" in page and "1 steps were not finite" in page


def test_the_time_of_a_search_that_was_killed_counts(tmp_path):
    """Without the trial during which it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fake_training", "--",
         *train_growing_command(tmp_path, "--minutes=60", "--trial-seconds=1")[3:]],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, trials = tmp_path / "searched_s.json", RunDir(tmp_path).trial_log
    wait_until(seconds.exists, process)
    process.kill()
    process.wait()
    assert trials.read_text().count("\n") == 1 and not (tmp_path / "limit.toml").exists()
    assert 1 < json.loads(seconds.read_text()) < 300


def test_a_brain_with_a_wider_mlp_than_any_size_is_refused(tmp_path):
    known_search(tmp_path)
    wide = load_profile("toy", GROWING)
    (tmp_path / "wide.toml").write_text(to_toml(replace(
        wide, model=replace(wide.model, d_ff=256))))
    done = subprocess.run(
        train_growing_command(tmp_path, "--steps=10", f"--profile={tmp_path}/wide.toml"),
        capture_output=True, text=True)
    assert done.returncode == 2 and "model.d_ff is 256: a brain that grows" in done.stderr
    assert not RunDir(tmp_path).checkpoint.exists()


@pytest.mark.parametrize("option, message", [
    ("--minutes=0", "--minutes is 0.0: use 0.001 to 1e+06"),
    ("--steps=0", "--steps is 0: use 1 to 1e+18"),
    ("--tokens-per-param=nan", "--tokens-per-param is nan: use 0 to 1e+09"),
    ("--trial-seconds=0", "--trial-seconds is 0.0: use 1 to 86400")])
def test_bad_input_to_growth_is_one_line(tmp_path, option, message):
    done = seed("train", "--grow", "--run-dir", str(tmp_path), option)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
