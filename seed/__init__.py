"""Seed Brain: trains a robot's first brain on the robot itself."""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")   # before NumPy: with more it has other bits
__version__ = "0.1.0"
