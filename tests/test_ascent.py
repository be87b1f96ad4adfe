"""An ascent: when a brain grows, into what, and that it goes on after a kill."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from seed.config import load_profile
from seed.curriculum.school import LAST
from seed.training import ascent, checkpoint, scaling
from seed.training.ascent import Plateau, next_size
from seed.training.metrics import Metrics
from seed.training.probe import Rung, base_of
from seed.training.scaling import LADDER
from test_scaling import tried

TOY = load_profile("toy")
NOTHING = (lambda profile: None)   # predicts no time


def asked(plateau: Plateau, losses, opened: int = LAST, first: int = 1) -> list[int]:
    """The steps at which it has said yes."""
    return [step for step, loss in enumerate(losses, first) if plateau(step, loss, opened)]


def test_a_brain_grows_when_its_loss_is_level_and_all_grades_are_open(tmp_path):
    fresh = (lambda: Plateau(tmp_path / "metrics.jsonl"))
    level, falling = [1.0] * 2000, [0.99 ** (i / 10) for i in range(2000)]
    assert asked(fresh(), level) == [1000, 1250, 1500, 1750, 2000]
    assert asked(fresh(), falling) == []
    assert asked(fresh(), falling[:1000] + [falling[999]] * 1000) == [2000]
    assert asked(fresh(), level, opened=LAST - 1) == []
    one = fresh()
    assert asked(one, level[:900], LAST - 1) == [] and asked(one, level[:1100], first=901) == [2000]


def test_a_resumed_ascent_asks_the_same_of_its_metrics(tmp_path):
    """What was before the last growth, and before the last grade was opened, does not count."""
    path = tmp_path / "metrics.jsonl"
    for exam, grown, counted in ((0, 0, 1200), (300, 0, 900), (300, 700, 500), (700, 300, 500)):
        path.unlink(missing_ok=True)
        metrics = Metrics(path, 0)
        for step in range(1, 1201):
            metrics.write("step", step, loss=1.0)
            if step == exam:
                metrics.write("exam", step, opened=LAST)
            if step == grown:
                metrics.write("grow", step, parameters=[1, 2])
        assert len(Plateau(path).losses) == counted


def test_it_grows_rung_by_rung_up_to_the_limit():
    limit = Rung(128, 6, 8, 200).of(TOY)
    sizes, profile = [], Rung(64, 4, 8, 128).of(TOY)
    while (grown := next_size(profile, limit, 1e9, NOTHING)):
        profile = grown
        sizes.append(ascent.rung_of(profile))
    assert sizes == [(64, 6, 8, 128), (96, 6, 8, 128), (128, 6, 8, 128), (128, 6, 8, 160),
                     (128, 6, 8, 192), (128, 6, 8, 200)]
    assert profile.curriculum == TOY.curriculum and profile.model.d_ff == 256


def test_it_does_not_grow_into_what_the_time_cannot_feed():
    limit, now = LADDER[3].of(TOY), LADDER[0].of(TOY)
    need_s = 60 * 334_816 / 2048 * 0.05           # of the next rung, at 50 ms a step
    assert next_size(now, limit, 1.01 * need_s, lambda profile: 0.05) == LADDER[1].of(TOY)
    assert next_size(now, limit, 0.99 * need_s, lambda profile: 0.05) is None


SIZE = {"model.d_model": 64, "train.batch_size": 1, "train.seq_len": 32}
LESSONS = ["curriculum.tasks={copy=1.0}", "curriculum.exam_every=0", "train.lr=0",
           "curriculum.holdout_items=4", *(f"{key}={value}" for key, value in SIZE.items())]


def remembered(run_dir) -> None:
    """A search that has been: four and six layers are stable, eight are not."""
    base = base_of(load_profile("toy", LESSONS))
    rows = [tried(Rung(64, layers, 1, 32), base=base, threads=1, step_s=1e-6,
                  skipped=int(layers == 8)) for layers in (4, 6, 8)]
    (run_dir / scaling.NAME).write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def test_a_killed_ascent_grows_once_and_ends_with_profile_and_report(tmp_path):
    remembered(tmp_path)
    command = [sys.executable, "-m", "seed", "ascend", "--run-dir", str(tmp_path), "--threads=1",
               "--minutes=0.8", "--json", *(f"--set={text}" for text in LESSONS)]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        metrics, until = tmp_path / "metrics.jsonl", time.monotonic() + 60
        while '"grow"' not in (metrics.read_text() if metrics.exists() else ""):
            said = (tmp_path / "log").read_text()
            assert process.poll() is None and time.monotonic() < until, said
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["parameters"] for row in rows if row["kind"] == "grow"] == [[234680, 334816]]
    steps = [row["step"] for row in rows if row["kind"] == "step"]
    assert steps == list(range(1, found["step"] + 1))
    brain = load_profile(str(tmp_path / "brain.toml"))
    assert ascent.rung_of(brain) == (64, 6, 1, 32) == ascent.rung_of(
        load_profile(str(tmp_path / "limit.toml")))
    assert checkpoint.read(tmp_path / checkpoint.NAME).meta["profile"]["model"]["n_layers"] == 6
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Ladder</h2>" in page and "334,816 parameters" in page
    assert "1 steps were not finite" in page


@pytest.mark.parametrize("options, says", [
    (["--minutes=0"], "--minutes is 0.0: use 0.1 to 1000000"),
    (["--probe-seconds=0"], "--probe-seconds is 0.0")])
def test_bad_input_to_ascend_is_one_line(tmp_path, options, says):
    done = subprocess.run([sys.executable, "-m", "seed", "ascend", "--run-dir", str(tmp_path),
                           *options], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
