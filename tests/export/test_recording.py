"""A robot records what it does as the trainer would, whatever becomes of its disk and its power."""
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from seed.__main__ import main
from seed.body.episodes import EpisodeFolder, EpisodeWriter, Recorder as TrainersRecorder
from seed.body.open_body import BODIES
from seed.errors import NO_ROOM, REFUSED
from seed.evaluation import TrainedBrain
from seed.export.brain_file import BrainFile, Options
from seed.runtime import Brain, BrainError, Recorder, recording
from seed.storage import RunDir
from tests.support.acting_brains import NAMES, file_of, untrained
from tests.support.fake_clock import FakeClock
from tests.support.tflite import ROOT, old_python

METADATA = {"body": "lamp", "rate_hz": 10, "recorded_by": "a test",
            "observation": {"low": [0.0, None], "high": [1.0, None]}, "action": {"n": 2}}


@pytest.fixture(scope="module")
def trained() -> TrainedBrain:
    return untrained()


@pytest.fixture
def brain(trained, tmp_path) -> Brain:
    brain = file_of(trained, tmp_path)
    brain.begin("cartpole")
    return brain


def steps_of(folder) -> list:
    return list(EpisodeFolder(folder).steps())


def play(brain: Brain, name: str, episodes: int, tick_fn=lambda *_: None) -> None:
    """Each with its own draws; `tick_fn` gets what the trainer records."""
    body = BODIES[name]()
    for episode in range(episodes):
        observation, reward, ends = body.reset(seed=episode)[0], 0.0, False
        brain.begin(name)
        while not ends:
            action = brain.act(observation, reward, explore=episode)
            before = observation
            observation, reward, is_terminal, is_cut, _ = body.step(action)
            ends = is_terminal or is_cut
            tick_fn(before, brain.bodies[name].choices, reward, observation, ends, is_terminal)
        brain.end(observation, reward, is_terminal)


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_recorded_as_the_trainer_records_the_same_actions(trained, brain, tmp_path,
                                                                        name):
    codec = trained.bodies[name].codec
    expected = TrainersRecorder(EpisodeWriter(tmp_path / "trainer", codec, BODIES[name].rate_hz,
                                              "a test"), 1)

    def tick(observation, choices, reward, after, ends, is_terminal):
        expected.add(0, observation, choices, reward)
        if ends:
            expected.end(0, after, is_terminal)
    brain.record(tmp_path / "robot", name)
    play(brain, name, 3, tick)
    brain.record(None, name)
    expected.writer.close()
    data = (tmp_path / "robot/episodes-00000.jsonl").read_bytes()
    assert data == (tmp_path / "trainer/episodes-00000.jsonl").read_bytes() and len(data) > 1000
    robot, trainer = (EpisodeFolder(tmp_path / which) for which in ("robot", "trainer"))
    assert (robot.codec, robot.rate_hz) == (trainer.codec, trainer.rate_hz)
    EpisodeWriter(tmp_path / "robot", codec, BODIES[name].rate_hz, "a test").close()   # the same
    brain.record(tmp_path / "trainer", name)                                          # and back


def test_a_drawn_action_is_the_one_that_the_trainer_draws(trained, brain):
    for name in NAMES:
        codec, drawn = trained.bodies[name].codec, []
        columns = np.concatenate([np.arange(head.start, head.start + head.width)
                                  for head in codec.body.control.heads])
        brain.begin(name)
        seen, rngs = np.zeros(len(codec.channels)), [np.random.default_rng(7) for _ in range(2)]
        for t in range(60):   # a generator, then a seed
            brain.act(seen, explore=rngs[0] if t < 30 else 7)
            if t == 30:
                rngs[1] = np.random.default_rng(7)
            logits = np.zeros((1, codec.body.control.rows), np.float32)
            logits[0, columns] = brain.control_logits
            drawn.append(brain.bodies[name].choices)
            assert np.array_equal(codec.sample(logits, rngs[1])[1][0], drawn[-1])
        assert len({tuple(choices) for choices in drawn[-20:]}) > 1
        brain.act(seen, explore=8)   # and 7 begins anew
    for wrong in (True, -1, 1.5, "x", 2 ** 64):
        with pytest.raises(BrainError, match="^explore is .*: use"):
            brain.act(seen, explore=wrong)


