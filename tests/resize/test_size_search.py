"""The search for the largest stable brain: its decisions, its log of trials, and the command. Most
children are cheap stand-ins (tests/support/fake_training.py)."""
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from seed.config import from_dict
from seed.errors import RETRY_LATER
from seed.evaluation.run_facts import read_ladder
from seed.profile_file import load_profile, to_toml
from seed.resize.size_search import (LADDER, Limits, SizeFacts, SizeSearch, ladder_for, next_index,
                                     what_to_allow, why_unstable)
from seed.resize.trial import Size, Trial, profile_hash
from seed.resize.trial_watch import Outcome
from seed.storage import RunDir
from seed.training.memory_estimate import estimate_mb
from seed.wavecore import submodel
from tests.support.small_run import seed, untrained_run, wait_until
from tests.support.trials import TOY, stable_trial, write_trials

ROOT = Path(__file__).parents[2]
WIDE = Limits(1000.0, 0.0, 75.0)
FACTS = SizeFacts(2048, 234_680, 240.0)


@pytest.mark.parametrize("limit", range(-1, 26))
@pytest.mark.parametrize("guess", ["nothing", "right", "low", "high"])
def test_the_size_above_the_limit_has_always_been_tried(limit, guess):
    """Whatever the cost model predicts: a wrong one costs trials, never the answer."""
    hopeless_above = {"nothing": 99, "right": limit, "low": limit - 4, "high": limit + 4}[guess]
    verdicts: dict[int, str] = {}
    while (i := next_index(verdicts, 26, lambda i: i > hopeless_above)) is not None:
        assert i not in verdicts
        verdicts[i] = "" if i <= limit else "too large"
    assert limit == -1 or verdicts[limit] == ""
    assert limit == 25 or verdicts[limit + 1] == "too large"
    assert len(verdicts) <= (10 if guess != "low" else 14)


def test_each_size_of_the_ladder_grows_into_the_next():
    for small, large in zip(LADDER, LADDER[1:]):
        assert all(a <= b for a, b in zip(small, large)) and small != large
        submodel.check(small.apply_to(TOY).model, large.apply_to(TOY).model)
    mb = [sum(estimate_mb(size.apply_to(TOY), 2).values()) for size in LADDER]
    assert all(1 < b / a < 1.4 for a, b in zip(mb, mb[1:])) and mb[0] < 300 < 6144 < mb[-1]


@pytest.mark.parametrize("changes, reason", [
    ({"outcome": Outcome.KILLED, "message": "killed by SIGKILL"}, "killed by SIGKILL"),
    ({"peak_mb": 960.0}, "960 MB leave less than 5 % of 1000 MB free"),
    ({"step_s": 9.0, "steps": 9, "jitter": None, "first_loss": None, "grad_norm_growth": None},
     "only 9 steps: too few to show a trend"),
    ({"step_s": 1.0}, "2,048 tokens/s are too few: 10,500 are needed"),
    ({"jitter": 1.2}, "speed varies by 120 %"),
    ({"settled_temp_c": 73.1}, "temperature would settle at 73 C"),
    ({"throttled": "under_voltage"}, "under_voltage"),
    ({"swap_mb": 30.0}, "swap grew by 30 MB"),
    ({"skipped_steps": 2}, "2 steps were not finite"),
    ({"first_loss": 3.0, "last_loss": 3.1}, "loss went from 3.000 to 3.100"),
    ({"grad_norm_growth": 20.0}, "gradient norm grew 20 times")])
def test_each_reason_alone_makes_a_size_unstable(changes, reason):
    limits = Limits(1000.0, 10_000.0 if "tokens/s" in reason else 0.0, 75.0)
    assert why_unstable(stable_trial(), limits, FACTS) == ""
    assert why_unstable(stable_trial(**changes), limits, FACTS) == reason


def test_a_size_that_training_refuses_or_that_is_too_slow_for_its_parameters_is_not_stable():
    tight = Limits(270.0, 0.0, 75.0)
    assert why_unstable(stable_trial(), tight, FACTS) == ""
    assert why_unstable(stable_trial(), tight, FACTS._replace(estimate_mb=280.0)) == (
        "training is refused: about 280 MB are needed")
    hungry = WIDE._replace(min_tokens_s_per_param=0.1)   # 23,468 tokens/s for 234,680 parameters
    assert why_unstable(stable_trial(step_s=0.08), hungry, FACTS) == ""
    assert why_unstable(stable_trial(), hungry, FACTS).startswith(
        "20,480 tokens/s are too few: 24,641 are")


