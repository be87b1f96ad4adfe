"""Run directories that others have prepared, and the commands of a user who opens them."""
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed.storage import RunDir, checkpoint
from tests.support.tiny_run import TINY

TIMEOUT_S = 120.0
PEAK_MB = "int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024"


def seed(*words: object, cwd: Path | None = None, timeout_s: float = TIMEOUT_S,
         **popen: Any) -> subprocess.CompletedProcess:
    """A command of seed in a process of its own; what it prints is kept as bytes."""
    return subprocess.run([sys.executable, "-m", "seed", *map(str, words)], cwd=cwd,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, **popen)


def train(run_dir: Path, *words: object, steps: int = 22, **popen: Any
          ) -> subprocess.CompletedProcess:
    return seed("train", f"--run-dir={run_dir}", f"--steps={steps}", *TINY, *words, **popen)


def forge(source: Path, target: Path, change_fn: Callable[[dict], object]) -> RunDir:
    """A copy of a brain whose metadata were changed; its checksum is right."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    run_dir = RunDir(target)
    brain = checkpoint.read(run_dir.checkpoint)
    meta = json.loads(json.dumps(brain.meta))
    change_fn(meta)
    for name in ("blake2b", "format"):
        meta.pop(name, None)
    run_dir.save(brain.tensors, meta, keep_newest=False)
    run_dir.previous_checkpoint.unlink(missing_ok=True)
    return run_dir


def is_refused(done: subprocess.CompletedProcess, *words: str, code: int = 2) -> bool:
    """Whether a command ended with one line that has these words, and nothing raw in it."""
    text = done.stderr.decode()
    last = text.rstrip("\n").splitlines()[-1] if text.strip() else ""
    assert done.returncode == code and b"Traceback" not in done.stderr, (done.returncode, text)
    assert len(last) < 1100 and all(word in last for word in words), last
    return True


def works(done: subprocess.CompletedProcess) -> bool:
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()
    return True


def limit_memory(mb: int) -> Callable[[], None]:
    """For `preexec_fn`: all memory that the process may map."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (mb * 2 ** 20, mb * 2 ** 20))
