"""SIGTERM and a closed terminal end a benchmark as Ctrl-C does: what it has started and written
goes too."""
import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def as_by_ctrl_c() -> Iterator[None]:
    """In the main thread. A signal that is ignored, as nohup asks, or handled stays so."""
    taken = [number for number in ENDS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
