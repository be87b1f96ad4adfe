"""The loop's decisions, with a learner that only counts and a clock that the test moves."""
import io

import pytest

from seed.errors import ConfigError, Diverged, StopReason
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.storage.metrics import Metrics
from seed.terminal.screen import Screen
from seed.terminal_text import duration
from seed.training import loop
from seed.training.session import Hooks
from seed.training.schedule import Plan, lr_at, replan
from seed.training.stop_signals import StopSignals
from seed.wavecore.decode import Rollout
from tests.support.counting_learner import CountingLearner, metric_rows, small_profile
from tests.support.fake_clock import FakeClock


def run(folder, learner, *overrides, signals=None, **hooks):
    return loop.run(small_profile(*overrides), RunDir(folder), learner, signals or StopSignals(),
                    Hooks(learner.clock, **hooks))


def test_a_run_by_steps_ends_there_with_the_rate_near_zero_and_a_last_checkpoint(tmp_path):
    learner = CountingLearner()
    result = run(tmp_path, learner, "train.steps=10", "train.lr=0.01")
    assert result.finished and result.step == 10 and result.scores
    assert learner.rates == pytest.approx([0.01] * 8 + [0.01, 0.005])
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == 10
    assert [row["step"] for row in metric_rows(tmp_path, "step")] == list(range(1, 11))


def test_the_time_left_is_estimated_without_the_first_step_which_compiles(tmp_path):
    clock, out = FakeClock(), io.StringIO()
    learner = CountingLearner(clock, seconds=1.0)
    learn = learner.step

    def step(batch, lr):
        clock.now += 0 if learner.calls else 600
        return learn(batch, lr)
    learner.step = step
    run(tmp_path, learner, "train.steps=100", "curriculum.eval_every_steps=0",
        screen=Screen(clock, out))
    shown = [line for line in out.getvalue().splitlines() if "tokens/s" in line]
    assert len(shown) > 5 and "left" not in shown[0]
    for line in shown[1:]:
        number = int(line.split("/")[0].split()[1])
        assert f"  {duration(100 - number)} left" in line


def test_a_run_by_minutes_is_planned_in_steps_when_its_constant_part_is_over(tmp_path):
    learner = CountingLearner(seconds=0.5)
    result = run(tmp_path, learner, "train.steps=0", "train.minutes=1")
    assert result.step == 120  # 48 s are reached at step 96, the plan is made at step 100
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["plan"] == {
        "decay_start": 100, "total_steps": 120}


def test_a_run_that_has_become_slower_still_ends_in_its_time(tmp_path):
    """As after growth: at step 100 ten seconds are over, and a step takes ten times as long."""
    calls = []

    def early_stop(*arguments) -> bool:
        calls.append(arguments)
        return arguments[0] == 100
    minute = ("train.steps=0", "train.minutes=1")
    first = run(tmp_path, CountingLearner(seconds=0.1), *minute, early_stop_fn=early_stop)
    assert (first.step, first.reason) == (100, StopReason.STOPPED_EARLY)
    assert calls == [(step, 1.0, 1) for step in range(1, 101)]
    calls.clear()
    learner = CountingLearner(seconds=1.0)
    last = run(tmp_path, learner, *minute, early_stop_fn=early_stop)
    assert last.finished and learner.clock.now == pytest.approx(50, abs=1)
    assert len(calls) == 40   # of 50 steps, until the rate decays


def test_an_early_stop_ends_the_run_as_soon_as_its_step_is_saved(tmp_path):
    """Otherwise a brain would grow at another step because a save failed."""
    obstacle, waits = RunDir(tmp_path).previous_checkpoint, []

    def early_stop(step: int, *_) -> bool:
        if step == 30:
            obstacle.mkdir()
        return step == 30

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            obstacle.rmdir()
    result = run(tmp_path, CountingLearner(), "train.steps=60", early_stop_fn=early_stop,
                 sleep_fn=sleep)
    assert (result.step, result.reason) == (30, StopReason.STOPPED_EARLY) and len(waits) == 3
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == 30


