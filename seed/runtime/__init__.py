"""Runs exported brains on a robot, which needs only a copy of this folder: brain.py."""
from .answer import Answer, choose
from .brain import Brain
from .escape import escape, unescape
from .rate import TickTimes, TooSlow
from .recording import Recorder
from .sealed_file import (CHECKSUM_DIGITS, CHECKSUM_KEY, FORMAT, MAGIC, BrainError, describe,
                          seal)
from .selftest import SelfTest, measure_selftest
from .tflite import find_interpreter, installed_runtime

__all__ = ["CHECKSUM_DIGITS", "CHECKSUM_KEY", "FORMAT", "MAGIC", "Answer", "Brain", "BrainError",
           "Recorder", "SelfTest", "TickTimes", "TooSlow", "choose", "describe", "escape",
           "find_interpreter", "installed_runtime", "measure_selftest", "seal", "unescape"]
