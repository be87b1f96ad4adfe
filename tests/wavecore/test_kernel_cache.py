"""A kernel cache that fails does not stop what computes."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPUTE = """
from tinygrad import Tensor
from seed.wavecore import fast
print((Tensor([1.0, 2.0]).contiguous() * 3).sum().item())
"""
FULL = """
import os, sqlite3
other = open(os.path.join(os.path.dirname(os.environ["CACHEDB"]), "other"), "wb", buffering=0)
{before}
try:
    while other.write(bytes(4096)):
        pass
except OSError:
    pass
print((Tensor([1.0, 2.0]).contiguous() * 5).sum().item())
os.truncate(other.name, 0)
other_process = sqlite3.connect(os.environ["CACHEDB"], timeout=0.5)
other_process.execute("BEGIN IMMEDIATE")
other_process.close()
print((Tensor([1.0, 2.0]).contiguous() * 7).sum().item())
"""
MOUNT = 'mount -t tmpfs -o size=2m none "$1"; shift; exec "$@"'


def run(tmp_path, command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120,
                          env={**os.environ, "CACHEDB": str(tmp_path / "fast.db")})


@pytest.mark.parametrize("damage", [b"not a database" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_cache_is_as_if_it_were_not_there(tmp_path, damage):
    (tmp_path / "fast.db").write_bytes(damage)
    done = run(tmp_path, [sys.executable, "-c", COMPUTE])
    assert (done.returncode, done.stdout) == (0, "9.0\n"), done.stderr


def test_a_disk_that_fills_up_costs_the_cache_alone_and_locks_nobody_out(tmp_path):
    script = FULL.format(before=COMPUTE)
    done = run(tmp_path, ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(tmp_path),
                          sys.executable, "-c", script])
    assert (done.returncode, done.stdout) == (0, "9.0\n15.0\n21.0\n"), done.stderr