def test_a_brain_learns_from_what_its_file_has_recorded(tmp_path, capsys):
    small = [f"--set={key}" for key in (
        "model.d_model=32", "model.d_ff=32", "model.n_layers=1", 'model.pattern="S"',
        "model.sliding_window=4", "body.rows=4", "body.ticks=16", "body.chunk=8")]
    run_dir = [f"--run-dir={tmp_path / 'run'}", "--threads=1"]
    assert main(["train", "--body=cartpole", "--steps=1", *run_dir, *small]) == 0
    ends = [line.split() for line in capsys.readouterr().out.splitlines()]
    run = str(tmp_path / "run")
    assert [words[-2:] for words in ends if words[:3] == ["see", "it", "act"]] == [["play", run]]
    assert [words[-2:] for words in ends if words[:3] == ["put", "on", "robot"]] == [
        ["export", run]]
    (tmp_path / "brain.tflite").write_bytes(
        BrainFile(TrainedBrain.load(RunDir(tmp_path / "run")), Options()).tobytes())
    brain = Brain(tmp_path / "brain.tflite")
    brain.record(tmp_path / "data")
    play(brain, "cartpole", 9)
    brain.record(None)
    data = f"--data={tmp_path / 'data'}"
    assert main(["adapt", data, "--steps=1", *run_dir]) == REFUSED   # a model of one step
    assert "a model of it explains 0.0 % of the rewards" in capsys.readouterr().err
    assert main(["train", data, "--steps=1", "--json", f"--run-dir={tmp_path / 'new'}",
                 "--threads=1", *small]) == 0
    row, = json.loads(capsys.readouterr().out)["choices"]
    assert row["body"] == "cartpole" and row["ticks"] > 5


def test_a_robot_without_a_brain_records_with_its_runtime_alone(tmp_path):
    """In an environment with numpy only, whose program ends without closing anything."""
    shutil.copytree(ROOT / "seed/runtime", tmp_path / "robot/runtime",
                    ignore=shutil.ignore_patterns("__pycache__"))
    lines = ["import numpy as np", "from runtime import Recorder",
             f"recorder = Recorder('data', {METADATA!r})",
             "for t in range(4):", "    recorder.tick([t / 4, np.float32(t)], np.int64(t % 2), t)",
             "recorder.end([1, 4], 4, is_terminal=True)", "recorder.tick([0, 0], True)",
             "recorder.tick([0, 1], [0], 0.5)"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([old_python(), "-c", "\n".join(lines)], capture_output=True, text=True,
                          cwd=tmp_path / "robot", timeout=60, env=env)
    assert done.returncode == 0 and not done.stderr, done
    steps = steps_of(tmp_path / "robot/data")
    assert [step.observation for step in steps[:5]] == [[t / 4, t] for t in range(5)]
    assert [step.reward for step in steps[:5]] == [1, 2, 3, 4, 0] and steps[4].is_terminal
    assert [step.choices for step in steps[:5]] == [[0], [1], [0], [1], None]
    assert len(steps) == 5   # of the second episode there is no step that has another behind it


def test_an_episode_without_an_end_is_cut_where_the_next_one_begins(brain, tmp_path):
    brain.record(tmp_path / "data", "cartpole")
    for t in range(3):
        brain.act([t / 10, 0, 0, 0], 1.0)
    brain.begin("rover")   # which is not recorded
    brain.act(np.zeros(13))
    brain.begin("cartpole")
    brain.act(np.zeros(4))   # one tick: nothing followed
    brain.save_state(tmp_path / "state")
    brain.load_state(tmp_path / "state")
    for _ in range(2):
        brain.act(np.zeros(4))
    brain.record(None, "cartpole")
    steps = steps_of(tmp_path / "data")
    assert [step.is_last for step in steps] == [False, False, True, False, True]
    assert [step.is_first for step in steps] == [True, False, False, True, False]
    assert not any(step.is_terminal for step in steps)


def test_numbers_that_are_absent_are_recorded_as_the_last_ones(brain, tmp_path):
    brain.record(tmp_path / "data", "cartpole")
    brain.act([None, 1, 0.1, 0])
    brain.act([0.5, np.nan, 1e308, 1e308])
    brain.end([np.inf, None, 0, 9])
    brain.record(None, "cartpole")
    assert [step.observation for step in steps_of(tmp_path / "data")] == [
        [0, 1, 0.1, 0], [0.5, 1, 1e308, 1e308], [0.5, 1, 0, 9]]


def test_timing_ticks_records_none_of_them(trained, tmp_path):
    brain = file_of(trained, tmp_path)
    brain.loop = {"rate_hz": 100.0, "max_tick_ms": 5.0}
    brain.begin("rover")
    brain.record(tmp_path / "data", "rover")
    brain.act(np.zeros(13))
    brain.act(np.zeros(13))
    brain.time_ticks(lambda: 0.0, lambda pause_s: None)
    assert brain.recorders["rover"]
    brain.record(None, "rover")
    assert len(steps_of(tmp_path / "data")) == 2


@pytest.mark.parametrize("change, message", [
    ({"body": "fan"}, "has episodes of another body"), ({"rate_hz": 11}, "or at another rate"),
    ({"action": {"n": 3}}, "has episodes of another body"), ({"body": {1}}, "metadata of .* is"),
    ({"observation": {"low": [0]}}, "metadata of .* is"), ({"codec": {}}, "is wrong")])
def test_a_directory_has_one_body_and_a_wrong_one_is_refused(tmp_path, change, message):
    Recorder(tmp_path, METADATA).close()
    Recorder(tmp_path, {**METADATA, "rate_hz": 1 / 0.0999}).close()
    with pytest.raises(BrainError, match=message) as error:
        Recorder(tmp_path, {**METADATA, **change})
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["metadata.json"]


def test_what_cannot_be_recorded_is_refused(brain, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "metadata.json").write_text("?")
    for folder, message in (("file", "File exists"), ("file/x", "Not a directory"),
                            (".", "is no metadata of episodes")):
        with pytest.raises(BrainError, match=message):
            brain.record(tmp_path / folder, "cartpole")
    for call in (lambda: brain.record(tmp_path / "x"), lambda: brain.record(5, "cartpole")):
        with pytest.raises(BrainError, match="name one of cartpole, rover|the path is 5"):
            call()
    recorder = Recorder(tmp_path / "data", METADATA)
    for arguments in (([0, 0], np.nan), ([0, 0], "x"), ([0, 0], None), ([0], 1), ("x", 1),
                      ([0, 0], 1, np.nan), ([0, 0], 1, 1e7), ([0, 0], 1, None)):
        with pytest.raises(BrainError):
            recorder.tick(*arguments)
    with pytest.raises(BrainError, match="give 2 numbers"):
        recorder.end([1])
    recorder.close()
    brain.record(tmp_path / "acts", "cartpole")
    with pytest.raises(BrainError, match="reward is inf: give a number within 1e"):
        brain.act(np.zeros(4), np.inf)


KILLED = f"""
import itertools, sys
from seed.runtime import Recorder, recording
recording.PERIOD_S = 0.01
recorder = Recorder(sys.argv[1], {METADATA!r})
for t in itertools.count():
    recorder.tick([t % 7 / 7, t], t % 2, t)
    if t % 50 == 49:
        recorder.end([0, t], t, True)
"""


@pytest.mark.parametrize("n_bytes", [1, 10 ** 5, 10 ** 6])
def test_a_robot_that_is_killed_leaves_what_was_written_whole(tmp_path, n_bytes):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "data")], cwd=ROOT)
    path = tmp_path / "data/episodes-00000.jsonl"
    while not path.exists() or path.stat().st_size < n_bytes:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    steps = steps_of(tmp_path / "data")
    ticks = [step.observation[1] for step in steps if not step.is_last]
    assert ticks == list(range(len(ticks))) and len(ticks) >= n_bytes // 250
    assert Recorder(tmp_path / "data", METADATA).error == ""   # it boots again