def test_a_finished_run_that_is_given_more_minutes_trains_on(tmp_path):
    minute = ("train.steps=0", "train.minutes=1")
    first = run(tmp_path, CountingLearner(seconds=0.5), *minute)
    assert first.finished and run(tmp_path, CountingLearner(seconds=0.5), *minute).step == 120
    more = run(tmp_path, CountingLearner(seconds=0.5), "train.steps=0", "train.minutes=3")
    assert more.finished and more.step == 360


def test_a_nonfinite_step_is_skipped_and_counted_and_the_next_is_taken(tmp_path):
    learner = CountingLearner(bad=[3])
    result = run(tmp_path, learner, "train.steps=6", "train.decay_fraction=0.0")
    assert result.step == 6 and len(learner.rates) == 5
    assert [row["step"] for row in metric_rows(tmp_path, "skip")] == [3]
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["skipped"] == 1


def test_three_nonfinite_steps_in_a_row_roll_back_at_half_the_rate(tmp_path):
    learner = CountingLearner(bad=[3, 4, 5])
    result = run(tmp_path, learner, "train.steps=6", "train.decay_fraction=0.0", "train.lr=0.01")
    assert result.step == 6
    assert learner.rates == [0.01] * 2 + [0.005] * 6  # back to the checkpoint of step 0
    assert learner.value[0] == pytest.approx(0.03)


def at_calls(learner: CountingLearner, **actions) -> CountingLearner:
    """`learner` with an action before its step of that number: `n3=...` before the third."""
    step = learner.step

    def act_and_step(*batch):
        actions.get(f"n{learner.calls + 1}", lambda: None)()
        return step(*batch)
    learner.step = act_and_step
    return learner


def test_a_stop_after_a_rollback_to_the_previous_generation_saves(tmp_path):
    signals, newest = StopSignals(), RunDir(tmp_path).checkpoint
    learner = at_calls(CountingLearner(bad=[6, 7, 8]), n4=signals.save.set,
                       n6=lambda: newest.write_bytes(b"damaged"), n10=signals.stop.set)
    result = run(tmp_path, learner, "train.steps=20", signals=signals)
    assert (result.step, result.reason) == (2, StopReason.STOPPED)   # since the save of step 0
    assert checkpoint.read(newest).meta["step"] == 2


@pytest.mark.parametrize("stop_at", [3, 4, 5])
def test_a_stop_amid_nonfinite_steps_forgets_neither_them_nor_the_rollback(tmp_path, stop_at):
    signals, bad = StopSignals(), [3, 4, 5]
    learner = at_calls(CountingLearner(bad=bad), **{f"n{stop_at}": signals.stop.set})
    options = ("train.steps=20", "train.decay_fraction=0.0", "train.lr=0.01")
    assert run(tmp_path, learner, *options, signals=signals).reason is StopReason.STOPPED
    resumed = CountingLearner(bad=[n - stop_at for n in bad])
    assert run(tmp_path, resumed, *options).finished
    assert set(resumed.rates) == {0.005}


def test_a_run_that_stays_nonfinite_ends_with_the_fix_in_its_error(tmp_path):
    learner = CountingLearner(bad=range(3, 1000))
    with pytest.raises(Diverged, match=r"not finite at step \d+ \(2 rollbacks\): lower train.lr"):
        run(tmp_path, learner, "train.steps=50", "train.max_rollbacks=2")
    assert learner.calls == 2 + 3 * 3


