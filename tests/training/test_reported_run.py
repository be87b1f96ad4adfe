"""A run beside a robot: its health report, through the real loop, and what a run says of itself."""
import json
import os
import re
import time
from pathlib import Path

import pytest

from seed.errors import Diverged, StopReason
from seed.storage import RunDir
from seed.training import loop
from seed.training.session import Hooks
from seed.training.stop_signals import StopSignals
from tests.support.counting_learner import CountingLearner, metric_rows, small_profile
from tests.support.fake_board import FakeBoard, WarmingLearner, health
from tests.support.fake_clock import FakeClock
from tests.support.tiny_run import WAIT_S, start_tiny, wait_and_read_stderr


def run(folder: Path, *overrides: str, learner=None, board=None, sleep_fn=None):
    board = board or FakeBoard(FakeClock(), hot=60.0)
    profile = small_profile("curriculum.tasks={copy=1.0}", "train.eval_every_minutes=0", *overrides)
    hooks = Hooks(board.clock, read_health_fn=board.read_health, sleep_fn=sleep_fn or board.sleep)
    return loop.run(profile, RunDir(folder), learner or WarmingLearner(board), StopSignals(), hooks)


def status(folder: Path) -> dict:
    return json.loads(RunDir(folder).status.read_text())


@pytest.mark.parametrize("gate", ["", "governor.min_battery_percent=30"])
def test_a_robots_report_pauses_a_run_and_changes_no_bit(tmp_path, gate):
    report, board = tmp_path / "health.json", FakeBoard(FakeClock(), hot=60.0)
    bad = '"level": "ok", "battery_percent": 20' if gate else '"level": "critical"'
    report.write_text(f"{{{bad}}}")
    statuses = []

    def sleep(seconds: float) -> None:
        statuses.append(status(tmp_path / "paused"))
        board.sleep(seconds)
        if board.clock.now > 100:
            report.write_text('{"level": 0, "battery_percent": 31}')
    (tmp_path / "paused").mkdir()
    overrides = ["train.steps=40", f"governor.report_file={report}", *filter(None, [gate])]
    assert run(tmp_path / "paused", *overrides, board=board, sleep_fn=sleep).finished
    assert [row["action"] for row in metric_rows(tmp_path / "paused", "governor")] == [
        "pause", "run"]
    paused = statuses[-1]
    assert (paused["state"], paused["step"], paused["action"]) == ("paused", 0, "pause")
    assert paused["level"] == ("ok" if gate else "critical") and paused["reason"]
    (tmp_path / "plain").mkdir()
    run(tmp_path / "plain", *overrides[:1])
    weights = [RunDir(tmp_path / name).checkpoint.read_bytes() for name in ("paused", "plain")]
    assert weights[0][-4:] == weights[1][-4:]   # the learner's only number; the profiles differ


def test_a_robot_that_is_to_be_shut_down_saves_and_stops_the_run(tmp_path):
    report, board = tmp_path / "health.json", FakeBoard(FakeClock(), hot=60.0)
    report.write_text('{"level": "ok"}')

    class Learner(WarmingLearner):
        def step(self, batch, lr):
            if board.clock.now > 10:
                report.write_text('{"level": "stop", "reason": "shut down"}')
            return super().step(batch, lr)
    result = run(tmp_path, "train.steps=900", f"governor.report_file={report}", board=board,
                 learner=Learner(board))
    assert result.reason is StopReason.OUT_OF_MEMORY and 0 < result.step < 900
    assert status(tmp_path)["saved_step"] == result.step
    assert status(tmp_path)["state"] == "stopped"
    assert status(tmp_path)["reason"] == "the robot reports: shut down"


def test_the_status_is_that_of_the_step_the_board_and_the_governor(tmp_path):
    run(tmp_path, "train.steps=40")
    facts = status(tmp_path)
    expected = {"state": "finished", "pid": os.getpid(), "run_dir": str(tmp_path), "step": 40,
                "total_steps": 40, "saved_step": 40, "loss": 1.0, "grad_norm": 0.5, "ticks": 0,
                "grade": 1, "level": "ok", "action": "run", "duty": 1.0, "reason": "",
                "memory_mb": 500.0, "mem_available_mb": 4000.0, "disk_free_mb": 9000.0,
                "skipped": 0, "rollbacks": 0}
    assert {key: facts[key] for key in expected} == expected
    assert 40 < facts["temp_c"] < 61 and facts["tokens_per_s"] > 0 and facts["lr"] >= 0
    assert facts["beat"] == 4   # after 0, 10 and 20 s, as on a disk, and at the end
    assert len(RunDir(tmp_path).status.read_bytes()) < 1500


