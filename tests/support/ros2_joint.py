"""A joint behind ROS 2: publishes its state 50 times a second, and moves by the efforts that come.

    python ros2_joint.py TICKS SILENT_TICKS

When so many efforts have come it prints "moved"; then, if SILENT_TICKS is not 0, it says no more
until that many efforts of 0 have come in a row, and prints "still"; then the last effort, again and
again.
"""
import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray


class Joint(Node):
    def __init__(self):
        super().__init__("joint")
        self.angle, self.speed, self.efforts, self.zeros, self.is_silent = 0.0, 0.0, 0, 0, False
        self.effort = None
        self.publisher = self.create_publisher(JointState, "joint_states", qos_profile_sensor_data)
        self.create_subscription(Float64MultiArray, "effort_controller/commands", self.hear, 1)
        self.create_timer(0.02, self.tick)

    def hear(self, message):
        assert len(message.data) == 1 and abs(message.data[0]) <= 1
        self.efforts, self.effort = self.efforts + 1, message.data[0]
        self.zeros = self.zeros + 1 if message.data[0] == 0 else 0
        self.speed += (8 * message.data[0] - self.speed) / 50

    def tick(self):
        self.angle = max(-3.0, min(3.0, self.angle + self.speed / 50))
        if not self.is_silent:
            self.publisher.publish(JointState(name=["other", "joint1"], position=[0.5, self.angle],
                                              velocity=[0.0, self.speed]))


def main(ticks, silent_ticks):
    rclpy.init()
    joint, executor = Joint(), SingleThreadedExecutor()
    executor.add_node(joint)
    while joint.efforts < ticks:
        executor.spin_once(timeout_sec=0.1)
    print("moved", flush=True)
    joint.is_silent, joint.zeros = bool(silent_ticks), 0
    while joint.zeros < silent_ticks:
        executor.spin_once(timeout_sec=0.1)
    print("still", flush=True)
    while True:   # until it is killed
        ends_s = time.monotonic() + 0.1
        while time.monotonic() < ends_s:
            executor.spin_once(timeout_sec=0.1)
        print(joint.effort, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