def test_a_stop_saves_and_the_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = CountingLearner()
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", whole, "train.steps=10")
    (tmp_path / "parts").mkdir()
    for stop_at in (3, 7, None):
        signals = StopSignals()
        parts = CountingLearner()
        step = parts.step

        def stopping(batch, lr, at=stop_at, step=step, signals=signals):
            result = step(batch, lr)
            if parts.calls == at:
                signals.stop.set()
            return result
        parts.step = stopping
        result = run(tmp_path / "parts", parts, "train.steps=10", signals=signals)
        assert result.finished == (stop_at is None)
    assert RunDir(tmp_path / "whole").checkpoint.read_bytes() == \
        RunDir(tmp_path / "parts").checkpoint.read_bytes()
    assert [row["step"] for row in metric_rows(tmp_path / "parts", "step")] == list(range(1, 11))


def test_steps_after_the_last_save_are_cut_from_the_metrics_of_a_crashed_run(tmp_path):
    learner = CountingLearner()
    step = learner.step

    def crashing(*batch):
        if learner.calls == 4:
            raise KeyboardInterrupt
        return step(*batch)
    learner.step = crashing
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, learner, "train.steps=6")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "st')  # what a power cut leaves
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1 + 4 + 1
    run(tmp_path, CountingLearner(), "train.steps=6")
    assert [row["step"] for row in metric_rows(tmp_path, "step")] == list(range(1, 7))


@pytest.mark.parametrize("last", [False, True])
def test_a_stop_during_an_evaluation_saves_and_the_next_run_ends_the_same(tmp_path, last):
    """`last`: during the one after the final step, when the brain is saved already."""
    signals, learner = StopSignals(), CountingLearner(seconds=30)
    options = ["train.steps=6", f"train.eval_every_minutes={0.0 if last else 1.5}"]
    forward = learner.forward

    def stopping(tokens, cu_seqlens):
        signals.stop.set()
        return forward(tokens, cu_seqlens)
    learner.forward = stopping
    result = run(tmp_path, learner, *options, signals=signals)
    assert not result.finished and not result.scores
    assert result.step == (6 if last else 4)
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == result.step
    again = run(tmp_path, CountingLearner(seconds=30), *options)
    assert again.finished and again.scores
    assert [row["step"] for row in metric_rows(tmp_path, "step")] == list(range(1, 7))


def test_a_request_to_save_saves_and_the_run_continues(tmp_path):
    signals = StopSignals()
    signals.save.set()
    run(tmp_path, CountingLearner(), "train.steps=3", signals=signals)
    assert [row["step"] for row in metric_rows(tmp_path, "save")] == [0, 0, 3]


def test_a_curriculum_evaluation_that_is_repeated_is_logged_once(tmp_path):
    """The run saved before the evaluation of its step, and was killed after it."""
    learner, signals = CountingLearner(), StopSignals()
    step = learner.step

    def saving_then_crashing(*batch):
        if learner.calls == 3:
            signals.save.set()
        if learner.calls == 4:
            raise KeyboardInterrupt
        return step(*batch)
    learner.step = saving_then_crashing
    options = ("train.steps=6", "curriculum.eval_every_steps=4", "curriculum.eval_items=1")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, learner, *options, signals=signals)
    assert [row["step"] for row in metric_rows(tmp_path, "curriculum")] == [4]
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == 4
    run(tmp_path, CountingLearner(), *options)
    assert [row["step"] for row in metric_rows(tmp_path, "curriculum")] == [4]


def test_metrics_that_cannot_be_written_warn_once_and_take_little_memory(
        tmp_path, monkeypatch):
    warnings = []
    metrics = Metrics(tmp_path / "gone/metrics.jsonl", 0, warnings.append)
    monkeypatch.setattr("seed.storage.metrics.MAX_PENDING_CHARS", 150)
    for i in range(50):
        metrics.write("step", i, loss=1.0)
    assert len(warnings) == 1 and "No such file or directory" in warnings[0]
    assert 150 < len(metrics.pending) < 250
    (tmp_path / "gone").mkdir()
    metrics.write("step", 50)
    assert not metrics.pending and (tmp_path / "gone/metrics.jsonl").read_text().count("\n") == 3