def test_what_would_make_a_size_stable_is_time_or_memory_or_a_lower_limit():
    """Report 5 of what a person sees: too few minutes are no lack of memory."""
    hungry = WIDE._replace(min_tokens_s_per_param=1.0)   # 246,414 tokens/s, with a margin
    assert what_to_allow(stable_trial(), hungry, FACTS) == (
        "give it 13 times the --minutes, or a lower --tokens-per-param")
    for trial, limits in ((stable_trial(), WIDE), (stable_trial(step_s=None), hungry),
                          (stable_trial(), WIDE._replace(min_tokens_s=1e9))):
        assert what_to_allow(trial, limits, FACTS).startswith("allow more with --memory")


def test_missing_measurements_are_ignored():
    assert why_unstable(stable_trial(settled_temp_c=72.9), WIDE, FACTS) == ""
    unmeasured = stable_trial(max_temp_c=None, settled_temp_c=None, jitter=None)
    assert why_unstable(unmeasured, WIDE, FACTS) == ""


def test_no_size_of_a_ladder_has_less_of_anything_than_the_one_before():
    for options in (["train.batch_size=48", "train.seq_len=192"], ["model.head_dim=128",
                    "model.d_model=256"], ["train.batch_size=100", "train.seq_len=300"]):
        profile = load_profile("toy", options)
        sizes = ladder_for(profile)
        assert all(a <= b for small, large in zip(sizes, sizes[1:]) for a, b in zip(small, large))
        assert sizes[0] != sizes[-1] and profile_hash(profile)


def test_the_ladder_of_a_profile_has_at_least_its_batch_size_and_multiples_of_its_head_dim():
    assert ladder_for(TOY) == list(LADDER)
    long = ladder_for(load_profile("seed"))
    assert long[2] == Size(96, 6, 8, 256) and all(size.seq_len >= 256 for size in long)
    tokens = [size.batch_size * size.seq_len for size in long]
    assert tokens == sorted(tokens) and len(long) > 20
    for small, large in zip(long, long[1:]):
        assert all(a <= b for a, b in zip(small, large))
    many_rows = ladder_for(load_profile("toy", ["train.batch_size=33"]))
    assert many_rows[0] == Size(64, 4, 33, 128) and all(s.batch_size >= 33 for s in many_rows)
    wide = ladder_for(load_profile("toy", ["model.head_dim=64"]))
    assert wide and all(size.d_model % 64 == 0 for size in wide)


def try_sizes(search: SizeSearch, trial_fn) -> list[int]:
    """Indices of the sizes that are tried until the limit is known."""
    indices = []
    while (i := search.next_index()) is not None:
        assert search.remember(trial_fn(LADDER[i]))
        indices.append(i)
    return indices


def test_trials_are_stored_and_judged_again_by_other_limits(tmp_path):
    peaks = {size: sum(estimate_mb(size.apply_to(TOY), 2).values()) for size in LADDER}
    largest = LADDER.index((128, 8, 24, 128))
    limit_mb = 0.99 * peaks[LADDER[largest + 1]]

    def trial_of(size: Size) -> Trial:
        peak = peaks[size]
        killed = {"outcome": Outcome.OUT_OF_MEMORY, "message": "over the limit"}
        return stable_trial(size, peak_mb=min(peak, limit_mb), step_s=1e-4 * peak,
                            memory_limit_mb=limit_mb, **(killed if peak > limit_mb else {}))

    def search(seconds=60.0, **limits) -> SizeSearch:
        return SizeSearch(TOY, 2, WIDE._replace(memory_mb=limit_mb)._replace(**limits),
                          RunDir(tmp_path), seconds)
    first = search()
    assert len(try_sizes(first, trial_of)) > 2 and first.chosen == largest
    assert first.verdicts()[first.chosen + 1] == "over the limit"
    assert try_sizes(search(), trial_of) == [] and search().chosen == first.chosen
    faster = search(min_tokens_s=90_000.0)
    tried = try_sizes(faster, trial_of)
    assert faster.chosen < first.chosen and not set(tried) & first.trials.keys()
    assert search(memory_mb=1.25 * limit_mb).verdicts().get(first.chosen + 1) is None
    assert search(seconds=600.0).trials == {} and search(seconds=20.0).trials.keys() == {
        *first.trials, *tried}
    other_recipe = SizeSearch(load_profile("toy", ["train.optimizer=adamw"]), 2, WIDE,
                              RunDir(tmp_path), 60.0)
    assert other_recipe.trials == {}


