"""examples/ run as they are: those for ROS 2 with the real rclpy where that is installed, as by
`pip install ros-rclpy ros-rmw-fastrtps-cpp ros-sensor-msgs`, else with tests/support/ros2_stub."""
import ast
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from seed import governor, robot_report
from seed.body.episodes import EpisodeFolder
from seed.config import GovernorConfig
from seed.live.fast_loop import FastLoop, Options
from seed.live.safety import State
from tests.support import joint_brains

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_LINES, MAX_S = 68, 120
TICKS, SILENT_TICKS = 20, 5
FAILING_BRAIN = '''
import os, runpy, sys
from seed.runtime import Brain
act = Brain.act
def failing(*arguments):
    if os.path.exists("fails"):
        raise OSError("the bus is silent")
    return act(*arguments)
Brain.act, sys.argv = failing, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
'''
TOLD_LOOP = '''
import sys
sys.path.insert(0, sys.argv[1])
import plain_loop
class Told(plain_loop.Robot):
    def move(self, torque):
        print(torque, flush=True)
        return super().move(torque)
plain_loop.Robot = Told
plain_loop.run(sys.argv[2], 1000, memory="memory", save_s=0.1)
'''


@pytest.fixture
def ros2(monkeypatch):
    """A ROS 2 of this test alone, in which a joint's process runs if it is started; its lines."""
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if not importlib.util.find_spec("rclpy"):
        folders.append(str(ROOT / "tests/support/ros2_stub"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    topics = tempfile.TemporaryDirectory(prefix="ros2-")   # the path of a socket has to be short
    monkeypatch.setenv("ROS2_STUB_DIR", topics.name)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))

    @contextmanager
    def joint(silent_ticks=0):
        process = subprocess.Popen([sys.executable, ROOT / "tests/support/ros2_joint.py",
                                    str(TICKS), str(silent_ticks)], stdout=subprocess.PIPE,
                                   text=True)
        try:
            yield process.stdout
        finally:
            process.kill()
            process.communicate()
    with topics:
        yield joint


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_can_be_read_in_a_minute(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_a_node_acts_and_the_motors_get_0_when_no_sensor_speaks(ros2, tmp_path):
    file = joint_brains.export(joint_brains.Joint, "joint", tmp_path / "brain.tflite")
    node = subprocess.Popen(
        [sys.executable, ROOT / "examples/ros2_node.py", "--ros-args", "-p", f"brain:={file}",
         "-p", "joints:=[joint1]"], stderr=subprocess.PIPE, text=True)
    try:
        with ros2(SILENT_TICKS) as lines:
            assert [next(lines), next(lines)] == ["moved\n", "still\n"]
        node.send_signal(signal.SIGINT)
        errors = node.communicate(timeout=MAX_S)[1]
    finally:
        node.kill()
    assert node.returncode == 0 and "no joint states: the motors get 0" in errors


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, "an error"])
def test_the_last_effort_of_a_node_is_0(ros2, tmp_path, ending):
    file = joint_brains.export(joint_brains.Joint, "joint", tmp_path / "brain.tflite")
    start = ["-c", FAILING_BRAIN] if ending == "an error" else []
    node = subprocess.Popen(
        [sys.executable, *start, ROOT / "examples/ros2_node.py", "--ros-args", "-p",
         f"brain:={file}", "-p", "joints:=[joint1]"], stderr=subprocess.PIPE, text=True,
        cwd=tmp_path)
    try:
        with ros2() as lines:
            assert [next(lines), next(lines)] == ["moved\n", "still\n"]
            assert float(next(lines))   # it moves
            (tmp_path / "fails").touch()
            if ending != "an error":
                node.send_signal(ending)
            errors = node.communicate(timeout=MAX_S)[1]
            ends_s = time.monotonic() + MAX_S
            while float(next(lines)):   # what comes late
                assert time.monotonic() < ends_s
    finally:
        node.kill()
    assert ("the bus is silent" in errors, node.returncode) == (
        (True, 1) if ending == "an error" else (False, 0)), errors