def test_a_changed_profile_is_refused_by_key(tmp_path):
    run(tmp_path, CountingLearner(), "train.steps=2")
    before = RunDir(tmp_path).checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="train.lr is 0.5"):
        run(tmp_path, CountingLearner(), "train.steps=2", "train.lr=0.5")
    assert RunDir(tmp_path).checkpoint.read_bytes() == before


def test_a_run_from_before_there_were_loops_resumes_and_may_get_one_or_lose_it(tmp_path):
    def stored():
        return checkpoint.read(RunDir(tmp_path).checkpoint).meta["profile"].get("loop")
    run(tmp_path, CountingLearner(), "train.steps=2")
    assert stored() is None
    loop_of_fast = ("loop.rate_hz=100", "loop.max_tick_ms=5")
    assert run(tmp_path, CountingLearner(), "train.steps=4", *loop_of_fast).step == 4
    assert stored() == {"rate_hz": 100.0, "max_tick_ms": 5.0}
    assert run(tmp_path, CountingLearner(), "train.steps=6").step == 6
    assert stored() is None


def test_self_play_may_begin_and_end_in_a_resumed_run_which_logs_that(tmp_path):
    class Player(CountingLearner):
        def rollout(self, prompts, longest, temperature, seed, index):
            return [Rollout(b"1", True, 0.0, 1.0, 0.9) for _ in prompts]
    run(tmp_path, Player(FakeClock()), "train.steps=20")
    out = io.StringIO()
    clock = FakeClock()
    run(tmp_path, Player(clock), "train.steps=50", "selfplay.tasks={parity=4}",
        "selfplay.every_steps=10", "selfplay.questions=4", screen=Screen(clock, out))
    assert "selfplay.tasks is {'parity': 4} from step 20 on; it was {}" in out.getvalue()
    assert "selfplay.every_steps is 10 from step 20 on; it was 100" in out.getvalue()
    assert [row["step"] for row in metric_rows(tmp_path, "selfplay")] == [20, 30, 40]
    run(tmp_path, Player(clock), "train.steps=70", screen=Screen(clock, out))
    assert "selfplay.tasks is {} from step 50 on; it was {'parity': 4}" in out.getvalue()
    assert [row["step"] for row in metric_rows(tmp_path, "selfplay")] == [20, 30, 40]


def test_no_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give --steps or --minutes"):
        run(tmp_path, CountingLearner(), "train.steps=0", "train.minutes=0")


def test_the_rate_warms_up_stays_and_decays_to_zero():
    config = load_profile("toy", ["train.warmup_steps=4", "train.lr=0.4", "train.minutes=0",
                                  "train.steps=20", "train.decay_fraction=0.2"]).train
    plan = replan(config, Plan(), 0, 0.0, None)
    rates = [lr_at(config, plan, step) for step in range(20)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert rates[15:] == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.1])
    assert replan(config, Plan(), 20, 1.0, 1.0) != Plan()


def test_periodic_saves_keep_to_the_daily_budget_and_requested_ones_never_wait(tmp_path):
    learner = CountingLearner()
    fast = ("train.save_every_minutes=0.0167", "train.write_gb_per_day=0.01",
            "train.eval_every_minutes=0")
    run(tmp_path, learner, "train.steps=600", *fast)
    sizes = [row["bytes"] for row in metric_rows(tmp_path, "save")]
    every_s = sizes[0] * 86400 / 0.01e9
    assert 3 < every_s < 60 and 0.8 * 600 / every_s < len(sizes) < 1.1 * 600 / every_s + 2

    requested, signals = tmp_path / "requested", StopSignals()
    requested.mkdir()
    learner = CountingLearner()
    step = learner.step

    def step_and_request(*args):
        if learner.calls % 10 == 0:
            signals.save.set()
        return step(*args)
    learner.step = step_and_request
    run(requested, learner, "train.steps=100", *fast, signals=signals)
    assert [row["step"] for row in metric_rows(requested, "save")] == [0, *range(1, 100, 10), 100]
