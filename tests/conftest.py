"""One cache of compiled kernels for all tests, so that none compiles what another has compiled."""
import atexit
import os
import tempfile
from pathlib import Path

from seed.wavecore.tinygrad_seam import install

if "CACHEDB" not in os.environ:   # of the process that starts the others
    kernels = tempfile.TemporaryDirectory(prefix="seed-tests-")
    atexit.register(kernels.cleanup)
    os.environ["CACHEDB"] = str(Path(kernels.name) / "kernels.db")
install()
