"""Real-time priority, locked memory and a core of its own for the processes of the fast loop; and
which of all processes the kernel ends first when memory runs out.

Each is used where the system permits it; what it does not is said in one line. The loop, the brain
and the body take turns, so they share one core; the others are for everything that learns.
"""
import ctypes
import gc
import os
import resource
from contextlib import suppress
from pathlib import Path

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
CAP_IPC_LOCK = 14
# Of SCHED_FIFO. An action reaches the body before the brain does what can wait.
TICK_PRIORITY, BODY_PRIORITY, BRAIN_PRIORITY = 50, 49, 48
ISOLATED = Path("/sys/devices/system/cpu/isolated")
PR_SET_TIMERSLACK, TIMER_SLACK_NS = 29, 1
OOM_SCORE = "oom_score_adj"


def fast_cores(isolated: Path = ISOLATED) -> list[int]:
    """Cores that a fast loop may have, the best first: those that the kernel was told to isolate
    (isolcpus), else all but the first, from the last on; the only one if there is no other."""
    cores = os.sched_getaffinity(0)
    text = ""
    with suppress(OSError):
        text = isolated.read_text().strip()
    kept_free = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        kept_free |= set(range(int(first), int(last or first) + 1))
    # No ordinary process is on isolated cores: they need not be in its set.
    return sorted(kept_free & cores or kept_free or cores - {min(cores)} or cores, reverse=True)


def other_cores(fast: int) -> set[int]:
    """For everything else; the same core if there is just one."""
    cores = os.sched_getaffinity(0)
    return cores - {fast} or cores


def prioritize(priority: int, pid: int = 0, is_inherited: bool = False) -> str:
    """Gives a process real-time priority; its children and later threads inherit it only if that is
    said. Why not, if it is not permitted."""
    policy = os.SCHED_FIFO | (0 if is_inherited else os.SCHED_RESET_ON_FORK)
    try:
        os.sched_setscheduler(pid, policy, os.sched_param(priority))
    except OSError as error:
        return (f"no real-time priority: {error.strerror}; ticks may be late under load: give "
                f"LimitRTPRIO=50, or CAP_SYS_NICE")
    return ""


def lock_memory() -> str:
    """So that no page of this process is swapped out. Why not, if it is not permitted: a limit
    that is reached later would end the process."""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0)
    if (unlimited or _has_capability(CAP_IPC_LOCK)) and \
            libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0:
        return ""
    return ("memory is not locked: it is not permitted; ticks may be late when memory is short: "
            "give LimitMEMLOCK=infinity")


def _has_capability(number: int) -> bool:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        text = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(text.split()[1], 16) >> number & 1)
    return False


def freeze_garbage() -> None:
    """No collection from here on, and none of what is there already."""
    gc.collect()
    gc.freeze()
    gc.disable()


def pin(cores: set[int], pid: int = 0) -> None:
    with suppress(OSError):   # a core that was taken away
        os.sched_setaffinity(pid, cores)


def yield_core() -> None:
    """Without priority from here on."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def end_first(pid: int) -> None:
    """When memory runs out, the kernel ends that process, and what it starts, before all others."""
    _set_oom_score(pid, "1000")


def spare(pid: int) -> None:
    """When memory runs out, the kernel ends that process no sooner than this one."""
    with suppress(OSError):
        _set_oom_score(pid, Path("/proc/self", OOM_SCORE).read_text())


def _set_oom_score(pid: int, text: str) -> None:
    with suppress(OSError):   # it has ended
        Path(f"/proc/{pid}", OOM_SCORE).write_text(text)
