"""A robot behind ROS 2 as a body of the fast loop, which keeps deadlines and limits, records, and
learns from what is lived. In a shell in which ROS 2 is set up, with a brain of such a body:

    bin/live.sh --run-dir runs/joint --body examples/ros2_body.py:RosJoint
"""
import time
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

JOINT, TARGET = "joint1", 1.0
MAX_AGE_S, EPISODE_TICKS = 0.1, 500
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)   # no queue of old ones


class RosJoint:
    """Turns a joint to a target."""
    rate_hz = 50
    observation_space = [(-3.2, 3.2), (-10.0, 10.0), (-3.2, 3.2)]   # angle, speed, target
    action_space = [(-1.0, 1.0)]
    action_limits, max_change, safe_action = [(-0.5, 0.5)], [10.0], [0.0]   # docs/live.md

    def __init__(self):
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)   # the fast loop ends it
        self.node, self.executor = Node("seed_body"), SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.publisher = self.node.create_publisher(
            Float64MultiArray, "effort_controller/commands", 1)
        self.node.create_subscription(JointState, "joint_states", self.hear, NEWEST)
        self.heard_s = float("-inf")

    def hear(self, message):
        i = message.name.index(JOINT)
        self.angle, self.speed = message.position[i], message.velocity[i]
        self.heard_s = time.monotonic()

    def reset(self, seed=None):
        self.ticks = 0
        while time.monotonic() - self.heard_s > MAX_AGE_S:   # until there is a robot
            self.executor.spin_once(timeout_sec=1.0)
        return [self.angle, self.speed, TARGET], {}

    def sense(self):
        self.executor.spin_once(timeout_sec=0)
        if time.monotonic() - self.heard_s > MAX_AGE_S:
            raise OSError(f"no joint states for {MAX_AGE_S} s")   # a fault: the safe action
        return [self.angle, self.speed, TARGET]

    def step(self, action):
        self.publisher.publish(Float64MultiArray(data=[float(action[0])]))
        self.ticks += 1
        reward, is_over = -abs(TARGET - self.angle), self.ticks >= EPISODE_TICKS
        return [self.angle, self.speed, TARGET], reward, False, is_over, {}

    def stop(self):
        self.publisher.publish(Float64MultiArray(data=[0.0]))
