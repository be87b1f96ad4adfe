from message import Message


class Float64MultiArray(Message):
    FLOATS, OTHERS = ("data",), {"layout": object}
