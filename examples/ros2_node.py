"""A ROS 2 node that acts with an exported brain: joint states in, efforts out.

    python3 ros2_node.py --ros-args -p brain:=brain.tflite -p joints:="[shoulder, elbow]"

The robot needs the file, the folder seed/runtime, numpy, and ai-edge-litert or tflite-runtime. A
timer of a node keeps no deadlines; for limits, faults and learning while it acts: ros2_body.py.
"""
import signal
import time
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from seed.runtime import Brain   # on the robot: from runtime import Brain


class BrainNode(Node):
    def __init__(self):
        super().__init__("seed_brain")
        self.brain = Brain(self.declare_parameter("brain", "brain.tflite").value)
        self.joints = list(self.declare_parameter("joints", ["joint1"]).value)
        self.body, facts = next(iter(self.brain.description["bodies"].items()))
        self.brain.begin(self.body)
        self.is_acting, self.heard_s, self.seen = False, float("-inf"), []
        self.max_age_s = 0.1   # of the joint states
        self.publisher = self.create_publisher(Float64MultiArray, "effort_controller/commands", 1)
        self.create_subscription(JointState, "joint_states", self.hear, qos_profile_sensor_data)
        self.create_timer(1 / facts["rate_hz"], self.tick)

    def hear(self, message):
        """Position and velocity of each joint; one that is not in the message is absent."""
        at = {name: i for i, name in enumerate(message.name)}
        self.seen = [numbers[at[joint]] if at.get(joint, len(numbers)) < len(numbers) else None
                     for joint in self.joints for numbers in (message.position, message.velocity)]
        self.heard_s = time.monotonic()

    def tick(self):
        was_acting = self.is_acting
        self.is_acting = time.monotonic() - self.heard_s <= self.max_age_s
        if was_acting and not self.is_acting:
            self.get_logger().warning("no joint states: the motors get 0")
            self.brain.begin(self.body, keep_state=True)
        efforts = self.brain.act(self.seen) if self.is_acting else [0.0] * len(self.joints)
        self.publisher.publish(Float64MultiArray(data=list(map(float, efforts))))


if __name__ == "__main__":
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)   # which end all publishing
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # of a service: as Ctrl-C
    node = BrainNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:   # an error in a tick, too
        node.publisher.publish(Float64MultiArray(data=[0.0] * len(node.joints)))
        rclpy.try_shutdown()
