"""Before tinygrad is imported: the CPU device and the compiler that builds the kernels."""
import os

from seed.wavecore.compiler import find_compiler

os.environ["DEV"] = "CPU"
os.environ["PARALLEL"] = "0"
os.environ["CC"] = find_compiler()
