"""The search for the largest stable brain: its decisions, its predictions, and real trials."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from math import exp
from pathlib import Path

import pytest

from seed import system_health
from seed.config import load_profile
from seed.errors import ConfigError
from seed.errors import RETRY_LATER
from seed.resize import trial, size_search
from seed.resize.cost_model import Cost, checkpoint_bytes, work
from seed.evaluation.brain_report import read_ladder
from seed.storage import RunDir
from seed.training.memory_estimate import estimate_mb
from seed.resize.trial import Look, Trial, Size, settles, speed
from seed.resize.size_search import LADDER, Limits, Search, SizeFacts, faults, next_size_to_try
from seed.wavecore import submodel
from tests.resize.test_shrink import parent_in

ROOT = Path(__file__).parents[2]
TOY = load_profile("toy")
WIDE = Limits(1000.0, 0.0, 75.0)
SIZE = SizeFacts(2048, 234_680, 240.0)


def tried(size=LADDER[0], **found) -> Trial:
    """A trial of which all is well."""
    well = Trial(size, trial.base_of(TOY), 2, 60.0, 400.0, "", 250.0, 40, 0.1, 0.05, 60.0, 65.0,
                 "", 0.0, (5.0, 3.0), 0.8, 0)
    return replace(well, **found)


@pytest.mark.parametrize("limit", range(-1, 26))
@pytest.mark.parametrize("guess", ["nothing", "right", "low", "high"])
def test_the_rung_above_the_limit_has_always_been_tried(limit, guess):
    """Whatever the cost model thinks: a wrong one costs trials, never the answer."""
    believed = {"nothing": 99, "right": limit, "low": limit - 4, "high": limit + 4}[guess]
    stable: dict[int, bool] = {}
    while (i := next_size_to_try(stable, 26, lambda i: i > believed)) is not None:
        assert i not in stable
        stable[i] = i <= limit
    assert all(stable.get(i) for i in [limit] if i >= 0)
    assert limit == 25 or stable[limit + 1] is False
    assert len(stable) <= (10 if guess != "low" else 14)


def test_a_ladder_grows_in_everything_and_each_rung_into_the_next():
    for small, large in zip(LADDER, LADDER[1:]):
        assert all(a <= b for a, b in zip(small, large)) and small != large
        submodel.check(small.of(TOY).model, large.of(TOY).model)
    mb = [sum(estimate_mb(size.of(TOY), 2).values()) for size in LADDER]
    assert all(1 < b / a < 1.4 for a, b in zip(mb, mb[1:])) and mb[0] < 300 < 6144 < mb[-1]


@pytest.mark.parametrize("found, says", [
    ({"ended": "killed by SIGKILL, as when memory is out"}, "killed by SIGKILL"),
    ({"peak_mb": 960.0}, "960 MB leave less than 5 % of 1000"),
    ({"step_s": 9.0, "steps": 9, "jitter": None, "losses": None, "norm_growth": None},
     "only 9 steps, which tell no trend"),
    ({"step_s": 1.0}, "2,048 tokens/s, 10,500 are wanted"),
    ({"jitter": 1.2}, "its speed varies by 120 %"),
    ({"settles_c": 73.1}, "it would settle at 73 C"),
    ({"throttled": "under_voltage"}, "under_voltage"),
    ({"swap_mb": 30.0}, "swap grew by 30 MB"),
    ({"skipped": 2}, "2 steps were not finite"),
    ({"losses": (3.0, 3.1)}, "loss went from 3.000 to 3.100"),
    ({"norm_growth": 20.0}, "gradients grew 20 times")])
def test_each_fault_alone_makes_a_rung_unstable(found, says):
    limits = Limits(1000.0, 10_000.0 if "tokens/s" in says else 0.0, 75.0)
    assert faults(tried(), limits, SIZE) == ""
    assert faults(tried(**found), limits, SIZE).startswith(says)
    assert ";" not in faults(tried(**found), limits, SIZE)


def test_a_rung_that_a_run_would_refuse_or_that_is_too_slow_for_its_size_is_not_stable():
    tight = Limits(270.0, 0.0, 75.0)
    assert faults(tried(), tight, SIZE) == ""
    assert faults(tried(), tight, SIZE._replace(estimate_mb=280.0)) == (
        "a run of it is refused: 280 MB are expected")
    fed = WIDE._replace(parameter_s=0.1)   # for 234,680 parameters 23,468 tokens/s
    assert faults(tried(step_s=0.08), fed, SIZE) == ""
    assert faults(tried(), fed, SIZE).startswith("20,480 tokens/s, 24,641 are wanted")


def test_what_is_not_known_is_no_fault():
    assert faults(tried(settles_c=72.9), WIDE, SIZE) == ""
    assert faults(tried(hottest_c=None, settles_c=None, jitter=None), WIDE, SIZE) == ""


@pytest.mark.parametrize("end, tau", [(70.0, 20.0), (85.0, 60.0)])
def test_a_temperature_s_end_is_seen_from_its_beginning(end, tau):
    trace = [end - 40 * exp(-i / tau) for i in range(60)]
    assert settles(trace) == pytest.approx(end, abs=3)


@pytest.mark.parametrize("end, tau, longer", [
    (74.0, 60.0, True), (74.0, 180.0, True), (74.0, 300.0, True), (90.0, 180.0, True),
    (90.0, 300.0, True), (60.0, 8.0, False), (68.0, 4.0, False)])
def test_a_board_that_may_get_too_hot_is_watched_for_longer(end, tau, longer):
    """Read to half a degree, as on a Pi, and seen for a minute."""
    seen = [round(2 * (end - 30 * exp(-i / 10 / tau))) / 2 for i in range(600)]
    assert trial.may_reach(73.0, seen, 60.0) == longer
    assert not trial.may_reach(73.0, [*seen, 73.0], 60.0)   # it has been there
    assert not trial.may_reach(73.0, [], 60.0)


def test_a_temperature_that_does_not_slow_down_is_taken_far_and_a_level_one_nowhere():
    assert settles([50 + i / 4 for i in range(60)]) > 120
    assert settles([60.0, 60.4] * 30) == pytest.approx(60.2)
    assert settles([70 - i / 10 for i in range(60)]) < 70
    assert settles([]) is None


def looks(*starts: float) -> list[Look]:
    """Of steps that begin at those seconds and take 0.1, from looks 0.1 apart."""
    ends = [start + 0.1 for start in starts]
    return [Look(i / 10, sum(end <= i / 10 + 1e-9 for end in ends), 100.0, None, ())
            for i in range(int(10 * ends[-1]) + 20)]


def test_speed_is_that_between_the_first_and_the_last_step_seen():
    step_s, jitter = speed(looks(*(5 + i / 4 for i in range(41))))
    assert step_s == pytest.approx(0.25, rel=0.02) and jitter < 0.1
    assert speed(looks(1.0)) == (None, None)


def test_a_stall_shows_however_long_it_is():
    work = [i / 4 for i in range(40)]
    one = speed(looks(*work[:20], *(start + 2.5 for start in work[20:])))[1]
    most = speed(looks(*work, 600.0))[1]
    assert 0.4 < one < 0.6 and most > 1.5


def test_the_cost_model_finds_the_rates_that_made_the_times():
    def timed(size: Size) -> Trial:
        own = work(size.of(TOY))
        return tried(size, step_s=0.012 * own.gflop + 0.002 * own.scan,
                     peak_mb=1.1 * sum(estimate_mb(size.of(TOY), 2).values()))
    cost = Cost(TOY, 2, [timed(size) for size in LADDER[:4]])
    assert cost.rates == pytest.approx([0.012, 0.002])
    far = LADDER[12]
    assert cost.step_s(far.of(TOY)) == pytest.approx(timed(far).step_s)
    assert cost.memory_mb(far.of(TOY)) == pytest.approx(timed(far).peak_mb)
    one = Cost(TOY, 2, [timed(LADDER[0])])
    assert one.step_s(LADDER[3].of(TOY)) == pytest.approx(timed(LADDER[3]).step_s, rel=0.25)
    assert Cost(TOY, 2, []).step_s(TOY) is None
    assert Cost(TOY, 1, [timed(LADDER[0])]).step_s(TOY) is None   # other threads
    killed = replace(timed(LADDER[1]), ended="killed", peak_mb=9.0)
    assert Cost(TOY, 2, [killed]).factor == 1.0


def test_a_checkpoint_has_as_many_bytes_as_predicted(tmp_path):
    from seed.training.step import Learner
    size = RunDir(tmp_path).save(Learner(TOY, 1).state_dict(), {})
    assert checkpoint_bytes(TOY) == pytest.approx(size, rel=0.02)


def test_a_rung_is_never_smaller_in_anything_than_the_one_before():
    for options in (["train.batch_size=48", "train.seq_len=192"], ["model.head_dim=128",
                    "model.d_model=256"], ["train.batch_size=100", "train.seq_len=300"]):
        profile = load_profile("toy", options)
        sizes = size_search.ladder_of(profile)
        assert all(a <= b for one, other in zip(sizes, sizes[1:]) for a, b in zip(one, other))
        assert sizes[0] != sizes[-1] and trial.base_of(profile)


def test_the_ladder_of_a_profile_has_its_rows_and_heads():
    assert size_search.ladder_of(TOY) == list(LADDER)
    long = size_search.ladder_of(load_profile("seed"))
    assert long[2] == Size(96, 6, 8, 256) and all(size.seq_len >= 256 for size in long)
    sizes = [size.batch_size * size.seq_len for size in long]
    assert sizes == sorted(sizes) and len(long) > 20
    for small, large in zip(long, long[1:]):
        assert all(a <= b for a, b in zip(small, large))
    many = size_search.ladder_of(load_profile("toy", ["train.batch_size=33"]))
    assert many[0] == Size(64, 4, 33, 128) and all(size.batch_size >= 33 for size in many)
    wide = size_search.ladder_of(load_profile("toy", ["model.head_dim=64"]))
    assert wide and all(size.d_model % 64 == 0 for size in wide)


def test_swap_that_a_child_gives_back_at_its_end_is_seen(tmp_path, monkeypatch):
    used = iter([10.0, *[510.0] * 3])
    monkeypatch.setattr("seed.system_health.swap_used_mb", lambda: system_health.Reading(
        next(used, 10.0)))
    size = LADDER[0]._replace(batch_size=2, seq_len=32)
    found = trial.run(load_profile("toy", ["curriculum.tasks={copy=1.0}"]), size, 1, 1.0, 1000.0,
                      tmp_path / "one")
    assert found.swap_mb == 500.0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_stopped_says_so_in_a_line_and_nothing_fell(tmp_path, how):
    process = subprocess.Popen(scale(tmp_path, "--trial-seconds=60"), stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True)
    try:
        while not (tmp_path / "trial/profile.toml").exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert RunDir(tmp_path).attempt_log.exists()
        process.send_signal(how)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130 and said.endswith("seed: interrupted\n")
    assert "Traceback" not in said and not RunDir(tmp_path).attempt_log.exists()


def test_a_search_is_stopped_while_it_waits_for_a_cool_board_too(monkeypatch):
    monkeypatch.setattr("seed.system_health.temp_c", lambda: 85.0)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trial.cool_down(70.0, lambda: time.monotonic() - began > 0.5, wait_s=20.0)
    assert time.monotonic() - began < 10
    trial.cool_down(70.0, lambda: False, wait_s=0.5)   # but not for ever


def test_a_board_whose_memory_is_taken_is_to_be_searched_again_later(tmp_path):
    done = subprocess.run(scale(tmp_path, "--set", "governor.min_available_mb=1e6"),
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == RETRY_LATER and "this run needs about" in done.stderr, done.stderr


CGROUP = """
mount -t tmpfs none /sys/fs/cgroup
echo 157286400 >/sys/fs/cgroup/memory.max
"$@"
"""


def test_what_the_board_can_never_give_is_a_result_and_is_not_tried_again(tmp_path):
    """On a real limit file of a name space of its own, of 150 MB."""
    search = ["unshare", "-rm", "sh", "-c", CGROUP, "sh", *scale(tmp_path)]
    said = [subprocess.run(search, capture_output=True, text=True, timeout=60, cwd=ROOT)
            for _ in range(2)]
    for done in said:
        assert done.returncode == 2 and "it is refused: this run needs about" in done.stderr
    assert "trying 64x4" in said[0].stderr and "trying" not in said[1].stderr
    assert RunDir(tmp_path).trial_log.read_text().count("\n") == 1


def test_probes_are_remembered_and_judged_again_by_other_limits(tmp_path):
    limit_mb = 400.0

    def attempt(size: Size) -> Trial:
        peak = sum(estimate_mb(size.of(TOY), 2).values())
        over = peak > limit_mb
        return tried(size, peak_mb=min(peak, limit_mb), step_s=1e-4 * peak, ceiling_mb=limit_mb,
                     ended=f"it took more than {limit_mb:.0f} MB" if over else "")

    def search(seconds=60.0, **limits) -> Search:
        return Search(TOY, 2, WIDE._replace(memory_mb=limit_mb)._replace(**limits),
                      RunDir(tmp_path), seconds)

    def climb(one: Search) -> list[int]:
        found = []
        while (i := one.next_size_to_try()) is not None:
            assert one.remember(attempt(LADDER[i]))
            found.append(i)
        return found
    first = search()
    assert len(climb(first)) > 2 and LADDER[first.chosen] == (128, 8, 16, 128)
    assert first.verdicts()[first.chosen + 1] == "it took more than 400 MB"
    assert climb(search()) == [] and search().chosen == first.chosen
    slower = search(tokens_s=60_000.0)
    new = climb(slower)
    assert slower.chosen < first.chosen and not set(new) & first.trials.keys()
    assert search(memory_mb=500.0).verdicts().get(first.chosen + 1) is None  # was cut at 400
    assert search(seconds=600.0).trials == {} and search(seconds=20.0).trials.keys() == {
        *first.trials, *new}
    other = Search(load_profile("toy", ["train.optimizer=adamw"]), 2, WIDE, RunDir(tmp_path), 60.0)
    assert other.trials == {}


@pytest.mark.parametrize("ended", ["this run needs about 300 MB, 200 MB may be taken",
                                   "it stopped itself: stop, only 150 MB"])
def test_what_the_rest_of_the_board_is_to_blame_for_is_not_remembered(tmp_path, ended):
    one = Search(TOY, 2, WIDE, RunDir(tmp_path), 60.0)
    assert one.remember(tried(ended=ended, ceiling_mb=1000.0))
    assert one.chosen is None and one.verdicts() == {0: ended}
    assert Search(TOY, 2, WIDE, RunDir(tmp_path), 60.0).trials == {}


@pytest.mark.parametrize("change", [{"peak_mb": "x"}, {"losses": [1]}, {"step_s": "x"},
                                    {"size": [64]}, {"ended": 3}, {"more": 1}])
def test_a_damaged_line_of_the_file_is_as_if_it_were_not_there(tmp_path, change):
    rows = [asdict(tried()), asdict(tried(LADDER[1]))]
    RunDir(tmp_path).trial_log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Search(TOY, 2, WIDE, RunDir(tmp_path), 60.0).trials.keys() == {0, 1}
    RunDir(tmp_path).trial_log.write_text(
        json.dumps(rows[0]) + "\n" + json.dumps({**rows[1], **change}) + "\n")
    assert Search(TOY, 2, WIDE, RunDir(tmp_path), 60.0).trials.keys() == {0}


@pytest.mark.parametrize("text", ['{"a": 1}', "5", "[1]", '[{"size": "x"}]', "["])
def test_a_damaged_description_of_the_ladder_is_as_if_it_were_not_there(tmp_path, text):
    RunDir(tmp_path).ladder.write_text(text)
    assert read_ladder(RunDir(tmp_path)) == []


SMALL = ("--set", "train.batch_size=2", "--set", "train.seq_len=32", "--set",
         "curriculum.tasks={copy=1.0}")


def scale(run_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "seed", "scale", "--run-dir", str(run_dir), "--threads=1",
            "--trial-seconds=3", "--json", *SMALL, *options]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_search_leaves_nothing_running_and_goes_on(tmp_path):
    """What could not be taken back: a child that trains on beside the next one."""
    floor = "--tokens-per-s=1e6"
    process = subprocess.Popen(scale(tmp_path, floor, "--trial-seconds=60"),
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (own := children(process.pid)) or not (tmp_path / "trial/metrics.jsonl").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in own):
        assert time.monotonic() < until
        time.sleep(0.05)
    done = subprocess.run(scale(tmp_path, floor), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "no size is stable: 64x4, 2x32: " in done.stderr
    assert "tokens/s, 1,050,000 are wanted" in done.stderr
    assert not (tmp_path / "limit.toml").exists()
    rows = RunDir(tmp_path).trial_log.read_text()
    assert rows.count("\n") == 1 and json.loads(rows)["steps"] > 10
    again = subprocess.run(scale(tmp_path, floor), capture_output=True, text=True, timeout=60)
    assert again.returncode == 2 and RunDir(tmp_path).trial_log.read_text() == rows


BOOT = 'mount --bind "$1" /proc/sys/kernel/random/boot_id; shift; exec "$@"'


def test_a_board_that_goes_down_twice_with_a_rung_does_not_try_it_for_ever(tmp_path):
    """The search is killed as by the board, and goes on in another boot of a name space."""
    def booted(name: str) -> subprocess.Popen:
        (tmp_path / name).write_text(f"{name}\n")
        return subprocess.Popen(["unshare", "-rm", "sh", "-c", BOOT, "sh", str(tmp_path / name),
                                 *scale(tmp_path)], stderr=subprocess.PIPE, text=True, cwd=ROOT)

    for name in ("first", "first", "second"):   # killed in the same boot is no board that fell
        process = booted(name)
        until = time.monotonic() + 60
        while "trying 64x4" not in process.stderr.readline():
            assert time.monotonic() < until
        while not (tmp_path / "trial/profile.toml").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.kill()
        process.communicate()
        (tmp_path / "trial/profile.toml").unlink()
    said = booted("third").communicate(timeout=60)[1]
    assert "no size is stable: 64x4, 2x32: the board went down 2 times" in said
    rows = RunDir(tmp_path).trial_log.read_text()
    assert rows.count("\n") == 1 and json.loads(rows)["steps"] == 0
    assert not RunDir(tmp_path).attempt_log.exists()


def test_a_ceiling_is_found_by_trying_and_the_profile_is_written(tmp_path):
    """About 12 seconds a size: the memory of these small rows is the weights' and the compiler's.
    """
    done = subprocess.run(scale(tmp_path, "--memory=0.19"), capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    by_name = {row["size"]: row for row in found["ladder"]}
    chosen = by_name[found["chosen"]]
    assert chosen["fault"] == "" and chosen["peak_mb"] < 0.95 * 0.19 * 1024
    names = list(dict.fromkeys(str(r._replace(batch_size=2, seq_len=32)) for r in LADDER))
    above = by_name[names[names.index(found["chosen"]) + 1]]
    if "a run of it is refused" in above["fault"]:
        width, layers = map(int, above["size"].split(",")[0].split("x"))
        run = subprocess.run([sys.executable, "-m", "seed", "train", "--run-dir",
                              str(tmp_path / "above"), "--threads=1", "--memory=0.19", *SMALL,
                              f"--set=model.d_model={width}", f"--set=model.d_ff={2 * width}",
                              f"--set=model.n_layers={layers}"],
                             capture_output=True, text=True, timeout=60)
        assert run.returncode == 2 and trial.NEEDS in run.stderr
    else:
        assert "MB" in above["fault"] and above["peak_mb"] > 0.95 * 0.19 * 1024
    for row in found["ladder"]:
        assert row["predicted_mb"] == pytest.approx(row["peak_mb"], rel=0.15)
    limit = load_profile(str(tmp_path / "limit.toml"))
    assert f"{limit.model.d_model}x{limit.model.n_layers}, 2x32" == found["chosen"]
    again = [part for part in scale(tmp_path, "--memory=0.19") if part != "--json"]
    said = subprocess.run(again, capture_output=True, text=True, timeout=60).stdout
    for row in found["ladder"]:
        assert row["tokens_s"] or row["fault"].startswith("it took more than")
        for measured, value, unit in ((row["peak_mb"], row["predicted_mb"], "MB"),
                                      (row["tokens_s"], row["predicted_tokens_s"], "tokens/s")):
            assert with_error(measured, value, unit) in said


def with_error(measured: float | None, predicted: float, unit: str) -> str:
    if measured is None:   # a size may be over the ceiling before its second step
        return f" - {unit} (predicted {predicted:,.0f})"
    error = 100 * (predicted / measured - 1)
    return f" {measured:,.0f} {unit} (predicted {predicted:,.0f}, {error:+.0f} %)"


def test_a_child_that_is_killed_takes_too_much_or_stands_still_is_a_result(tmp_path):
    size = LADDER[0]._replace(batch_size=2, seq_len=32)
    profile = load_profile("toy", ["curriculum.tasks={copy=1.0}"])
    found = trial.run(profile, size, 1, 30.0, 1000.0, tmp_path / "hung", hang_s=0.3)
    assert found.ended == "it stood still for 0 s" and found.steps == 0
    found = trial.run(profile, size, 1, 30.0, 100.0, tmp_path / "large")
    assert found.ended == "it took more than 100 MB" and 100 < found.peak_mb < 200
    with open(tmp_path / "killer", "w") as script:
        script.write("until kill -9 $(pgrep -f 'run-dir '$1); do sleep 0.1; done\n")
    killer = subprocess.Popen(["sh", str(tmp_path / "killer"), str(tmp_path / "killed")])
    found = trial.run(profile, size, 1, 30.0, 1000.0, tmp_path / "killed")
    killer.wait()
    assert found.ended == "killed by SIGKILL, as when memory is out"


def test_a_probe_too_slow_for_a_trend_lasts_longer_but_not_for_ever(tmp_path, monkeypatch):
    size = LADDER[0]._replace(batch_size=2, seq_len=32)
    slow = load_profile("toy", ["train.grad_accum_steps=64", "curriculum.tasks={copy=1.0}"])
    monkeypatch.setattr(trial, "LONGER", 1.0)
    found = trial.run(slow, size, 1, 0.1, 1000.0, tmp_path / "short")
    assert not found.ended and 0 < found.steps < trial.FEW and not found.losses
    monkeypatch.setattr(trial, "LONGER", 500.0)   # on whatever machine
    found = trial.run(slow, size, 1, 0.2, 1000.0, tmp_path / "long")
    assert not found.ended and found.steps >= trial.FEW and found.losses


def test_a_carved_brain_s_parent_is_not_asked_by_a_probe(tmp_path):
    """It is large and slow, and may not be there any more."""
    child = load_profile("toy", ["curriculum.tasks={copy=1.0}", "distill.parent=gone"])
    found = trial.run(child, LADDER[0]._replace(batch_size=2, seq_len=32), 1, 1.0, 1000.0,
                      tmp_path / "carved")
    assert found.ended == "" and found.steps > size_search.FEW


def test_a_fault_of_the_lessons_ends_the_search_and_is_no_result(tmp_path):
    with pytest.raises(ConfigError, match="failed: .*task.py"):
        trial.run(load_profile("toy", [], [f"{tmp_path}/task.py:Nothing"]), LADDER[0], 1, 3.0,
                  1000.0, RunDir(tmp_path / "trial"))


FULL = 'mount -t tmpfs -o size=300k none "$1"; shift; exec "$@"'


def test_a_full_disk_ends_the_search_and_is_no_result(tmp_path):
    done = subprocess.run(["unshare", "-rm", "sh", "-c", FULL, "sh", str(tmp_path),
                           *scale(tmp_path)], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 2 and "No space left on device" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not RunDir(tmp_path).trial_log.exists()


FILLED = """
import sys, threading, time
from contextlib import suppress
from pathlib import Path
from seed.config import load_profile
from seed.resize import trial
folder = Path(sys.argv[1]) / "trial"

