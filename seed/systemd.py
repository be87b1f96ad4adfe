"""Tells systemd how a run is doing: started, alive, stopping (the sd_notify protocol)."""
import os
import socket


def notify(state: str) -> None:
    """Sends READY=1, WATCHDOG=1, STOPPING=1 or STATUS=text; does nothing outside of a service."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # a socket in the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), address)
    except OSError:
        pass  # a manager that does not listen is no reason to stop
