"""Tensors and metadata of a small checkpoint that passes every check."""
import numpy as np

from seed.curriculum.state import CurriculumState

META = {"profile": {"curriculum": {"tasks": {"copy": 1.0}}}, "step": 1, "skipped": 0,
        "rollbacks": 0, "nonfinite_in_a_row": 0, "elapsed_s": 0.0,
        "plan": {"decay_start": None, "total_steps": 9},
        "curriculum": CurriculumState(2, 3, 1, 1, ("copy",), {"copy": (1.0, 0.5, 1 / 3)}).to_dict()}
TENSORS = {"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 3), np.float32)}
