"""What the examples use of rclpy, where that is not installed: names, signatures, types and errors
are those of its version 9; a topic is a folder of datagram sockets in $ROS2_STUB_DIR.
"""
import signal

from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

_state = {"is_ok": False}


def init(*, args=None, context=None, domain_id=None, signal_handler_options=None):
    assert not _state["is_ok"], "rclpy.init() has been called"
    _state["is_ok"] = True
    if signal_handler_options in (None, SignalHandlerOptions.ALL):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: _state.update(is_ok=False))


def ok(*, context=None):
    return _state["is_ok"]


def try_shutdown(*, context=None):
    _state["is_ok"] = False


def spin(node, executor=None):
    executor = executor or SingleThreadedExecutor()
    executor.add_node(node)
    while ok():
        executor.spin_once()