@pytest.mark.parametrize("outcome", [Outcome.NOT_ENOUGH_MEMORY_NOW, Outcome.STOPPED])
def test_failures_caused_by_other_processes_are_not_stored(tmp_path, outcome):
    search = SizeSearch(TOY, 2, WIDE, RunDir(tmp_path), 60.0)
    assert search.remember(stable_trial(outcome=outcome, message="no", memory_limit_mb=1000.0))
    assert search.chosen is None and search.verdicts() == {0: "no"}
    assert SizeSearch(TOY, 2, WIDE, RunDir(tmp_path), 60.0).trials == {}


@pytest.mark.parametrize("change", [{"peak_mb": "x"}, {"first_loss": [1]}, {"step_s": "x"},
                                    {"size": [64]}, {"outcome": "x"}, {"message": 3}, {"more": 1}])
def test_a_damaged_line_of_the_trial_log_is_ignored(tmp_path, change):
    write_trials(tmp_path, [stable_trial(), stable_trial(LADDER[1])])
    assert SizeSearch(TOY, 2, WIDE, RunDir(tmp_path), 60.0).trials.keys() == {0, 1}
    log = RunDir(tmp_path).trial_log
    first, second = log.read_text().splitlines()
    damaged = json.dumps({**json.loads(second), **change})
    log.write_text(f"{first}\n{damaged}\n")
    assert SizeSearch(TOY, 2, WIDE, RunDir(tmp_path), 60.0).trials.keys() == {0}
    log.write_text(f"{first}\n{damaged}\n{second}\n")
    search = SizeSearch(TOY, 2, WIDE, RunDir(tmp_path), 60.0)
    assert search.trials.keys() == {0, 1} and "line 2 is no row" in search.trial_log.damage


@pytest.mark.parametrize("text", ['{"a": 1}', "5", "[1]", '[{"size": "x"}]', "["])
def test_a_damaged_ladder_file_is_ignored(tmp_path, text):
    RunDir(tmp_path).ladder.write_text(text)
    assert read_ladder(RunDir(tmp_path)) == []


def test_a_profile_written_as_toml_is_read_back_unchanged():
    awkward = load_profile("toy", ['identity.a"b\\ü\x7f\n=x"y', 'train.write_gb_per_day=1e-3',
                                   'selfplay.tasks={"a/b.py:C"=4}'])
    assert from_dict(tomllib.loads(to_toml(awkward))) == awkward


SMALL = ("--set", "train.batch_size=1", "--set", "train.seq_len=32", "--set",
         "curriculum.tasks={copy=1.0}")
ONE_SIZE = ("--set=model.d_model=64", "--set=model.n_layers=4")


def scale(run_dir: Path, *options: str, fake: bool = True) -> list[str]:
    """The command; with cheap children unless they have to be real."""
    module = ["tests.support.fake_training", "--"] if fake else ["seed"]
    return [sys.executable, "-m", *module, "scale", "--run-dir", str(run_dir), "--threads=1",
            "--trial-seconds=1", "--json", *SMALL, *options]


def run(command: list[str], *namespace: str) -> subprocess.CompletedProcess:
    return subprocess.run([*namespace, *command], capture_output=True, text=True, timeout=600,
                          cwd=ROOT)