def test_a_robot_behind_ros2_lives_in_the_fast_loop(ros2, tmp_path):
    file = joint_brains.export(joint_brains.AimedJoint, "ros2_body.py:RosJoint",
                               tmp_path / "brain.tflite")
    loop, texts = FastLoop(Options(tmp_path / "live", file,
                                   f"{ROOT}/examples/ros2_body.py:RosJoint")), []
    ends_s = time.monotonic() + MAX_S

    def until(is_true_fn):
        while not is_true_fn():
            assert time.monotonic() < ends_s, (texts, loop.block.words())
            texts.extend(event["text"] for event in loop.poll())
            loop.block["clear"] += loop.block["state"] == State.LATCHED   # on a busy machine
            time.sleep(0.02)
    loop.start()
    try:
        with ros2() as lines:
            assert next(lines) == "moved\n"
            until(lambda: loop.block["state"] == State.ACTING
                  and loop.block["episode_ticks"] >= TICKS)
        until(lambda: any("no joint states" in text for text in texts))   # the joint has ended
    finally:
        loop.stop()
    steps = [step for step in EpisodeFolder(tmp_path / "live/episodes").steps() if step.choices]
    assert len(steps) >= TICKS and {step.observation[2] for step in steps} == {1.0}


def test_a_plain_loop_acts_records_and_continues(tmp_path):
    file = joint_brains.export(joint_brains.AimedJoint, "joint", tmp_path / "brain.tflite")
    command = [sys.executable, str(ROOT / "examples/plain_loop.py"), str(file), "0.4"]
    output = [subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True,
                             timeout=MAX_S, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
              for _ in range(2)]
    assert "it begins anew" in output[0] and "it begins anew" not in output[1]
    steps = list(EpisodeFolder(tmp_path / "recorded").steps())
    assert len([step for step in steps if step.choices]) == 2 * 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_plain_loop_ends_with_the_safe_action_and_its_state_outlives_the_power(tmp_path, number):
    file = joint_brains.export(joint_brains.AimedJoint, "joint", tmp_path / "brain.tflite")
    loop = subprocess.Popen(
        [sys.executable, "-c", TOLD_LOOP, str(ROOT / "examples"), str(file)], cwd=tmp_path,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert "it begins anew" in next(loop.stdout)
        ends_s = time.monotonic() + MAX_S
        while not (float(next(loop.stdout)) and (tmp_path / "brain.state").exists()):
            assert time.monotonic() < ends_s
        loop.send_signal(number)
        output = loop.communicate(timeout=MAX_S)[0]
    finally:
        loop.kill()
    assert number == signal.SIGKILL or float(output.splitlines()[-1]) == 0
    assert loop.returncode == {signal.SIGTERM: 0, signal.SIGINT: -signal.SIGINT,
                               signal.SIGKILL: -signal.SIGKILL}[number]
    done = subprocess.run([sys.executable, str(ROOT / "examples/plain_loop.py"), str(file), "0.1"],
                          cwd=tmp_path, capture_output=True, text=True, check=True, timeout=MAX_S,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "it begins anew" not in done.stdout


@pytest.mark.parametrize("temp_c, action", [
    (69, governor.RUN), (70, governor.SLOW), (79, governor.SLOW), (80, governor.PAUSE)])
def test_a_robots_own_health_check_slows_and_pauses_a_run(monkeypatch, temp_c, action):
    monkeypatch.setenv("ROBOT_TEMP_C", str(temp_c))
    config = GovernorConfig(report_command=shlex.join([
        sys.executable, str(ROOT / "examples/robot_report.py")]), report_max_age_s=MAX_S)
    source = robot_report.open_source(config)
    report = source.poll(MAX_S)
    source.close()
    assert report.reason == f"CPU {temp_c} C" and report.teleoperated is False
    assert governor.decide_by_report(config, report).action == action