FULL = 'mount -t tmpfs -o size=64k none "$1"; shift; exec "$@"'
FILLED = """
import sys, time
from seed.runtime import Brain, recording
recording.PERIOD_S = 0.01
brain = Brain(sys.argv[1])
brain.begin("cartpole")
brain.record(sys.argv[2] + "/data", "cartpole")
acted = 0
while not brain.recorders["cartpole"].error:
    brain.act([acted % 9 / 9, 0, 0, 0], 1.0)
    acted += 1
for _ in range(100):
    brain.act([0, 0, 0, 0], 1.0)
brain.end([0, 0, 0, 0], 1.0)
brain.record(sys.argv[2] + "/more", "cartpole")   # neither can this begin
brain.act([0, 0, 0, 0], 1.0)
brain.record(None, "cartpole")
from seed.body.episodes import EpisodeFolder
print(acted, len(list(EpisodeFolder(__import__("pathlib").Path(sys.argv[2] + "/data")).steps())))
"""


def test_a_full_disk_stops_the_recording_and_not_the_robot(brain, tmp_path):
    (tmp_path / "disk").mkdir()
    done = subprocess.run(["unshare", "-rm", "sh", "-c", FULL, "sh", str(tmp_path / "disk"),
                           sys.executable, "-c", FILLED, brain.name, str(tmp_path / "disk")],
                          capture_output=True, text=True, timeout=120, cwd=ROOT)
    acted, steps = map(int, done.stdout.split())
    assert done.returncode == 0 and acted >= steps > 200
    reports = [line for line in done.stderr.splitlines() if "No space left on device" in line]
    assert len(reports) == 2 and "Traceback" not in done.stderr, done.stderr
    assert "nothing more is recorded: call record again when the disk can be written" in reports[0]


