"""Kernels that are loaded far from the C library still reach it."""
import subprocess
import sys

import pytest

from seed.wavecore.loader import Jumps

FAR_AWAY = """
import ctypes, mmap
import numpy as np
from tinygrad import Tensor
from seed.config import ModelConfig
from seed.wavecore.model import WaveCore, init_params

def address(region):
    return ctypes.addressof(ctypes.c_char.from_buffer(region))

def reserve(size):
    found = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # NORESERVE
    regions.append(found)
    return address(found)

regions = []
config = ModelConfig(d_model=32, n_layers=2, pattern="SA", d_ff=64)
params = init_params(config, 0)
if {far}:
    wall = reserve(4 << 30)
    while reserve(4096) > wall:   # whatever is left beside the libraries
        pass
model = WaveCore(config, params, threads=2)
logits, _ = model(Tensor(np.arange(40, dtype=np.int32).reshape(2, 20)))
print(np.abs(logits.numpy()).sum())
"""


def test_a_kernel_four_gigabytes_from_the_library_starts_its_threads():
    near, far = (subprocess.run([sys.executable, "-c", FAR_AWAY.format(far=far)],
                                capture_output=True, text=True) for far in (False, True))
    assert (near.returncode, far.returncode) == (0, 0), far.stderr
    assert float(near.stdout) > 0 and near.stdout == far.stdout


def test_a_symbol_that_no_library_has_is_still_an_error():
    with pytest.raises(AttributeError, match="seed_has_no_such_function"):
        getattr(Jumps([], 1 << 40), "seed_has_no_such_function")