def fill():
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() or '"step"' not in metrics.read_text():
        time.sleep(0.02)
    with open(folder.parent / "other", "wb", buffering=0) as other, suppress(OSError):
        while other.write(bytes(4096)):
            pass

threading.Thread(target=fill, daemon=True).start()
small = load_profile("toy", ["curriculum.tasks={copy=1.0}"])
print(trial.run(small, trial.Size(64, 4, 2, 32), 1, 60.0, 1000.0, folder, hang_s=4.0))
"""


def test_a_disk_that_others_fill_meanwhile_is_no_result(tmp_path):
    """The child goes on without a line of metrics, as if it stood still."""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", FULL.replace("300k", "30m"), "sh",
                           str(tmp_path), sys.executable, "-c", FILLED, str(tmp_path)],
                          capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stdout == "" and done.stderr.endswith("failed: No space left on device\n")


def test_a_child_that_is_stopped_with_its_search_is_no_result(tmp_path):
    """By one signal to the whole group, whoever of them ends first."""
    metrics = tmp_path / "trial/metrics.jsonl"

    def stopped() -> bool:
        if metrics.exists() and '"step"' in metrics.read_text():
            for pid in children(os.getpid()):
                os.kill(pid, signal.SIGTERM)
        return not children(os.getpid())
    with pytest.raises(KeyboardInterrupt):
        trial.run(load_profile("toy"), LADDER[0], 1, 60.0, 1000.0, RunDir(tmp_path / "trial"),
                  asked=stopped)


def test_a_brain_s_own_sizes_are_searched(tmp_path):
    parent_in(tmp_path / "brain", "train.batch_size=8", "train.seq_len=256")
    done = subprocess.run([sys.executable, "-m", "seed", "scale", "--dry-run", "--json",
                           "--run-dir", str(tmp_path / "brain")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ladder"][0]["size"] == "64x4, 8x256"


HEAT = """
mount -t tmpfs none /sys/class/thermal
mkdir /sys/class/thermal/thermal_zone0
echo cpu-thermal >/sys/class/thermal/thermal_zone0/type
metrics=$1; end=$2; shift 2
t=50000; echo $t >/sys/class/thermal/thermal_zone0/temp
(until grep -qs '"kind": "step"' $metrics; do sleep 0.1; done
 while [ $t -lt $end ]; do sleep 0.5; t=$((t + 900))
                           echo $t >/sys/class/thermal/thermal_zone0/temp; done) &
