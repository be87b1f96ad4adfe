"""Weights in fewer bits: per-row int8, or float16."""
import numpy as np

KINDS = ("float32", "float16", "int8")


def rows_to_int8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 of a (rows, columns) matrix and its scale a row, float32: w = q * scale."""
    scales = (np.maximum(np.abs(weights).max(1), 1e-8) / 127).astype(np.float32)
    return np.clip(np.round(weights / scales[:, None]), -127, 127).astype(np.int8), scales
