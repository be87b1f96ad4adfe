"""The operators that the graphs are made of, each with its output shape.

Portable graphs keep to what XNNPACK takes in tflite-runtime 2.14 as well; graphs for LiteRT use its
newer operators where that is faster. Tensors are (1, rows, 1, channels) unless said otherwise.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from seed.export.flatbuffer import TYPES, Graph, Tensor
from seed.export.quantize import rows_to_int8
from seed.export.reference import STRETCH

VALID_PADDING = 1
RELU_ACTIVATION = 1
PORTABLE, LITERT = "portable", "litert"
MAX_CONCAT_INPUTS = 4    # of one CONCATENATION, for XNNPACK in tflite-runtime 2.14
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

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        while len(tensors) > 1:
            tensors = [self._concat(tensors[i:i + MAX_CONCAT_INPUTS], axis)
                       for i in range(0, len(tensors), MAX_CONCAT_INPUTS)]
        return tensors[0]

    def _concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        if len(tensors) == 1:
            return tensors[0]
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return self.graph.add("CONCATENATION", tensors, [shape], axis=axis, activation=0)[0]

    def linear_f32(self, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """x matrix^T + bias in float32, whatever the weights' type."""
        w = self.constant(matrix)
        b = None if bias is None else self.constant(bias)
        return self._fully_connected(x, w, b, 6)

    def _fully_connected(self, x: Tensor, w: Tensor, b: Tensor | None, version: int) -> Tensor:
        shape = (*x.shape[:-1], w.shape[0])
        return self.graph.add("FULLY_CONNECTED", [x, w, b], [shape], version=version, activation=0,
                              weights_format=0, keep_num_dims=True, asymmetric=False)[0]

    def linear(self, x: Tensor, matrix: np.ndarray) -> Tensor:
        """x matrix^T with weights of the chosen type.

        Per-row int8 needs version 12 of the operator: older runtimes accept a lower version and
        compute garbage. Portable files only store int8: it is dequantized once, when the file is
        loaded, with one scale for all rows, and the row scales are multiplied in afterwards.
        """
        if self.weights == "float32":
            return self.linear_f32(x, matrix)
        if self.weights == "float16":
            stored = self.graph.constant(matrix.astype(np.float16))
            dequantized = self.graph.add("DEQUANTIZE", [stored], [matrix.shape])[0]
            return self._fully_connected(x, dequantized, None, 6)
        values, scales = rows_to_int8(matrix)
        if self.target == LITERT:
            rows = self.graph.constant(values, tuple(scales.tolist()))
            return self._fully_connected(x, rows, None, 12)
        stored = self.graph.constant(values, (1 / 127,))
        dequantized = self.graph.add("DEQUANTIZE", [stored], [matrix.shape], version=2)[0]
        return self.mul(self._fully_connected(x, dequantized, None, 6), self.constant(scales * 127))

    def embed(self, embedding: np.ndarray, tokens: Tensor) -> Tensor:
        """Rows (t, d) of the embedding (v, d) for tokens (t,). No delegate takes it: it comes
        first, so that everything after it is one partition."""
        v, d = embedding.shape

        def gather(rows: Tensor, width: int, dtype: str) -> Tensor:
            return self.graph.add("GATHER", [rows, tokens], [(*tokens.shape, width)], dtype,
                                  axis=0, batch_dims=0)[0]
        if self.weights == "float32":
            return gather(self.constant(embedding), d, "float32")
        if self.weights == "float16":
            stored = self.graph.constant(embedding.astype(np.float16))
            return gather(self.graph.add("DEQUANTIZE", [stored], [(v, d)])[0], d, "float32")
        values, scales = rows_to_int8(embedding)
        if self.target == LITERT:
            rows = self.graph.constant(values, tuple(scales.tolist()))
            return self.graph.add("EMBEDDING_LOOKUP", [tokens, rows], [(*tokens.shape, d)])[0]
        rows = gather(self.graph.constant(values, (1 / 127,)), d, "int8")
        floats = self.graph.add("CAST", [rows], [rows.shape], in_type=TYPES["int8"],
                                out_type=TYPES["float32"])[0]
        return self.mul(floats, gather(self.constant(scales[:, None]), 1, "float32"))

    def depthwise_conv1d(self, x: Tensor, kernel: np.ndarray) -> Tensor:
        """x (1, rows, 1, c) and a kernel (taps, c) to (1, rows - taps + 1, 1, c); no padding."""
        taps, c = kernel.shape
        return self.graph.add(
            "DEPTHWISE_CONV_2D", [x, self.constant(kernel.reshape(1, taps, 1, c)),
                                  self.constant(np.zeros(c))], [(1, x.shape[1] - taps + 1, 1, c)],
            padding=VALID_PADDING, stride_w=1, stride_h=1, depth_multiplier=1, activation=0,
            dilation_w=1, dilation_h=1)[0]

    def sum_rows(self, x: Tensor) -> Tensor:
        """(1, rows, 1, c) to (1, 1, 1, c)."""
        shape = (1, 1, 1, x.shape[-1])
        if self.target == LITERT:
            return self.graph.add("SUM", [x, self.integers([1])], [shape], keep_dims=True)[0]
        mean = self.graph.add("MEAN", [x, self.integers([1, 2])], [shape], keep_dims=True)[0]
        return self.mul(mean, self.constant(float(x.shape[1])))

    def silu(self, x: Tensor) -> Tensor:
        return self.mul(x, self.unary("LOGISTIC", x))

    def rms_norm(self, x: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean of squares over the channels + eps), without a gain."""
        return self._normalize(x, 1 / x.shape[-1], eps)

    def l2_normalize(self, x: Tensor, eps: float) -> Tensor:
        """x / sqrt(sum of squares over the channels + eps)."""
        return self._normalize(x, 1.0, eps)

    def _normalize(self, x: Tensor, factor: float, eps: float) -> Tensor:
        squares = self.linear_f32(self.mul(x, x), np.full((1, x.shape[-1]), factor),
                                  np.full(1, eps))
        if self.target == LITERT:
            return self.mul(x, self.unary("RSQRT", squares))
        return self.div(x, self.unary("SQRT", squares))

    def softmax(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return self.graph.add("SOFTMAX", [x], [x.shape], beta=1.0)[0]

    def transpose_rows_channels(self, x: Tensor) -> Tensor:
        """(1, rows, 1, c) to (1, c, 1, rows)."""
        return self._transpose(x, (0, 3, 2, 1))

    def transpose_rows_heads(self, x: Tensor) -> Tensor:
        """(1, t, h, p) to (1, h, t, p)."""
        return self._transpose(x, (0, 2, 1, 3))

    def _transpose(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        shape = [x.shape[i] for i in order]
        return self.graph.add("TRANSPOSE", [x, self.integers(order)], [shape])[0]

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """(1, h, m, k) times (1, h, k, n); for LiteRT only."""
        return self.graph.add("BATCH_MATMUL", [a, b], [(*a.shape[:-1], b.shape[-1])], adj_x=False,
                              adj_y=False)[0]

    def rectified_sigmoid(self, x: Tensor, scale: float) -> Tensor:
        """scale times a sigmoid stretched about 1/2 and clipped to 0..1."""
        stretched = self.mul(self.unary("LOGISTIC", x), self.constant(scale * STRETCH))
        shifted = self.graph.add("SUB", [stretched, self.constant(scale * (STRETCH - 1) / 2)],
                                 [x.shape], activation=RELU_ACTIVATION)[0]
        return self.binary("MINIMUM", shifted, self.constant(scale))

    def log_sigmoid(self, x: Tensor) -> Tensor:
        """log(sigmoid(x)) = min(x, 0) + log(1 - s), s = sigmoid(-|x|), which is -softplus(-x).

        log(1 - s) is an odd series of s / (2 - s), which keeps the digits of a slow head's decay:
        the logarithm of a sigmoid near 1, or 1 + elu for exp(-|x|), loses four of them.
        """
        small = self.unary("LOGISTIC", self.unary("NEG", self.unary("ABS", x)))
        ratio = self.div(small, self.sub(self.constant(2.0), small))
        square, total = self.mul(ratio, ratio), self.constant(LOG1P[0])
        for coefficient in LOG1P[1:]:
            total = self.add(self.mul(total, square), self.constant(coefficient))
        return self.sub(self.binary("MINIMUM", x, self.constant(0.0)), self.mul(total, ratio))

    def exp(self, x: Tensor) -> Tensor:
        """exp(x) for x <= 0."""
        if self.target == LITERT:
            return self.unary("EXP", x)
        return self.add(self.unary("ELU", x), self.constant(1.0))
