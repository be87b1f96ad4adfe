"""One cache of compiled kernels for all tests, so that none compiles what another has compiled."""
import atexit
import os
import tempfile

from seed.wavecore.tinygrad_seam import install

if "XDG_CACHE_HOME" not in os.environ:   # of the process that starts the others
    kernels = tempfile.TemporaryDirectory(prefix="seed-tests-")
    atexit.register(kernels.cleanup)
    os.environ["XDG_CACHE_HOME"] = kernels.name
install()