BOARD = ("temp_c", "memory_mb", "grade", "duty")


def test_a_line_of_a_step_tells_its_time_and_speed_and_each_few_seconds_the_board(tmp_path):
    began = time.time()
    run(tmp_path, "train.steps=40")   # half a second each
    rows = metric_rows(tmp_path, "step")
    assert all(began - 0.001 <= a["time"] <= b["time"] <= time.time() + 0.001
               for a, b in zip(rows, rows[1:]))
    assert {row["tokens_per_s"] for row in rows} == {256}
    told = [row for row in rows if "temp_c" in row]
    assert [row["step"] for row in told] == [1, 11, 21, 31]
    assert all({key: row[key] for key in BOARD[1:]} == {"memory_mb": 500, "grade": 1, "duty": 1.0}
               and 40 < row["temp_c"] < 61 for row in told)
    assert not [row for row in rows if row not in told and {*row} & {*BOARD}]


def test_every_key_of_a_line_is_on_the_page(tmp_path):
    run(tmp_path, "train.steps=300")
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    rows = [json.loads(line) for line in RunDir(tmp_path).metrics.read_text().splitlines()]
    assert {row["kind"] for row in rows} >= {"step", "curriculum", "eval", "save"}
    keys = {key for row in rows for key in row} | {*rows[-1]["scores"][0]}
    assert keys - set(re.findall(r"`(\w+)`", page)) == set()


def test_a_new_duty_and_a_sensor_that_cannot_be_read_are_in_the_next_line_of_a_step(tmp_path):
    board = FakeBoard(FakeClock(), hot=60.0)
    readings = iter([health(60)] * 2 + [health(78)] + [health(None)] * 99)
    board.read_health = lambda: next(readings)
    run(tmp_path, "train.steps=20", board=board)
    told = [row for row in metric_rows(tmp_path, "step") if "temp_c" in row]
    assert [(row["step"], row["temp_c"], row["duty"]) for row in told[:3]] == [
        (1, 60, 1.0), (5, 78, 0.7), (12, None, 0.7)]


def test_a_run_that_fails_says_so_and_one_whose_status_cannot_be_written_ends_well(tmp_path):
    with pytest.raises(Diverged):
        run(tmp_path, "train.steps=40", "train.max_rollbacks=0",
            learner=CountingLearner(bad=range(1, 40)))
    assert status(tmp_path)["state"] == "failed" and status(tmp_path)["skipped"] == 3
    (tmp_path / "other/status.json").mkdir(parents=True)
    assert run(tmp_path / "other", "train.steps=4").finished


def test_a_pause_is_in_the_status_at_once(tmp_path):
    board = FakeBoard(FakeClock(), hot=60.0)
    readings = iter([health(60)] * 3 + [health(85)] * 5 + [health(60)] * 99)
    board.read_health = lambda: next(readings)
    seen = []

    def sleep(seconds: float) -> None:
        board.sleep(seconds)
        seen.append(status(tmp_path))
    run(tmp_path, "train.steps=20", board=board, sleep_fn=sleep)
    assert (seen[0]["level"], seen[0]["temp_c"], seen[0]["state"]) == ("critical", 85.0, "paused")


def test_a_hanging_check_slows_a_real_run_and_a_kill_leaves_a_whole_status(tmp_path):
    place = tmp_path / "place"
    process = start_tiny(tmp_path / "run", f"--status-dir={place}",
                         "--set=governor.report_command=sleep 9",
                         "--set=governor.report_max_age_s=3", steps=10 ** 8)
    until = time.monotonic() + WAIT_S
    while "has not ended" not in reason(place):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    process.kill()
    assert wait_and_read_stderr(process).count("slow: no report from sleep 9") == 1
    facts = status(place)
    assert (facts["pid"], facts["state"], facts["duty"], facts["level"]) == (
        process.pid, "training", 0.7, "warn")
    assert (place / "heartbeat").read_text().startswith(f"{process.pid} ")


def reason(folder: Path) -> str:
    return status(folder)["reason"] if RunDir(folder).status.exists() else ""