"$@"; code=$?; kill $!; exit $code
"""


@pytest.mark.parametrize("end, code, low, high", [(200, 2, 75, 400), (68, 0, 66, 73)])
def test_heat_that_rises_is_a_fault_unless_it_ends_in_time(tmp_path, end, code, low, high):
    """On a real sensor file of a name space of its own: 1.8 C a second from 50 C."""
    size = scale(tmp_path, "--set=model.d_model=64", "--set=model.n_layers=4")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", HEAT, "sh",
                           str(tmp_path / "trial/metrics.jsonl"), str(1000 * end), *size],
                          timeout=120, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    assert ("it would settle at" in done.stderr) == bool(code), done.stderr
    row = json.loads(RunDir(tmp_path).trial_log.read_text())
    assert 65 < row["hottest_c"] <= row["settles_c"] + 1 and low < row["settles_c"] < high


LATE = """
import os, subprocess, sys, time
from pathlib import Path
from seed.resize import trial
def late(parent):
    Path(sys.argv[1]).write_text(str(os.getpid()))
    while os.getppid() == parent:
        time.sleep(0.01)
    trial._die_with(parent)
subprocess.Popen(["sleep", "60"], preexec_fn=lambda parent=os.getpid(): late(parent))
"""


def test_a_search_killed_while_a_probe_begins_leaves_nothing_running(tmp_path):
    """Killed after the fork, before the child has asked to end with it."""
    said = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", LATE, str(said)], cwd=ROOT)
    until = time.monotonic() + 60
    while not (said.exists() and said.read_text()):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    child = Path("/proc", said.read_text())
    until = time.monotonic() + 5
    while child.exists() and ") Z " not in (child / "stat").read_text():
        assert time.monotonic() < until, "the trial outlives its search"
        time.sleep(0.05)


@pytest.mark.parametrize("options, says", [
    (["--trial-seconds=0"], "--trial-seconds is 0.0: use 1 to 86400"),
    (["--set", "model.d_ff=64"], "model.d_ff cannot be set here"),
    (["--tokens-per-s=nan"], "--tokens-per-s is nan: use 0 to 1e+09"),
    (["--memory=0"], "--memory is 0.0: use 0.001 to 1e+06"),
    (["--profile", "none"], "profile 'none' not found")])
def test_bad_input_to_scale_is_one_line(tmp_path, options, says):
    done = subprocess.run([sys.executable, "-m", "seed", "scale", "--run-dir", str(tmp_path),
                           *options], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
