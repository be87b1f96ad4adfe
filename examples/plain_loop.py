"""A control loop in plain Python with an exported brain: deadlines, recording, state.

    python3 plain_loop.py brain.tflite [SECONDS]

The robot needs the file, the folder seed/runtime, numpy, and ai-edge-litert or tflite-runtime.
`seed adapt --data recorded` learns from what it has done. For limits, faults and learning while it
acts: docs/live.md.
"""
import sys
import time

from seed.runtime import Brain, BrainError   # on the robot: from runtime import Brain, BrainError


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


def run(file, seconds, state="brain.state", recorded="recorded"):
    brain, robot, reward = Brain(file), Robot(), 0.0
    body, facts = next(iter(brain.description["bodies"].items()))
    brain.begin(body)
    try:
        brain.load_state(state)   # it continues where it was switched off
    except BrainError as error:
        print(f"it begins anew: {error}")
    brain.record(recorded, body)
    period_s, begin_s = 1 / facts["rate_hz"], time.monotonic()
    try:
        for tick in range(1, 1 + round(seconds / period_s)):
            time.sleep(max(0.0, begin_s + tick * period_s - time.monotonic()))
            reward = robot.move(brain.act(robot.sense(), reward)[0])
    finally:
        robot.move(0.0)   # the safe action, whatever has ended the loop
        brain.end(robot.sense(), reward)
        brain.record(None, body)
        brain.save_state(state)


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
