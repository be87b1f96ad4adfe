"""Tensors from arrays, and how far they are from what they should be."""
import numpy as np
from tinygrad import Tensor

TOLERANCE = 2e-4  # relative L2, float32


def realized(array: np.ndarray) -> Tensor:
    return Tensor(np.ascontiguousarray(array)).realize()


def as_array(value) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def distance(actual, expected) -> float:
    """Relative L2."""
    actual, expected = as_array(actual).reshape(-1), as_array(expected).reshape(-1)
    return float(np.linalg.norm(actual - expected) / (np.linalg.norm(expected) + 1e-12))
