"""A control loop in plain Python with an exported brain: deadlines, recording, state.

    python3 plain_loop.py brain.tflite [SECONDS]

The robot needs the file, the folder seed/runtime, numpy, and ai-edge-litert or tflite-runtime.
`seed adapt --data recorded` learns from what it has done. For limits and faults: docs/live.md.
"""
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seed.runtime import Brain, BrainError, state_file   # on the robot: from runtime import ...


class Robot:
    """Put your sensors and motors here: a joint, its speed and where it should be."""
    def __init__(self):
        self.angle, self.speed, self.target = 0.0, 0.0, 1.0

    def sense(self):
        return [self.angle, self.speed, self.target]

    def move(self, torque):
        """Gives it to the motors and does not wait; the reward."""
        self.speed += (8 * torque - self.speed) / 50
        self.angle += self.speed / 50
        return -abs(self.target - self.angle)


def run(file, seconds, state="brain.state", memory="/dev/shm/brain.state", save_s=60.0):
    brain, robot, reward, signals = Brain(file), Robot(), 0.0, []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))   # of a service
    body, facts = next(iter(brain.description["bodies"].items()))
    brain.begin(body)
    try:
        brain.load_state(state)   # it continues where it was switched off
    except BrainError as error:
        print(f"it begins anew: {error}")
    brain.record("recorded", body)
    tick, period_s, begin_s, disk = 0, 1 / facts["rate_hz"], time.monotonic(), ThreadPoolExecutor(1)
    try:
        while tick < round(seconds / period_s) and not signals:
            tick += 1
            time.sleep(max(0.0, begin_s + tick * period_s - time.monotonic()))
            reward = robot.move(brain.act(robot.sense(), reward)[0])
            if tick % round(save_s / period_s) == 0:   # through memory: no tick waits for a disk
                brain.save_state(memory)
                disk.submit(state_file.write_whole, state, Path(memory).read_bytes())
    finally:
        robot.move(0.0)   # the safe action, whatever has ended the loop
        disk.shutdown()
        brain.save_state(state)
        brain.end(robot.sense(), reward)
        brain.record(None, body)


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
