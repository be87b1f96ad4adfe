from message import Message


class JointState(Message):
    FLOATS, OTHERS = ("position", "velocity", "effort"), {"name": list, "header": object}
