"""Messages as rosidl generates them: arguments by name, sequences of float64 become arrays."""
from array import array


class Message:
    FLOATS, OTHERS = (), {}

    def __init__(self, **fields):
        assert fields.keys() <= {*self.FLOATS, *self.OTHERS}, "invalid arguments"
        for name in self.FLOATS:
            setattr(self, name, fields.get(name, ()))
        for name, make_fn in self.OTHERS.items():
            setattr(self, name, fields.get(name, make_fn()))

    def __setattr__(self, name, value):
        assert name in (*self.FLOATS, *self.OTHERS), name
        super().__setattr__(name, array("d", value) if name in self.FLOATS else value)
