import select
import time


class ExternalShutdownException(Exception):
    """The context has been shut down, as by a signal."""


class SingleThreadedExecutor:
    def __init__(self, *, context=None):
        self._nodes = []

    def add_node(self, node):
        self._nodes.append(node)
        return True

    def spin_once(self, timeout_sec=None):
        """Runs one callback that is ready, or waits for one; timers are first."""
        import rclpy
        ends_s = float("inf") if timeout_sec is None else time.monotonic() + timeout_sec
        while True:
            if not rclpy.ok():
                raise ExternalShutdownException
            for timer in (timer for node in self._nodes for timer in node._timers):
                if timer.take():
                    return
            subscriptions = [each for node in self._nodes for each in node._subscriptions]
            wait_s = min(0.05, max(0.0, ends_s - time.monotonic()))   # timers and signals
            for ready in select.select([each.socket for each in subscriptions], [], [], wait_s)[0]:
                next(each for each in subscriptions if each.socket is ready).take()
                return
            if time.monotonic() >= ends_s:
                return
