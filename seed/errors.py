"""Every error that ends a command, each with its exit code. A message is one line:
`what happened: why; what to do`."""
import errno
from enum import Enum

FAILED = 1          # a run that had begun could not go on
BAD_INPUT = 2       # a person has to mend what was given
CANNOT_CHECK = 3    # of `seed health`, whose results are 0, 1 and 2, as a check has them
REFUSED = 3         # of `seed adapt`: what was learnt does not pass its limits; the brain stays
RETRY_LATER = 75    # the same command may succeed later (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 130   # by SIGINT, as a shell counts; a search for a size by SIGTERM too


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}   # a full disk; a limit on a file's size
PASSING = {*NO_ROOM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
           errno.EAGAIN}   # a worn card, other programs


def os_error_code(error: OSError) -> int:
    """The exit code of a command that ends with this error."""
    return RETRY_LATER if error.errno in PASSING else BAD_INPUT


class StopReason(Enum):
    """Why a training ended."""
    FINISHED = "finished"
    STOPPED = "stopped by a signal"
    STOPPED_EARLY = "stopped by its early_stop_fn"
    OUT_OF_MEMORY = "stopped by the governor"   # the same command may succeed later


class SeedError(Exception):
    """The message is one line for a person; `exit_code` is what the command ends with."""
    exit_code = BAD_INPUT


class ConfigError(SeedError, ValueError):
    """A profile, an option or a file that was named is wrong."""


class UserTaskError(ConfigError):
    """A user's task cannot be used; the message names it and what is wrong."""


class BodyError(ConfigError):
    """A body cannot be used; the message names it and what is wrong."""


class BodyKilled(BodyError):
    """A user's body was killed from outside, as by a kernel without free memory."""
    exit_code = RETRY_LATER


class UserTaskKilled(UserTaskError):
    """A user's task was killed from outside, as by a kernel without free memory."""
    exit_code = RETRY_LATER


class StopRequested(SeedError):
    """A signal asked the run to stop while a user's task or body was working; nothing is wrong."""


class CheckpointError(SeedError, ValueError):
    """A checkpoint cannot be used."""


class CheckpointMissing(CheckpointError):
    """There is no file of that name."""


class PackError(SeedError, ValueError):
    """A packed brain cannot be used."""


class InUse(SeedError, RuntimeError):
    """Another process has the run directory; the same command may succeed later."""
    exit_code = RETRY_LATER


class RunDirLost(SeedError, RuntimeError):
    """The run directory is no longer this process's own, or no longer where it was."""


class LockLost(RunDirLost):
    """Its lock was deleted or replaced; the same command resumes."""
    exit_code = RETRY_LATER


class ParameterError(SeedError, ValueError):
    """A named parameter is missing, unexpected, misshaped or mistyped."""


class CompilerError(SeedError, RuntimeError):
    """No C compiler on this machine."""


class KernelMissing(CompilerError):
    """There are kernel sets and no compiler, and the sets lack a kernel."""


class KernelSetError(SeedError, ValueError):
    """A file of kernels that were compiled ahead of time cannot be made or used."""


class CompilerLost(SeedError, RuntimeError):
    """The C compiler was killed, hung, failed or is gone; the same command may succeed later."""
    exit_code = RETRY_LATER


class NotEnoughMemory(SeedError, RuntimeError):
    """Other programs hold the memory that is needed; the same command may succeed later."""
    exit_code = RETRY_LATER


class Diverged(SeedError, RuntimeError):
    """Training stays non-finite after every allowed rollback."""
    exit_code = FAILED


class SaveFailed(SeedError, RuntimeError):
    """A checkpoint cannot be written."""
    exit_code = RETRY_LATER


class ExportError(SeedError, RuntimeError):
    """An exported file differs from the brain that it was made of."""
    exit_code = FAILED


class BenchError(SeedError, RuntimeError):
    """A contender of a benchmark ended or answered wrongly."""
    exit_code = FAILED


def printable(text: str) -> str:
    """A text from a file or a class as one line without control characters."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
