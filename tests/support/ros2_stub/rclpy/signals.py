from enum import IntEnum


class SignalHandlerOptions(IntEnum):
    NO, SIGINT, SIGTERM, ALL = range(4)
