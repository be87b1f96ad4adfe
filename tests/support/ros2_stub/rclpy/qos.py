from enum import IntEnum


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT, RELIABLE, BEST_EFFORT, UNKNOWN = range(4)


class QoSProfile:
    def __init__(self, *, depth, reliability=ReliabilityPolicy.RELIABLE):
        self.depth, self.reliability = depth, reliability


qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
