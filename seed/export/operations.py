"""The operators that the graphs are made of, each with its output shape.

Portable graphs keep to what XNNPACK takes in tflite-runtime 2.14 as well; graphs for LiteRT use its
newer operators where that is faster. Tensors are (1, rows, 1, channels) unless said otherwise.
"""
import math
from collections.abc import Sequence
from functools import partialmethod

import numpy as np

from seed.config import SIGMOID_STRETCH
from seed.export.flatbuffer import TYPES, Graph, Tensor

VALID_PADDING = 1
RELU_ACTIVATION = 1
LITERT = "litert"
MAX_SUMMED, SUM_PARTS = 32, 8   # channels that one product adds up; parts of more
MAX_CONCAT_INPUTS = 4    # of one CONCATENATION, for XNNPACK in tflite-runtime 2.14
# 2 atanh(r) / r for r up to 1/3 is k + m / (n - r^2), to 1.2e-6 (fitted by Lawson's method).
ATANH_K, ATANH_M, ATANH_N = 0.9113665, 1.7786404, 1.633825


def rows_to_int8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 of a (rows, columns) matrix and its scale a row, float32: w = q * scale."""
    scales = (np.maximum(np.abs(weights).max(1), 1e-8) / 127).astype(np.float32)
    return np.clip(np.round(weights / scales[:, None]), -127, 127).astype(np.int8), scales


class Operations:
    """Appends operators to one graph."""

    def __init__(self, graph: Graph, target: str, weights: str):
        self.graph, self.target, self.weights = graph, target, weights

    def constant(self, values, name: str = "") -> Tensor:
        return self.graph.constant(np.asarray(values, np.float32), name=name)

    def integers(self, values: Sequence[int]) -> Tensor:
        return self.graph.constant(np.array(values, np.int32))

    def unary(self, kind: str, x: Tensor) -> Tensor:
        return self.graph.add(kind, [x], x.shape)

    def _binary(self, kind: str, a: Tensor, b: Tensor) -> Tensor:
        return self.graph.add(kind, [a, b], np.broadcast_shapes(a.shape, b.shape))

    add, sub = partialmethod(_binary, "ADD"), partialmethod(_binary, "SUB")
    mul, div = partialmethod(_binary, "MUL"), partialmethod(_binary, "DIV")
    minimum = partialmethod(_binary, "MINIMUM")

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        if x.shape == shape:
            return x
        return self.graph.add("RESHAPE", [x, self.integers(shape)], shape, new_shape=shape)

    def slice(self, x: Tensor, axis: int, start: int, size: int) -> Tensor:
        if size == x.shape[axis]:
            return x
        begin = [start if i == axis else 0 for i in range(len(x.shape))]
        shape = [size if i == axis else n for i, n in enumerate(x.shape)]
        return self.graph.add("SLICE", [x, self.integers(begin), self.integers(shape)], shape)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        if len(tensors) == 1:
            return tensors[0]
        if len(tensors) > MAX_CONCAT_INPUTS:
            groups = [tensors[i:i + MAX_CONCAT_INPUTS]
                      for i in range(0, len(tensors), MAX_CONCAT_INPUTS)]
            return self.concat([self.concat(group, axis) for group in groups], axis)
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return self.graph.add("CONCATENATION", tensors, shape, axis=axis)

    def linear_f32(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None,
                   name: str = "") -> Tensor:
        """x matrix^T + bias in float32, whatever the weights' type."""
        w = self.constant(matrix, name)
        return self._fully_connected(x, w, None if bias is None else self.constant(bias))

    def _fully_connected(self, x: Tensor, w: Tensor, b: Tensor | None = None,
                         version: int = 0) -> Tensor:
        return self.graph.add("FULLY_CONNECTED", [x, w, b], (*x.shape[:-1], w.shape[0]),
                              version=version, keep_num_dims=True)

    def _floats(self, matrix: np.ndarray, name: str) -> Tensor:
        """A constant of float32, stored as float16 if those are the weights."""
        if self.weights == "float32":
            return self.constant(matrix, name)
        stored = self.graph.constant(matrix.astype(np.float16), name=name)
        return self.graph.add("DEQUANTIZE", [stored], matrix.shape)

    def linear(self, x: Tensor, matrix: np.ndarray, name: str) -> Tensor:
        """x matrix^T with weights of the chosen type.

        Per-row int8 needs version 12 of the operator: older runtimes accept a lower version and
        compute garbage. Portable files only store int8: it is dequantized once, when the file is
        loaded, with one scale for all rows, and the row scales are multiplied in afterwards.
        """
        if self.weights != "int8":
            return self._fully_connected(x, self._floats(matrix, name))
        values, scales = rows_to_int8(matrix)
        if self.target == LITERT:
            rows = self.graph.constant(values, scales, name)
            return self._fully_connected(x, rows, version=12)
        stored = self.graph.constant(values, (1 / 127,), name)
        dequantized = self.graph.add("DEQUANTIZE", [stored], matrix.shape, version=2)
        scale = self.constant(scales * 127, f"{name}.scales")
        return self.mul(self._fully_connected(x, dequantized), scale)

    def linears(self, x: Tensor, name: str, matrices: dict[str, np.ndarray]) -> list[Tensor]:
        """x matrix^T of each of a weight's matrices, by their names. LiteRT rounds what a matrix of
        integers reads to integers as well, which takes as long as a small product: once for all."""
        if self.weights != "int8" or self.target != LITERT:
            return [self.linear(x, matrix, f"{name}.{key}") for key, matrix in matrices.items()]
        y = self.linear(x, np.concatenate([*matrices.values()]), f"{name}.{'_'.join(matrices)}")
        ends = np.cumsum([len(matrix) for matrix in matrices.values()])
        return [self.slice(y, 3, int(end) - len(matrix), len(matrix))
                for end, matrix in zip(ends, matrices.values())]

    def embed(self, embedding: np.ndarray, tokens: Tensor, name: str) -> Tensor:
        """Rows (t, d) of the embedding (v, d) for tokens (t,). No delegate takes it: it comes
        first, so that everything after it is one partition."""
        def gather(table: Tensor) -> Tensor:
            shape = (*tokens.shape, table.shape[1])
            return self.graph.add("GATHER", [table, tokens], shape, table.dtype,
                                  version=2 if table.dtype == "int8" else 1)

        if self.weights != "int8":
            return gather(self._floats(embedding, name))
        values, scales = rows_to_int8(embedding)
        if self.target == LITERT:
            table = self.graph.constant(values, scales, name)
            shape = (*tokens.shape, embedding.shape[1])
            return self.graph.add("EMBEDDING_LOOKUP", [tokens, table], shape)
        rows = gather(self.graph.constant(values, (1 / 127,), name))
        floats = self.graph.add("CAST", [rows], rows.shape, in_type=TYPES["int8"],
                                out_type=TYPES["float32"])
        return self.mul(floats, gather(self.constant(scales[:, None], f"{name}.scales")))

    def depthwise_conv1d(self, x: Tensor, kernel: np.ndarray, name: str) -> Tensor:
        """x (1, rows, 1, c) and a kernel (taps, c) to (1, rows - taps + 1, 1, c); no padding."""
        taps, c = kernel.shape
        inputs = [x, self.constant(kernel.reshape(1, taps, 1, c), name),
                  self.constant(np.zeros(c))]
        return self.graph.add("DEPTHWISE_CONV_2D", inputs, (1, x.shape[1] - taps + 1, 1, c),
                              padding=VALID_PADDING, stride_w=1, stride_h=1, depth_multiplier=1,
                              dilation_w=1, dilation_h=1)

    def mean_rows(self, x: Tensor) -> Tensor:
        """(b, rows, 1, c) to (b, 1, 1, c)."""
        shape = (x.shape[0], 1, 1, x.shape[-1])
        return self.graph.add("MEAN", [x, self.integers([1, 2])], shape, keep_dims=True)

    def silu(self, x: Tensor) -> Tensor:
        return self.mul(x, self.unary("LOGISTIC", x))

    def rms_norm(self, x: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean of squares over the channels + eps), without a gain."""
        return self.l2_normalize(x, eps, 1 / x.shape[-1])

    def l2_normalize(self, x: Tensor, eps: float, factor: float = 1.0) -> Tensor:
        """x / sqrt(factor * sum of squares over the channels + eps). A long row's squares are added
        up in parts first: within a product each addition waits for the one before."""
        squares, (*rows, c) = self.mul(x, x), x.shape
        if c > MAX_SUMMED:
            parts = self.reshape(squares, math.prod(rows), SUM_PARTS, 1, c // SUM_PARTS)
            squares = self.reshape(self.mean_rows(parts), *rows, c // SUM_PARTS)
            factor *= SUM_PARTS
        squares = self.linear_f32(squares, np.full((1, squares.shape[-1]), factor),
                                  np.full(1, eps))
        if self.target == LITERT:
            return self.mul(x, self.unary("RSQRT", squares))
        return self.div(x, self.unary("SQRT", squares))

    def softmax(self, x: Tensor) -> Tensor:   # over the last axis
        return self.graph.add("SOFTMAX", [x], x.shape, beta=1.0)

    def transpose(self, x: Tensor, *axes: int) -> Tensor:
        shape = [x.shape[axis] for axis in axes]
        return self.graph.add("TRANSPOSE", [x, self.integers(axes)], shape)

    def rectified_sigmoid(self, x: Tensor, scale: float) -> Tensor:
        """scale times a sigmoid stretched about 1/2 and clipped to 0..1."""
        stretched = self.mul(self.unary("LOGISTIC", x), self.constant(scale * SIGMOID_STRETCH))
        low = self.constant(scale * (SIGMOID_STRETCH - 1) / 2)
        shifted = self.graph.add("SUB", [stretched, low], x.shape, activation=RELU_ACTIVATION)
        return self.minimum(shifted, self.constant(scale))

    def log_sigmoid(self, x: Tensor) -> Tensor:
        """log(sigmoid(x)) = min(x, 0) + log(1 - s), s = sigmoid(-|x|), which is -softplus(-x).

        -log(1 - s) is 2 atanh(r), r = s / (2 - s) = sigmoid(-|x| - log 2), which keeps the
        digits of a slow head's decay: the logarithm of a sigmoid near 1, or 1 + elu for
        exp(-|x|), loses four of them.
        """
        shifted = self.sub(self.constant(-math.log(2)), self.unary("ABS", x))
        ratio = self.unary("LOGISTIC", shifted)
        quotient = self.div(self.constant(ATANH_M),
                            self.sub(self.constant(ATANH_N), self.mul(ratio, ratio)))
        total = self.add(quotient, self.constant(ATANH_K))
        return self.sub(self.minimum(x, self.constant(0.0)), self.mul(total, ratio))

    def exp(self, x: Tensor) -> Tensor:
        """exp(x) for x <= 0."""
        if self.target == LITERT:
            return self.unary("EXP", x)
        return self.add(self.unary("ELU", x), self.constant(1.0))
