"""Before tinygrad is imported: the CPU device, the compiler that builds the kernels, and where they
are kept, so that no test waits for what another has compiled."""
import atexit
import os
import tempfile
from pathlib import Path

from seed.wavecore.compiler import find_compiler

os.environ["DEV"] = "CPU"
os.environ["PARALLEL"] = "0"
os.environ["CC"] = find_compiler()
if "CACHEDB" not in os.environ:   # of the process that starts the others
    kernels = tempfile.TemporaryDirectory(prefix="seed-tests-")
    atexit.register(kernels.cleanup)
    os.environ["CACHEDB"] = str(Path(kernels.name) / "kernels.db")
