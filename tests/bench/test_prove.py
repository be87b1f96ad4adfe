"""A proof of this board: what it says, that it survives Ctrl-C, and when it does not begin. The
commands that it runs are stand-ins here; with -m long it runs the real ones."""
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from seed import system_health
from seed.bench import prove
from seed.bench.board_samples import BoardSamples
from seed.errors import ConfigError, NotEnoughMemory
from seed.live.shared_block import Block
from seed.system_health import Reading, Throttled
from seed.training.stop_signals import StopSignals
from tests.support.checkout import ROOT
from tests.support.fake_board import health

MAX_S = 900
COMMANDS = '''
import json, os, signal, sys, time
from pathlib import Path
from seed.live.shared_block import FIRST_LATENESS, FIRST_TICK_TIME, Block
folder, command = Path(__file__).parent, sys.argv[1]
run_dir = Path(sys.argv[sys.argv.index("--run-dir") + 1])
if (folder / "fails").exists():
    sys.exit(2)
def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.01)
if command == "train":
    rows = [{"kind": "body", "step": 1, "body": "cartpole", "round": 1, "mean_return": None},
            {"kind": "step", "step": 1, "loss": 9.0}]
    rows += [{"kind": "step", "step": n, "loss": 5.0 - n / 100} for n in range(2, 202)]
    rows += [{"kind": "eval", "step": 201, "scores": [
        {"task": "copy", "level": 1, "accuracy": n / 40, "correct": n, "count": 40, "chance": 0.1}
        for n in (20, 40)],
        "returns": [{"body": "cartpole", "mean": 487.5, "episodes": 100, "half_interval": 1.0,
                     "least": 400.0, "success": None}]}]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    status = {"beat": 1, "action": "slow", "reason": "77.0 C", "state": "training", "grade": 2,
              "tokens_per_s": 1234.5, "waited_s": 7, "skipped": 0, "rollbacks": 0}
    (run_dir / "status.json").write_text(json.dumps(status))
    if (folder / "hangs").exists():
        signal.signal(signal.SIGTERM, lambda *_: (folder / "saved").touch() or sys.exit(0))
        (folder / "training").touch()
        signal.pause()
    status.update(beat=2, action="run", state="finished")
    (run_dir / "status.json").write_text(json.dumps(status))
else:
    if (folder / "exports").exists():
        wait_for("exported")
    (run_dir / "live").mkdir(exist_ok=True)
    (run_dir / "live/lineage.jsonl").write_text(json.dumps({"decision": "first"}) + "\\n")
    block = Block.create(run_dir / "live")
    block["pid"], block["period_ns"], block["ticks"] = os.getpid(), 20_000_000, 1000
    block["worst_late_ns"], block["worst_tick_ns"], block["missed"] = 900_000, 2_000_000, 3
    for us in [60] * 990 + [800] * 10:
        block.count(FIRST_LATENESS, us)
        block.count(FIRST_TICK_TIME, 500)
    block["started_ns"] = time.monotonic_ns()
    wait_for("looked")
'''


@pytest.fixture
def proving(tmp_path, monkeypatch):
    """Proves with stand-ins on a board that a test decides: the exit code and the facts, if any."""
    (tmp_path / "commands.py").write_text(COMMANDS)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(prove, "seed_command", lambda *arguments: [
        sys.executable, str(tmp_path / "commands.py"), *arguments])
    monkeypatch.setattr(prove, "SAMPLE_S", 0.01)
    monkeypatch.setattr(system_health, "read", lambda folder: health(62.5))
    look = prove.Living.look

    def look_and_tell(living):
        look(living)
        if living._block and living._loop["is_real_time"] is not None:
            (tmp_path / "looked").touch()
    monkeypatch.setattr(prove.Living, "look", look_and_tell)
    cores = os.sched_getaffinity(0)
    signals, run_dir = StopSignals(), tmp_path / "proof"

    def run():
        code = prove.prove(Namespace(run_dir=run_dir, minutes=60.0, live_minutes=10.0, threads=1),
                           signals)
        path = run_dir / "proof.json"
        return code, json.loads(path.read_text()) if path.exists() else None
    yield run, signals, tmp_path
    os.sched_setaffinity(0, cores)


