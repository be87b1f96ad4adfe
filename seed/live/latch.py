"""The latch of a live directory: after too many faults (safety.py) the body gets the safe action
until a person clears it, whatever is killed, switched off or started again meanwhile."""
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from seed.errors import ConfigError
from seed.interpreter import shown_command
from seed.live.safety import Fault
from seed.live.shared_block import Block
from seed.regular_file import read_json
from seed.storage import atomic_file

NAME = "latched"


class Latched(NamedTuple):
    fault: Fault
    text: str


def read(live_dir: Path) -> Latched | None:
    """What has latched it. Whatever else is there, or cannot be read, latches it too."""
    path = live_dir / NAME
    if not os.path.lexists(path):
        return None
    try:
        fields = read_json(path)
        return Latched(Fault(fields["fault"]), f"{fields['time']}: {fields['text']}")
    except (OSError, ValueError, TypeError, KeyError):
        return Latched(Fault.RESTARTED, f"{path} is damaged")


def write(live_dir: Path, fault: int, text: str) -> None:
    """Raises OSError."""
    fields = {"fault": fault, "text": text, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                                                  time.gmtime())}
    atomic_file.write(live_dir / NAME, json.dumps(fields).encode())


def clear(live_dir: Path) -> bool:
    """As a person says that what was wrong is mended; whether it was latched. Where a life runs,
    its brain acts again. Raises OSError."""
    was_latched = os.path.lexists(live_dir / NAME)
    (live_dir / NAME).unlink(missing_ok=True)
    try:
        block = Block.open(live_dir)
    except ConfigError:   # no life runs
        return was_latched
    was_latched |= bool(block["latched"])
    block["clear"] += 1
    block["latched"] = 0   # for the next tick loop, where none runs now
    return was_latched


def how_to_clear(live_dir: Path) -> str:
    return (f"the body gets the safe action until a person clears it: "
            f"{shown_command('live', str(live_dir.parent), '--clear')}")
