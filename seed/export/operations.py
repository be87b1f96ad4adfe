"""The operators that the graphs are made of, with their shapes worked out.

Portable graphs keep to what XNNPACK takes in tflite-runtime 2.14 as well; graphs for LiteRT use its
newer operators where that is faster. Tensors are (1, rows, 1, channels) unless said otherwise.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from seed.export.flatbuffer import TYPES, Graph, Tensor
from seed.export.quantize import rows_to_int8
from seed.export.reference import STRETCH

VALID = 1                # padding
RELU = 1                 # activation
PORTABLE, LITERT = "portable", "litert"
FEW = 4                  # tensors that one concatenation of 2.14's XNNPACK takes
LOG1P = (2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0)   # -log(1 - s) is 2 atanh(s / (2 - s)), to 2e-6


class Operations:
    """Appends operators to one graph."""

    def __init__(self, graph: Graph, target: str, weights: str):
        self.graph, self.target, self.weights = graph, target, weights

    def constant(self, values) -> Tensor:
        return self.graph.constant(np.asarray(values, np.float32))

    def integers(self, values: Sequence[int]) -> Tensor:
        return self.graph.constant(np.array(values, np.int32))

    def unary(self, kind: str, x: Tensor) -> Tensor:
        return self.graph.add(kind, [x], [x.shape])[0]

    def binary(self, kind: str, a: Tensor, b: Tensor) -> Tensor:
        options: dict[str, Any] = {} if kind == "MINIMUM" else {"activation": 0}
        return self.graph.add(kind, [a, b], [np.broadcast_shapes(a.shape, b.shape)], **options)[0]

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return self.binary("ADD", a, b)

    def sub(self, a: Tensor, b: Tensor) -> Tensor:
        return self.binary("SUB", a, b)

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        return self.binary("MUL", a, b)

    def div(self, a: Tensor, b: Tensor) -> Tensor:
        return self.binary("DIV", a, b)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        if x.shape == shape:
            return x
        return self.graph.add("RESHAPE", [x, self.integers(shape)], [shape], new_shape=shape)[0]

    def slice(self, x: Tensor, axis: int, start: int, size: int) -> Tensor:
        if size == x.shape[axis]:
            return x
        begin = [start if i == axis else 0 for i in range(len(x.shape))]
        shape = [size if i == axis else n for i, n in enumerate(x.shape)]
        return self.graph.add("SLICE", [x, self.integers(begin), self.integers(shape)], [shape])[0]

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        while len(parts) > 1:
            parts = [self._join(parts[i:i + FEW], axis) for i in range(0, len(parts), FEW)]
        return parts[0]

    def _join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.graph.add("CONCATENATION", parts, [shape], axis=axis, activation=0)[0]

    def fixed(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """x matrix^T + bias, in float32 whatever the kind of weights."""
        w = self.constant(matrix)
        b = None if bias is None else self.constant(bias)
        return self._connect(x, w, b, 6)

    def _connect(self, x: Tensor, w: Tensor, b: Tensor | None, version: int) -> Tensor:
        shape = (*x.shape[:-1], w.shape[0])
        return self.graph.add("FULLY_CONNECTED", [x, w, b], [shape], version=version, activation=0,
                              weights_format=0, keep_num_dims=True, asymmetric=False)[0]

    def linear(self, x: Tensor, matrix: np.ndarray) -> Tensor:
        """x matrix^T with weights of the chosen kind.

        Per-row int8 wants version 12 of the operator; older runtimes load it under a lower one
        and compute garbage. The portable form only stores int8: it is unpacked once, when the file
        is loaded, with one scale for all rows and a product after.
        """
        if self.weights == "float32":
            return self.fixed(x, matrix)
        if self.weights == "float16":
            half = self.graph.constant(matrix.astype(np.float16))
            whole = self.graph.add("DEQUANTIZE", [half], [matrix.shape])[0]
            return self._connect(x, whole, None, 6)
        values, scales = rows_to_int8(matrix)
        if self.target == LITERT:
            return self._connect(x, self.graph.constant(values, tuple(scales.tolist())), None, 12)
        stored = self.graph.constant(values, (1 / 127,))
        whole = self.graph.add("DEQUANTIZE", [stored], [matrix.shape], version=2)[0]
        return self.mul(self._connect(x, whole, None, 6), self.constant(scales * 127))

    def embed(self, table: np.ndarray, tokens: Tensor) -> Tensor:
        """Rows (t, d) of the table for tokens (t,). Never delegated, so it comes first."""
        shape = (*tokens.shape, table.shape[1])

        def gather(rows: Tensor, width: int, dtype: str) -> Tensor:
            return self.graph.add("GATHER", [rows, tokens], [(*tokens.shape, width)], dtype,
                                  axis=0, batch_dims=0)[0]
        if self.weights == "float32":
            return gather(self.constant(table), table.shape[1], "float32")
        if self.weights == "float16":
            half = self.graph.constant(table.astype(np.float16))
            return gather(self.graph.add("DEQUANTIZE", [half], [table.shape])[0], table.shape[1],
                          "float32")
        values, scales = rows_to_int8(table)
        if self.target == LITERT:
            rows = self.graph.constant(values, tuple(scales.tolist()))
            return self.graph.add("EMBEDDING_LOOKUP", [tokens, rows], [shape])[0]
        rows = self.graph.constant(values, (1 / 127,))
        found = gather(rows, table.shape[1], "int8")
        return self.mul(self.graph.add("CAST", [found], [shape], in_type=TYPES["int8"],
                                       out_type=TYPES["float32"])[0],
                        gather(self.constant(scales[:, None]), 1, "float32"))

    def depthwise(self, x: Tensor, kernel: np.ndarray) -> Tensor:
        """x (1, rows, 1, c) with a kernel (taps, c) along the rows, none padded."""
        taps, c = kernel.shape
        return self.graph.add(
            "DEPTHWISE_CONV_2D", [x, self.constant(kernel.reshape(1, taps, 1, c)),
                                  self.constant(np.zeros(c))], [(1, x.shape[1] - taps + 1, 1, c)],
            padding=VALID, stride_w=1, stride_h=1, depth_multiplier=1, activation=0, dilation_w=1,
            dilation_h=1)[0]

    def sum_rows(self, x: Tensor) -> Tensor:
        """(1, rows, 1, c) to (1, 1, 1, c)."""
        shape = (1, 1, 1, x.shape[-1])
        if self.target == LITERT:
            return self.graph.add("SUM", [x, self.integers([1])], [shape], keep_dims=True)[0]
        mean = self.graph.add("MEAN", [x, self.integers([1, 2])], [shape], keep_dims=True)[0]
        return self.mul(mean, self.constant(float(x.shape[1])))

    def silu(self, x: Tensor) -> Tensor:
        return self.mul(x, self.unary("LOGISTIC", x))

    def normalised(self, x: Tensor, mean: bool, eps: float) -> Tensor:
        """x / sqrt(sum or mean of squares over the channels + eps)."""
        c = x.shape[-1]
        squares = self.fixed(self.mul(x, x), np.full((1, c), 1 / c if mean else 1.0),
                             np.full(1, eps))
        if self.target == LITERT:
            return self.mul(x, self.unary("RSQRT", squares))
        return self.div(x, self.unary("SQRT", squares))

    def softmax(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return self.graph.add("SOFTMAX", [x], [x.shape], beta=1.0)[0]

    def turn(self, x: Tensor) -> Tensor:
        """(1, rows, 1, c) to (1, c, 1, rows)."""
        return self._transpose(x, (0, 3, 2, 1))

    def swap(self, x: Tensor) -> Tensor:
        """(1, t, h, p) to (1, h, t, p)."""
        return self._transpose(x, (0, 2, 1, 3))

    def _transpose(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        shape = [x.shape[i] for i in order]
        return self.graph.add("TRANSPOSE", [x, self.integers(order)], [shape])[0]

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """(1, h, m, k) times (1, h, k, n); for LiteRT only."""
        return self.graph.add("BATCH_MATMUL", [a, b], [(*a.shape[:-1], b.shape[-1])], adj_x=False,
                              adj_y=False)[0]

    def rectified_sigmoid(self, x: Tensor, most: float) -> Tensor:
        """most times a sigmoid stretched about 1/2 and cut to 0..1."""
        stretched = self.mul(self.unary("LOGISTIC", x), self.constant(most * STRETCH))
        above = self.graph.add("SUB", [stretched, self.constant(most * (STRETCH - 1) / 2)],
                               [x.shape], activation=RELU)[0]
        return self.binary("MINIMUM", above, self.constant(most))

    def log_sigmoid(self, x: Tensor) -> Tensor:
        """log(sigmoid(x)) = min(x, 0) + log(1 - s), s = sigmoid(-|x|), which is -softplus(-x).

        log(1 - s) is an odd series of s / (2 - s), so a slow head's decay keeps its digits: the
        logarithm of a sigmoid near 1, or 1 + elu for exp(-|x|), loses four of them.
        """
        small = self.unary("LOGISTIC", self.unary("NEG", self.unary("ABS", x)))
        ratio = self.div(small, self.sub(self.constant(2.0), small))
        square, total = self.mul(ratio, ratio), self.constant(LOG1P[0])
        for coefficient in LOG1P[1:]:
            total = self.add(self.mul(total, square), self.constant(coefficient))
        return self.sub(self.binary("MINIMUM", x, self.constant(0.0)), self.mul(total, ratio))

    def exp(self, x: Tensor) -> Tensor:
        """exp(x) of x <= 0."""
        if self.target == LITERT:
            return self.unary("EXP", x)
        return self.add(self.unary("ELU", x), self.constant(1.0))