@pytest.mark.parametrize("number", [
    signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_stopped_search_reports_it_in_one_line_and_records_no_crash(tmp_path, number):
    process = subprocess.Popen(scale(tmp_path, "--trial-seconds=600"), stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True)
    try:
        wait_until((tmp_path / "trial/metrics.jsonl").exists, process)
        assert RunDir(tmp_path).attempt_log.exists()
        process.send_signal(number)
        errors = process.communicate(timeout=300)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130 and errors.endswith("seed: interrupted\n")
    assert "Traceback" not in errors and not RunDir(tmp_path).attempt_log.exists()


def test_a_search_without_free_memory_asks_to_retry_later(tmp_path):
    done = run(scale(tmp_path, "--set", "governor.min_available_mb=1e6"))
    assert done.returncode == RETRY_LATER and "no size is stable" in done.stderr, done.stderr
    assert not RunDir(tmp_path).trial_log.exists()


CGROUP = """
mount -t tmpfs none /sys/fs/cgroup
echo 157286400 >/sys/fs/cgroup/memory.max
"$@"
"""


def test_a_size_larger_than_the_board_s_memory_is_stored_and_not_tried_again(tmp_path):
    """With a real limit file of 150 MB, in a namespace."""
    ends = [run(scale(tmp_path), "unshare", "-rm", "sh", "-c", CGROUP, "sh") for _ in range(2)]
    for done in ends:
        assert done.returncode == 2 and "training is refused: " in done.stderr, done.stderr
    assert "trying 64x4" in ends[0].stderr and "trying" not in ends[1].stderr
    row = json.loads(RunDir(tmp_path).trial_log.read_text())
    assert row["outcome"] == Outcome.OUT_OF_MEMORY and row["steps"] == 0


def test_a_killed_search_leaves_nothing_running_and_resumes(tmp_path):
    """A child left running would slow the next trial."""
    speed = "--tokens-per-s=1e6"
    process = subprocess.Popen(scale(tmp_path, speed, "--trial-seconds=600"),
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "trial/metrics.jsonl").exists, process)
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    done = run(scale(tmp_path, speed))
    assert pids and done.returncode == 2 and "no size is stable: 64x4, 1x32: " in done.stderr
    assert "tokens/s are too few: 1,050,000 are needed" in done.stderr
    assert not RunDir(tmp_path).limit_profile.exists()
    rows = RunDir(tmp_path).trial_log.read_text()
    assert rows.count("\n") == 1 and json.loads(rows)["steps"] > 10
    again = run(scale(tmp_path, speed))
    assert again.returncode == 2 and RunDir(tmp_path).trial_log.read_text() == rows


BOOT = 'mount --bind "$1" /proc/sys/kernel/random/boot_id; shift; exec "$@"'


@pytest.mark.long
def test_a_size_during_which_the_board_crashed_twice_is_not_tried_again(tmp_path):
    """The search is killed as by a crash, and resumes with another boot ID in a namespace."""
    def booted(name: str) -> list[str]:
        (tmp_path / name).write_text(f"{name}\n")
        return ["unshare", "-rm", "sh", "-c", BOOT, "sh", str(tmp_path / name),
                *scale(tmp_path, "--trial-seconds=600")]   # longer than the test

    for name in ("first", "first", "second"):   # killed in the same boot: no crash
        process = subprocess.Popen(booted(name), stderr=subprocess.DEVNULL, cwd=ROOT)
        wait_until((tmp_path / "trial/profile.toml").exists, process)
        process.kill()
        process.communicate()
        (tmp_path / "trial/profile.toml").unlink()
    errors = run(booted("third")).stderr
    assert "no size is stable: 64x4, 1x32: the board crashed or rebooted 2 times" in errors
    row = json.loads(RunDir(tmp_path).trial_log.read_text())
    assert (row["outcome"], row["steps"]) == (Outcome.BOARD_CRASHED, 0)
    assert not RunDir(tmp_path).attempt_log.exists()


def test_a_search_of_one_size_writes_its_profile_and_its_ladder(tmp_path):
    done = run(scale(tmp_path, *ONE_SIZE, "--trial-seconds=4", fake=False))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    row, = report["ladder"]
    assert report["chosen"] == row["size"] == "64x4, 1x32" and row["fault"] == ""
    assert read_ladder(RunDir(tmp_path)) == report["ladder"]
    assert Size.of(load_profile(str(RunDir(tmp_path).limit_profile))) == (64, 4, 1, 32)
    text = run([part for part in scale(tmp_path, *ONE_SIZE) if part != "--json"]).stdout
    assert f" {row['peak_mb']:,.0f} MB (predicted " in text and "the ladder ends here" in text


@pytest.mark.long
def test_a_memory_limit_is_found_and_predictions_are_right(tmp_path):
    """The memory of these small rows is the weights' and the compiler's."""
    options = ("--memory=0.19", "--trial-seconds=3", "--set", "train.batch_size=2")
    done = run(scale(tmp_path, *options, fake=False))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    by_name = {row["size"]: row for row in report["ladder"]}
    chosen = by_name[report["chosen"]]
    assert chosen["fault"] == "" and chosen["peak_mb"] < 0.95 * 0.19 * 1024
    names = list(dict.fromkeys(str(s._replace(batch_size=2, seq_len=32)) for s in LADDER))
    above = by_name[names[names.index(report["chosen"]) + 1]]
    if "training is refused" in above["fault"]:
        width, layers = map(int, above["size"].split(",")[0].split("x"))
        refused = seed("train", "--run-dir", str(tmp_path / "above"), "--threads=1",
                       "--memory=0.19", *SMALL, f"--set=model.d_model={width}", *options[2:],
                       f"--set=model.d_ff={2 * width}", f"--set=model.n_layers={layers}")
        assert refused.returncode == 2 and "MB" in refused.stderr
    else:
        assert "MB" in above["fault"] and above["peak_mb"] > 0.95 * 0.19 * 1024
    for row in report["ladder"]:
        assert row["predicted_mb"] == pytest.approx(row["peak_mb"], rel=0.15)
    limit = Size.of(load_profile(str(RunDir(tmp_path).limit_profile)))
    assert str(limit) == report["chosen"]
    text = run([part for part in scale(tmp_path, *options) if part != "--json"]).stdout
    for row in report["ladder"]:
        assert row["tokens_s"] or row["fault"].startswith("it took more than")
        for measured, value, unit in ((row["peak_mb"], row["predicted_mb"], "MB"),
                                      (row["tokens_s"], row["predicted_tokens_s"], "tokens/s")):
            assert with_error(measured, value, unit) in text


def with_error(measured: float | None, predicted: float, unit: str) -> str:
    if measured is None:   # a size may exceed the limit before its second step
        return f" - {unit} (predicted {predicted:,.0f})"
    error = 100 * (predicted / measured - 1)
    return f" {measured:,.0f} {unit} (predicted {predicted:,.0f}, {error:+.0f} %)"


FULL = 'mount -t tmpfs -o size=300k none "$1"; shift; exec "$@"'


def test_a_full_disk_ends_the_search_and_is_not_stored(tmp_path):
    done = run(scale(tmp_path, fake=False), "unshare", "-rm", "sh", "-c", FULL, "sh", str(tmp_path))
    assert done.returncode == 75 and "No space left on device" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not RunDir(tmp_path).trial_log.exists()


def test_the_sizes_of_a_run_directory_s_brain_are_searched(tmp_path):
    untrained_run(tmp_path / "brain", "train.batch_size=8", "train.seq_len=256")
    done = seed("scale", "--dry-run", "--json", "--run-dir", str(tmp_path / "brain"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ladder"][0]["size"] == "64x4, 8x256"


HEAT = """
mount -t tmpfs none /sys/class/thermal
mkdir /sys/class/thermal/thermal_zone0
echo cpu-thermal >/sys/class/thermal/thermal_zone0/type
metrics=$1; end=$2; shift 2
t=50000; echo $t >/sys/class/thermal/thermal_zone0/temp
(until grep -qs '"kind": "step"' $metrics; do sleep 0.1; done
 while [ $t -lt $end ]; do sleep 0.25; t=$((t + 900))
                           echo $t >/sys/class/thermal/thermal_zone0/temp; done) &
"$@"; code=$?; kill $!; exit $code
"""


@pytest.mark.parametrize("end, seconds, code, low, high", [
    pytest.param(200, 1.5, 2, 75, 600, marks=pytest.mark.long), (68, 6, 0, 66, 73)])
def test_a_temperature_that_would_reach_the_limit_is_a_reason(tmp_path, end, seconds, code, low,
                                                              high):
    """With a real sensor file, in a namespace: it rises by 3.6 C per second from 50 C, or slower on
    a busy machine, up to 200 or to 68 C. A trial lasts up to five times its seconds."""
    done = run(scale(tmp_path, *ONE_SIZE, f"--trial-seconds={seconds}"), "unshare", "-rm", "sh",
               "-c", HEAT, "sh", str(tmp_path / "trial/metrics.jsonl"), str(1000 * end))
    assert done.returncode == code, done.stderr
    assert ("temperature would settle at" in done.stderr) == bool(code), done.stderr
    row = json.loads(RunDir(tmp_path).trial_log.read_text())
    assert 60 < row["max_temp_c"] <= row["settled_temp_c"] + 1
    assert low < row["settled_temp_c"] < high


@pytest.mark.parametrize("options, message", [
    (["--trial-seconds=0"], "--trial-seconds is 0.0: use 1 to 86400"),
    (["--set", "model.d_ff=64"], "model.d_ff cannot be set here"),
    (["--tokens-per-s=nan"], "--tokens-per-s is nan: use 0 to 1e+09"),
    (["--memory=0"], "--memory is 0.0: use 0.001 to 1e+06"),
    (["--profile", "none"], "profile 'none' not found")])
def test_bad_input_to_scale_is_one_line(tmp_path, options, message):
    done = seed("scale", "--run-dir", str(tmp_path), *options)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