def test_a_proof_says_what_was_measured(proving, capsys):
    run, _, folder = proving
    code, facts = run()
    training, live = facts["training"], facts["live"]
    text = (folder / "proof/proof.md").read_text()
    assert code == 0 and facts["is_complete"] and not facts["ended"]
    assert training["curriculum_steps"] == 200 and training["body_rounds"] == 1
    assert training["loss_start"] == pytest.approx(5 - 0.115)
    assert training["loss_end"] == pytest.approx(5 - 1.915) and training["holdout"] == 0.75
    assert training["governor"] in ({"slow": "77.0 C"}, {})   # if it was seen in time
    assert live["lateness_us"] == {"p50": 64, "p99": 64, "p999": 896, "worst": 900}
    assert live["decisions"] == {"first": 1} and live["missed"] == 3
    assert training["board"]["hottest_c"]["value"] == 62.5
    for words in ("| board | ", "| hottest | 62.5 C |", "75.0% of 80 questions", "487.5 of 100",
                  "| throttle bits that were set | none; since boot: none |", "tokens/s",
                  "| lowest clock, of its maximum | unknown: input/output error |",
                  "64 / 64 / 896 / 900", "1,000 at 50 Hz", "complete"):
        assert words in text, text
    assert text in capsys.readouterr().out
    assert str(folder) not in text and os.uname().nodename not in text.split()


def test_a_proof_says_nothing_of_a_life_that_was_killed_before(proving):
    """Whose block is there until the next life has exported its brain."""
    run, _, folder = proving
    (folder / "exports").touch()
    (folder / "proof/live").mkdir(parents=True)
    before = Block.create(folder / "proof/live")
    for name in ("started_ns", "pid", "period_ns", "ticks", "missed"):
        before[name] = 7
    look, looks = prove.Living.look, []

    def look_again(living):
        look(living)
        looks.append(living)
        if len(looks) == 3:
            (folder / "exported").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prove.Living, "look", look_again)
        _, facts = run()
    assert (facts["live"]["ticks"], facts["live"]["missed"]) == (1000, 3)


def test_an_interrupted_proof_says_so_and_what_there_is(proving):
    run, signals, folder = proving
    (folder / "hangs").touch()
    look = prove.Training.look

    def interrupt(training):
        look(training)
        if (folder / "training").exists():
            signals.stop.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prove.Training, "look", interrupt)
        code, facts = run()
    assert code == 130 and (folder / "saved").exists() and not facts["is_complete"]
    assert facts["training"]["steps"] == 201 and facts["live"] is None
    text = (folder / "proof/proof.md").read_text()
    assert "**not complete: interrupted during training**" in text and "not begun" in text
    (folder / "hangs").unlink()   # the same command continues
    signals.stop.clear()
    assert run()[1]["is_complete"]


def test_a_training_that_does_not_begin_leaves_no_proof(proving):
    run, _, folder = proving
    (folder / "fails").touch()
    assert run() == (2, None)


@pytest.mark.parametrize("change, error, why", [
    ({"disk_free_mb": Reading(999.0)}, ConfigError, "999 MB of the disk .* needs 1,000; free"),
    ({"mem_available_mb": Reading(500.0)}, NotEnoughMemory, "500 MB of memory .* 1,000; end")])
def test_a_board_with_too_little_room_is_refused(proving, monkeypatch, change, error, why):
    run, _, folder = proving
    monkeypatch.setattr(system_health, "read", lambda folder: replace(health(), **change))
    with pytest.raises(error, match=why):
        run()
    assert not (folder / "proof").exists()


def test_extremes_are_kept_and_what_is_unknown_stays_so():
    samples, tree = BoardSamples(), Reading(100.0)
    for temp_c, bits in ((50.0, 0), (None, 0b10000), (71.0, 0b100 | 1 << 18), (60.0, 1 << 18)):
        samples.add(health(temp_c, bits), tree)
    facts = samples.facts()
    assert facts["hottest_c"]["value"] == 71.0 and facts["samples"] == 4
    assert facts["throttled"]["value"] == {"now": ["throttled"], "since_boot": ["throttled"]}
    unknown = BoardSamples()
    unknown.add(replace(health(None), throttled=Throttled(None, "no such file")), tree)
    facts = unknown.facts()
    assert facts["hottest_c"] == {"value": None, "reason": "input/output error"}
    assert facts["throttled"] == {"value": None, "reason": "no such file"}


@pytest.mark.long
def test_the_real_commands_run_to_the_end_and_ctrl_c_leaves_a_proof(tmp_path):
    command = ["bash", str(ROOT / "bin/prove.sh"), "--minutes=0.5", "--live-minutes=0.2",
               "--threads=1", f"--run-dir={tmp_path}/proof"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    status, ends_s = tmp_path / "proof/status.json", time.monotonic() + MAX_S
    while not (status.exists() and json.loads(status.read_text()).get("step", 0) > 10):
        assert time.monotonic() < ends_s and process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)   # as a terminal does
    output = process.communicate(timeout=MAX_S)[0]
    assert process.returncode == 130 and "**not complete: interrupted during training**" in output
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_S)
    facts = json.loads((tmp_path / "proof/proof.json").read_text())
    assert done.returncode == 0 and facts["is_complete"], done.stderr
    assert facts["live"]["ticks"] > 100 and facts["training"]["holdout"] is not None
    assert Path(tmp_path / "proof/proof.md").read_text() in done.stdout
