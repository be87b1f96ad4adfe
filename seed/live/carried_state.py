"""A brain's state between two files and over a loss of power.

`Brain.save_state` writes the state of one exported file, which that file alone loads. Another file
may continue with it if its states, codecs and hidden vector have the same shapes: `structure` tells
that. What a changed brain makes of it is for whoever promotes it to watch. On the disk a state has
its structure before it; it is written whole or not at all, within BYTES_PER_DAY.
"""
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from seed.runtime import Brain, BrainError
from seed.runtime.sealed_file import read_regular
from seed.runtime.state_file import MAGIC as STATE_MAGIC
from seed.runtime.state_file import write_whole

MAGIC = b"seed live state 1\n"
DIGITS = 32
MAX_BYTES = 2 ** 28
BYTES_PER_DAY = 256 * 2 ** 20   # that saving may write
MIN_INTERVAL_S, DAY_S = 10.0, 86400.0


def structure(description: dict[str, Any]) -> str:
    """The same for files whose states have the same meaning, number by number."""
    states = {key: state["shape"] for key, state in description["states"].items()}
    bodies = {key: [body["codec"], body["hidden"]] for key, body in description["bodies"].items()}
    text = json.dumps([states, bodies, description["explicit_state"]], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGITS // 2).hexdigest()


def interval_s(n_bytes: int) -> float:
    """Between two saves of so many bytes."""
    return max(MIN_INTERVAL_S, DAY_S * n_bytes / BYTES_PER_DAY)


def load(brain: Brain, path: str | os.PathLike) -> None:
    """What a brain of the same structure saved with `save_state`. Raises BrainError, and changes
    nothing, if the file is damaged."""
    line = read_regular(path, "a saved state", len(STATE_MAGIC), lambda start: start == STATE_MAGIC,
                        MAX_BYTES, "is no state of a brain")[len(STATE_MAGIC) + 16:]
    name = brain.description["blake2b"]
    try:
        brain.description["blake2b"] = json.loads(line.partition(b"\n")[0])["brain"]
        brain.load_state(path)   # for as long, it is as if this were the file that saved it
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrainError(f"{path} is damaged: {error}") from None
    finally:
        brain.description["blake2b"] = name


def keep(data: bytes, brain_structure: str, path: Path) -> None:
    """Writes a state to the disk; it is there when this returns. Raises OSError."""
    write_whole(path, MAGIC + brain_structure.encode() + b"\n" + data)


def restore(brain: Brain, path: Path, scratch: Path) -> str:
    """Continues where `keep` was called; why not, if it cannot, in one line. The brain then begins
    anew."""
    if not path.exists():
        return ""
    try:
        data = read_regular(path, "a saved state", len(MAGIC), lambda start: start == MAGIC,
                            MAX_BYTES, "is something else than a state")[len(MAGIC):]
        if data[:DIGITS] != structure(brain.description).encode():
            return f"{path} is the state of a brain of another shape: it begins anew"
        scratch.write_bytes(data[DIGITS + 1:])
        load(brain, scratch)
    except (BrainError, OSError) as error:
        reason = " ".join(str(error).split()).partition(";")[0]
        return f"{path} cannot be used: {reason}: the brain begins anew"
    return ""