def test_what_is_a_full_disk_to_commands_is_one_to_a_recording():
    assert NO_ROOM <= {*recording.DISK_ERRORS}


def test_a_disk_that_hangs_takes_bounded_memory_and_delays_no_tick(tmp_path, monkeypatch, caplog):
    returns = threading.Event()
    monkeypatch.setattr(recording._Log, "_write", lambda log, lines: returns.wait())
    recorder = Recorder(tmp_path, METADATA)
    monkeypatch.setattr(recording, "MAX_WAITING_BYTES", 10_000)
    for t in range(1000):
        recorder.tick([0, t], 0)
    assert "the disk is too slow" in recorder.error and len(caplog.records) == 1
    assert recorder._log._size == 0
    returns.set()
    recorder.close()
    assert os.listdir(tmp_path) == ["metadata.json"]


def test_a_new_file_is_the_last_one_also_where_old_ones_were_removed(tmp_path):
    for number in (1, 2):
        (tmp_path / f"episodes-{number:05}.jsonl").touch()
    recorder = Recorder(tmp_path, METADATA)
    recorder.tick([0.0, 0.0], 1)
    recorder.end([0.0, 0.0])
    recorder.close()
    newest = tmp_path / "episodes-00003.jsonl"
    assert newest.stat().st_size == recorder.n_bytes > 0


def test_files_are_in_the_order_in_which_their_recorders_have_something_to_write(tmp_path):
    """Not that in which these were made: a brain that is loaded may wait for long, or come back."""
    older, newer = (Recorder(tmp_path, METADATA) for _ in range(2))
    for number, recorder in enumerate([older, older, newer, older]):
        for _ in range(2):
            recorder.tick([number / 10, 0.0], 1)
        ends_s = time.monotonic() + 60
        while len(list(tmp_path.glob("*.jsonl"))) <= number:
            assert time.monotonic() < ends_s
            time.sleep(0.01)
        recorder.next_file()
        recorder.next_file()   # which nothing follows
    older.close()
    newer.close()
    paths = sorted(tmp_path.glob("*.jsonl"))
    assert [json.loads(path.read_text().splitlines()[0])["observation"][0]
            for path in paths] == [0.0, 0.1, 0.2, 0.3]
    assert [step.is_last for step in steps_of(tmp_path)] == 4 * [False, True]


def test_a_directory_without_room_for_a_file_is_refused_at_once(tmp_path, monkeypatch):
    Recorder(tmp_path / "data", METADATA).close()
    monkeypatch.setattr(recording, "MAX_FILES", 0)
    with pytest.raises(BrainError, match="has 0 files: use another directory"):
        Recorder(tmp_path / "data", METADATA)
    monkeypatch.undo()
    monkeypatch.setattr(recording.os, "access", lambda path, mode: False)   # root may write all
    with pytest.raises(BrainError, match="Permission denied; name a directory that can be written"):
        Recorder(tmp_path / "data", METADATA)


@pytest.mark.parametrize("ticks", [40, 10 ** 6])   # of an episode: with an end, and without
def test_a_full_file_is_followed_by_another_and_nothing_is_lost_but_a_cut(tmp_path, ticks):
    (tmp_path / "episodes-00007.jsonl").touch()   # numbers only rise, though older files go
    recorder = Recorder(tmp_path, METADATA)
    recorder.limit(20_000, math.inf)
    for t in range(1000):
        recorder.tick([0, t], 0)
        if t % ticks == ticks - 1:
            recorder.end([0, t + 0.5])
    recorder.close()
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    sizes = [(tmp_path / name).stat().st_size for name in names[1:]]
    assert names == [f"episodes-{7 + i:05}.jsonl" for i in range(len(names))] and len(names) > 3
    assert max(sizes) < 45_000 and min(sizes[:-1]) > 20_000
    steps = steps_of(tmp_path)
    seen = [step.observation[1] for step in steps if ticks > 1000 or not step.is_last]
    assert seen == list(range(1000))


def test_what_exceeds_the_budget_is_not_recorded_and_recording_begins_again(tmp_path, monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(recording, "time", SimpleNamespace(monotonic=clock))
    recorder = Recorder(tmp_path, METADATA)
    recorder.limit(math.inf, 24 * 20_000)
    counts = []
    for _ in range(3):
        for t in range(1000):
            recorder.tick([0, t], 0)
        counts.append(recorder._log.n_bytes)
        clock.now += 0.3 * 3600   # of what may be written at once: half is enough to begin
    assert 20_000 < counts[0] < 20_500 and counts[1] == counts[0] and counts[2] > counts[0] + 8_000
    recorder.close()
    assert [step.observation[1] for step in steps_of(tmp_path) if step.is_first] == [0, 0]
