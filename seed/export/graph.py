"""The graphs of a brain: `step`, `reset`, and `prefill_T` on request.

Norm gains are folded into the next projection, and the trained arrays are reordered so that each
operator reads what lies together. States are resource variables that the signatures share, or
inputs and outputs. Keys are carried un-rotated, as in training: the query is turned for each slot.

For LiteRT a recurrence is a batch of small matrix products, one a head. The portable form has no
such operator: there k and q are spread over all channels of their heads, and sums run over rows.
"""
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seed.config import ModelConfig
from seed.export.flatbuffer import RESOURCE, Graph, Model, Tensor
from seed.export.operations import LITERT, Operations
from seed.export.reference import UNIT_EPS

MASKED = -30000.0  # added to the score of a slot that holds no key yet


@dataclass(frozen=True)
class Options:
    """What is built. `target`: portable or litert; `weights`: float32, float16 or int8."""
    target: str = "portable"
    weights: str = "float32"
    explicit_state: bool = False
    prefill: int = 0          # bytes of the prefill signature; 0 for none


def state_shapes(config: ModelConfig, target: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every state, in the order of the explicit inputs and outputs."""
    c = config
    shapes: dict[str, tuple[int, ...]] = {}
    for i, kind in enumerate(c.layer_kinds):
        if kind == "S":
            shapes[f"conv_{i}"] = (1, c.d_conv - 1, 1, 2 * c.d_state * c.ssm_heads + c.d_inner)
            shapes[f"ssm_{i}"] = (1, c.ssm_heads, c.d_state, c.head_dim) if target == LITERT else (
                1, c.d_state, 1, c.d_inner)
        else:
            shapes[f"keys_{i}"] = (1, c.sliding_window - 1, 1, c.d_model)
            shapes[f"values_{i}"] = (1, c.attn_heads, c.sliding_window - 1, c.head_dim) \
                if target == LITERT else shapes[f"keys_{i}"]
    if "A" in c.layer_kinds:
        shapes["mask"] = (1, c.sliding_window - 1, 1, 1)
    return shapes


def start_of(name: str) -> float:
    """What a state is filled with before the first byte."""
    return MASKED if name == "mask" else 0.0


def build(config: ModelConfig, params: dict[str, np.ndarray], options: Options,
          description: str) -> Model:
    """All graphs of a brain; `params` are a checkpoint's named float32 arrays."""
    model = Model(description)
    shapes = state_shapes(config, options.target)
    _advance(model, config, params, options, 1)
    if options.prefill:
        _advance(model, config, params, options, options.prefill)
    if not options.explicit_state:
        graph = model.graph("reset")
        unused = graph.input("unused", (1,))
        for name, shape in shapes.items():
            value = graph.add("FILL", [graph.constant(np.array(shape, np.int32)), graph.constant(
                np.array(start_of(name), np.float32))], [shape])[0]
            graph.add("ASSIGN_VARIABLE", [_handle(graph, name), value], [])
        done = graph.add("ADD", [unused, unused], [(1,)], activation=0)[0]
        graph.output("done", done)
    return model


def _handle(graph: Graph, name: str) -> Tensor:
    return graph.add("VAR_HANDLE", [], [()], RESOURCE, container="", shared_name=name)[0]


def _advance(model: Model, config: ModelConfig, params: dict[str, np.ndarray], options: Options,
             t: int) -> None:
    """The graph that reads t bytes and gives the logits after the last."""
    graph = model.graph("step" if t == 1 else f"prefill_{t}")
    tokens = graph.input("token" if t == 1 else "tokens", (t,), "int32")
    layers = Layers(Operations(graph, options.target, options.weights), config, params, t)
    x = layers.embed(tokens)
    shapes = state_shapes(config, options.target)
    if options.explicit_state:
        before = {name: graph.input(name, shape) for name, shape in shapes.items()}
        after = layers.run(x, before)
        for name, tensor in after.items():
            graph.output("logits" if name == "logits" else f"{name}_out", tensor)
        return
    handles = {name: _handle(graph, name) for name in shapes}
    before = {name: graph.add("READ_VARIABLE", [handles[name]], [shape])[0]
              for name, shape in shapes.items()}
    after = layers.run(x, before)
    graph.output("logits", after.pop("logits"))
    for name, tensor in after.items():
        graph.add("ASSIGN_VARIABLE", [handles[name], tensor], [])


class Layers:
    """Emits a brain's layers over t bytes into one graph."""

    def __init__(self, operations: Operations, config: ModelConfig, params: dict[str, np.ndarray],
                 t: int):
        self.o, self.config, self.params, self.t = operations, config, params, t

    def embed(self, tokens: Tensor) -> Tensor:
        return self.o.embed(self.params["embedding"], tokens)

    def run(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows (t, d) and states to the logits (1, v) after the last row, and the new states."""
        c, o = self.config, self.o
        after: dict[str, Tensor] = {}
        x = o.reshape(x, 1, self.t, 1, c.d_model)
        if "mask" in state:
            valid = o.constant(np.zeros((1, self.t, 1, 1)))
            mask = o.join([state["mask"], valid], 1)
            after["mask"] = o.slice(mask, 1, self.t, c.sliding_window - 1)
        for i, kind in enumerate(c.layer_kinds):
            if kind == "S":
                x, after[f"conv_{i}"], after[f"ssm_{i}"] = self._ssm(
                    i, x, state[f"conv_{i}"], state[f"ssm_{i}"])
            else:
                x, after[f"keys_{i}"], after[f"values_{i}"] = self._attention(
                    i, x, state[f"keys_{i}"], state[f"values_{i}"], mask)
            x = self._mlp(i, x)
        x = o.normalised(o.slice(x, 1, self.t - 1, 1), True, c.stream_eps)
        scores = o.linear(o.mul(x, o.constant(self.params["norm_f"])), self.params["embedding"])
        return {"logits": o.reshape(scores, 1, c.vocab_size),
                **{name: after[name] for name in state}}

    def _norm(self, x: Tensor) -> Tensor:
        return self.o.normalised(x, True, self.config.stream_eps)

    def _mlp(self, i: int, x: Tensor) -> Tensor:
        o, w = self.o, lambda name: self.params[f"layers.{i}.mlp.{name}"]
        gate, up = (o.linear(u, part * w("norm")) for u in [self._norm(x)]
                    for part in np.split(w("in_proj"), 2))
        return o.add(x, o.linear(o.mul(o.silu(gate), up), w("out_proj")))

    def _ssm(self, i: int, x: Tensor, conv: Tensor,
             ssm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, o, w = self.config, self.o, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        h, n, p, e = c.ssm_heads, c.d_state, c.head_dim, c.d_inner
        rows = w("in_proj") * w("norm")
        heads = rows[:h * (2 * n + 2 * p)].reshape(h, 2 * n + 2 * p, -1)
        beta_rows, dt_rows = np.split(rows[h * (2 * n + 2 * p):], 2)

        def ordered(by_head: np.ndarray) -> np.ndarray:
            """(h, 2n+p, ...) to channels k, q and v; in the portable form k and q state first."""
            q, k, v = np.split(by_head, [n, 2 * n], 1)
            if o.target != LITERT:
                k, q = k.swapaxes(0, 1), q.swapaxes(0, 1)
            return np.concatenate([z.reshape(-1, *by_head.shape[2:]) for z in (k, q, v)])

        u = self._norm(x)
        window = o.join([conv, o.linear(u, ordered(heads[:, :2 * n + p]))], 1)
        kernel = ordered(w("conv1d").transpose(1, 2, 0)).T                  # (d_conv, 2nh+e)
        mixed = o.silu(o.depthwise(window, np.ascontiguousarray(kernel)))   # (1, t, 1, 2nh+e)
        gate = o.silu(o.linear(u, heads[:, 2 * n + p:].reshape(e, -1)))     # (1, t, 1, e)
        bias = np.concatenate([np.zeros(h), -w("dt_bias")])
        gates = o.fixed(u, np.concatenate([beta_rows, -dt_rows]), bias)     # (1, t, 1, 2h)
        beta = o.rectified_sigmoid(o.slice(gates, 3, 0, h), c.beta_max)
        a = np.array([math.exp(log) for log in w("A_log")])   # numpy's differs between CPUs
        rate = o.mul(o.log_sigmoid(o.slice(gates, 3, h, h)), o.constant(a))
        decay = o.exp(rate)                                                 # (1, t, 1, h)
        recur = self._recur_by_head if o.target == LITERT else self._recur_by_row
        outputs = []
        for row in range(self.t):
            at_mixed, at_beta, at_decay = (o.slice(z, 1, row, 1) for z in (mixed, beta, decay))
            y, ssm = recur(at_mixed, at_beta, at_decay, ssm)
            outputs.append(o.normalised(o.reshape(y, 1, h, 1, p), True, c.norm_eps))
        y = o.reshape(o.join(outputs, 1), 1, self.t, 1, e)
        out = w("out_proj") * np.tile(w("out_norm"), h)
        return (o.add(x, o.linear(o.mul(y, gate), out)),
                o.slice(window, 1, self.t, c.d_conv - 1), ssm)

    def _recur_by_head(self, mixed: Tensor, beta: Tensor, decay: Tensor,
                       ssm: Tensor) -> tuple[Tensor, Tensor]:
        """One byte of the recurrence: y (1, h, 1, p) and the next state (1, h, n, p)."""
        c, o = self.config, self.o
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        both = o.reshape(o.slice(mixed, 3, 0, 2 * n * h), 1, 2 * h, 1, n)
        unit = o.normalised(both, False, UNIT_EPS)
        k, q = o.slice(unit, 1, 0, h), o.slice(unit, 1, h, h)               # (1, h, 1, n)
        v = o.reshape(o.slice(mixed, 3, 2 * n * h, c.d_inner), 1, h, 1, p)
        kept = o.mul(ssm, o.reshape(decay, 1, h, 1, 1))
        if c.transition == "delta":
            v = o.sub(v, o.matmul(k, kept))
        write = o.mul(v, o.reshape(beta, 1, h, 1, 1))
        after = o.add(kept, o.mul(o.reshape(k, 1, h, n, 1), write))
        return o.matmul(q, after), after

    def _recur_by_row(self, mixed: Tensor, beta: Tensor, decay: Tensor,
                      ssm: Tensor) -> tuple[Tensor, Tensor]:
        """One byte of the recurrence: y (1, 1, 1, e) and the next state (1, n, 1, e)."""
        c, o = self.config, self.o
        h, n = c.ssm_heads, c.d_state
        same_head = np.tile(np.eye(h), (1, n))                              # (h, nh)
        spread = np.repeat(np.eye(h), c.head_dim, 0)                        # (e, h): to channels

        def expanded(start: int) -> Tensor:
            """The unit vector of each head, for each of its channels: (1, n, 1, e)."""
            raw = o.slice(mixed, 3, start, n * h)
            length = o.fixed(o.mul(raw, raw), same_head, np.full(h, UNIT_EPS))   # (1, 1, 1, h)
            unit = o.div(o.reshape(raw, 1, n, 1, h), o.unary("SQRT", length))
            return o.fixed(unit, spread)

        k, q = expanded(0), expanded(n * h)
        v = o.slice(mixed, 3, 2 * n * h, c.d_inner)
        kept = o.mul(ssm, o.fixed(decay, spread))
        if c.transition == "delta":
            v = o.sub(v, o.sum_rows(o.mul(kept, k)))
        after = o.add(kept, o.mul(k, o.mul(o.fixed(beta, spread), v)))
        return o.sum_rows(o.mul(after, q)), after

    def _attention(self, i: int, x: Tensor, keys: Tensor, values: Tensor,
                   mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, o, w = self.config, self.o, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        h, p, d, slots = c.attn_heads, c.head_dim, c.d_model, c.sliding_window
        query, key, value = np.split(w("qkv_proj") * w("norm"), 3)
        query, key = (z.reshape(h, 2, p // 2, d).swapaxes(0, 1).reshape(d, d)   # lower halves of
                      for z in (query / np.sqrt(p), key))                   # all heads, then upper
        cos, sin = (o.constant(table) for table in self._turns())
        u = self._norm(x)
        q = o.reshape(o.linear(u, query), 1, self.t, 2, d // 2)
        low, high = o.slice(q, 2, 0, 1), o.slice(q, 2, 1, 1)
        q_turned = o.join([o.unary("NEG", high), low], 2)                   # by a quarter turn
        keys = o.join([keys, o.linear(u, key)], 1)
        fresh, axis = o.linear(u, value), 1
        if o.target == LITERT:
            fresh, axis = self._by_head(fresh), 2
        values = o.join([values, fresh], axis)
        heads = np.repeat(np.eye(h), p, 1)                                  # (h, d)
        halves = np.tile(np.repeat(np.eye(h), p // 2, 1), 2)                # the same, in key order
        outputs = []
        for row in range(self.t):
            at = [o.slice(tensor, 1, row, 1) for tensor in (q, q_turned)]
            rotated = o.add(o.mul(cos, at[0]), o.mul(sin, at[1]))           # (1, slots, 2, d/2)
            rotated = o.reshape(rotated, 1, slots, 1, d)
            seen, valid = (o.slice(z, 1, row, slots) for z in (keys, mask))
            scores = o.add(o.fixed(o.mul(seen, rotated), halves), valid)    # (1, slots, 1, h)
            weight = o.softmax(o.turn(scores))                              # (1, h, 1, slots)
            seen = o.slice(values, axis, row, slots)
            if o.target == LITERT:
                outputs.append(o.reshape(o.matmul(weight, seen), 1, 1, 1, d))
            else:
                outputs.append(o.sum_rows(o.mul(o.fixed(o.turn(weight), heads.T), seen)))
        y = o.linear(o.join(outputs, 1), w("out_proj"))
        return (o.add(x, y), o.slice(keys, 1, self.t, slots - 1),
                o.slice(values, axis, self.t, slots - 1))

    def _turns(self) -> Iterator[np.ndarray]:
        """Cosines and sines by which the query is turned for each slot: (1, slots, 1, d/2).

        Tables come from `math`, which gives the same bytes with every numpy.
        """
        c, half = self.config, self.config.head_dim // 2
        for turn in (math.cos, math.sin):
            rows = [[turn((c.sliding_window - 1 - slot) * c.rope_theta ** (-i / half))
                     for i in range(half)] * c.attn_heads for slot in range(c.sliding_window)]
            yield np.array(rows).reshape(1, c.sliding_window, 1, -1)

    def _by_head(self, x: Tensor) -> Tensor:
        """(1, t, 1, d) to (1, h, t, p)."""
        c, o = self.config, self.o
        split = o.reshape(x, 1, self.t, c.attn_heads, c.head_dim)
        return o.reshape(split, 1, c.attn_heads, 1, c.head_dim) if self.t == 1 else o.swap(split)
