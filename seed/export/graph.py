"""The graphs of a brain: `step`, `reset`, and `prefill_T` on request; of one with bodies also
`save` and `load`, which read and write its states, and `predict`.

Norm gains are folded into the next projection, and the trained arrays are reordered so that each
operator reads contiguous channels. States are resource variables that the signatures share, or
inputs and outputs. Keys stay unrotated, as in training: the query is rotated for each slot instead.

The step of a brain with bodies reads a byte, a tick or both: the byte's embedding times `present`,
plus a weighted sum of the rows of all input tables, one body's after the other. It returns the
byte's logits, those of all control heads in the same order, and the hidden vector. `predict` takes
that and the action, and returns the logits of all world heads: of the observation that follows.

For LiteRT the recurrence is a batched matrix product, one per head. Portable files have no such
operator: there k and q are repeated over all channels of their head, and sums run over rows.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seed.config import L2_EPS, ModelConfig
from seed.errors import ConfigError
from seed.export.flatbuffer import Model, Tensor
from seed.export.operations import LITERT, Operations
from seed.wavecore.layout import BODIES, BodyShape

MAX_PREFILL = 64
MASKED = -30000.0  # added to the score of a slot that holds no key yet
State = dict[str, Tensor]   # by the names of state_shapes


@dataclass(frozen=True)
class Options:
    """What to export. `target`: portable or litert; `weights`: float32, float16 or int8."""
    target: str = "portable"
    weights: str = "float32"
    explicit_state: bool = False
    prefill: int = 0          # bytes per call of the prefill signature; 0 for none

    def __post_init__(self) -> None:
        if self.prefill and not 2 <= self.prefill <= MAX_PREFILL:
            raise ConfigError(f"--prefill is {self.prefill}: use 2 to {MAX_PREFILL}, or 0 for none")


def state_shapes(config: ModelConfig, target: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every state, in the order of the explicit inputs and outputs."""
    c, by_head, slots = config, target == LITERT, config.sliding_window - 1
    shapes: dict[str, tuple[int, ...]] = {}
    for i, kind in enumerate(c.layer_kinds):
        if kind == "S":
            shapes[f"conv_{i}"] = (1, c.d_conv - 1, 1, 2 * c.d_state * c.ssm_heads + c.d_inner)
            shapes[f"ssm_{i}"] = ((1, c.ssm_heads, c.d_state, c.head_dim) if by_head else
                                  (1, c.d_state, 1, c.d_inner))
        else:
            shapes[f"keys_{i}"] = (1, slots, 1, c.d_model)
            shapes[f"values_{i}"] = ((1, c.attn_heads, slots, c.head_dim) if by_head else
                                     (1, slots, 1, c.d_model))
    if "A" in c.layer_kinds:
        shapes["mask"] = (1, slots, 1, 1)
    return shapes


def initial_value(name: str) -> float:
    """What a state is filled with before the first byte."""
    return MASKED if name == "mask" else 0.0


def build_model(config: ModelConfig, params: dict[str, np.ndarray], options: Options,
                description: str, bodies: Sequence[BodyShape] = (),
                predicts: bool = False) -> Model:
    """All graphs of a brain. `params`: a checkpoint's named float32 arrays; `predicts`: whether it
    has learned to predict the observations of its bodies."""
    model = Model(description)
    _add_forward(model, config, params, options, 1, bodies, predicts)
    if options.prefill:
        _add_forward(model, config, params, options, options.prefill)
    if not options.explicit_state:
        _add_reset(model, config, options)
    if bodies and not options.explicit_state:
        _add_save_and_load(model, config, options)
    if predicts:
        _add_prediction(model, config, params, options, bodies)
    return model


def _add_reset(model: Model, config: ModelConfig, options: Options) -> None:
    o = Operations(model.graph("reset"), options.target, options.weights)
    unused = o.graph.input("unused", (1,))
    for name, shape in state_shapes(config, options.target).items():
        start = [o.integers(shape), o.constant(initial_value(name))]
        value = o.graph.add("FILL", start, shape)
        o.graph.assign(o.graph.variable(name), value)
    o.graph.output("done", o.add(unused, unused))


def _add_save_and_load(model: Model, config: ModelConfig, options: Options) -> None:
    save, load = model.graph("save"), model.graph("load")
    for graph in (save, load):
        unused = graph.input("unused", (1,))
        graph.output("done", graph.add("ADD", [unused, unused], (1,)))
    for name, shape in state_shapes(config, options.target).items():
        save.output(name, save.add("READ_VARIABLE", [save.variable(name)], shape, name=name))
        load.assign(load.variable(name), load.input(name, shape))


def _add_prediction(model: Model, config: ModelConfig, params: dict[str, np.ndarray],
                    options: Options, bodies: Sequence[BodyShape]) -> None:
    """The world heads of all bodies, on the hidden vector plus a row for each part of the action
    that was taken."""
    o = Operations(model.graph("predict"), options.target, options.weights)
    rows = np.concatenate([params[f"{BODIES}{body.name}.action"] for body in bodies])
    hidden = o.graph.input("hidden", (1, 1, 1, config.d_model))
    choices = o.graph.input("choices", (1, 1, 1, len(rows)))
    x = o.rms_norm(o.add(hidden, o.linear_f32(choices, rows.T, name="bodies.action")),
                   config.stream_eps)
    table = _head_rows(params, bodies, "world")
    world = o.linear(o.mul(x, o.constant(params["norm_f"], "norm_f")), table, "bodies.world")
    o.graph.output("world", o.reshape(world, 1, len(table)))


def _head_rows(params: dict[str, np.ndarray], bodies: Sequence[BodyShape],
               name: str) -> np.ndarray:
    """The rows of the "control" or "world" heads of all bodies, without padding."""
    return np.concatenate([params[f"{BODIES}{body.name}.{name}"][head.start:head.start + head.width]
                           for body in bodies for head in getattr(body, name).heads])


def _add_forward(model: Model, config: ModelConfig, params: dict[str, np.ndarray],
                 options: Options, t: int, bodies: Sequence[BodyShape] = (),
                 predicts: bool = False) -> None:
    """Adds the graph that reads t bytes, or one and a tick, and gives the logits after the last."""
    graph = model.graph("step" if t == 1 else f"prefill_{t}")
    tokens = graph.input("token" if t == 1 else "tokens", (t,), "int32")
    operations = Operations(graph, options.target, options.weights)
    x = operations.embed(params["embedding"], tokens, "embedding")
    if bodies:
        x = _with_tick(operations, params, x, bodies)
    shapes = state_shapes(config, options.target)
    if options.explicit_state:
        state = {name: graph.input(name, shape) for name, shape in shapes.items()}
    else:
        handles = {name: graph.variable(name) for name in shapes}
        state = {name: graph.add("READ_VARIABLE", [handles[name]], shape, name=name)
                 for name, shape in shapes.items()}
    hidden, next_state = Layers(operations, config, params, t).forward(x, state)
    x = operations.mul(operations.rms_norm(hidden, config.stream_eps),
                       operations.constant(params["norm_f"], "norm_f"))
    heads = {"logits": ("embedding", params["embedding"])}
    if bodies:
        heads["control"] = "bodies.control", _head_rows(params, bodies, "control")
    for name, (key, table) in heads.items():
        graph.output(name, operations.reshape(operations.linear(x, table, key), 1, len(table)))
    if predicts:
        graph.output("hidden", hidden)
    for name in shapes:
        if options.explicit_state:
            graph.output(f"{name}_out", next_state[name])
        else:
            graph.assign(handles[name], next_state[name])


def _with_tick(o: Operations, params: dict[str, np.ndarray], x: Tensor,
               bodies: Sequence[BodyShape]) -> Tensor:
    """x (1, d) of a byte, where one is present, plus that of a tick."""
    tables = np.concatenate([params[f"{BODIES}{body.name}.input"] for body in bodies])
    present = o.graph.input("present", (1, 1, 1, 1))
    weights = o.graph.input("weights", (1, 1, 1, len(tables)))
    byte = o.mul(o.reshape(x, 1, 1, 1, x.shape[1]), present)
    return o.add(byte, o.linear_f32(weights, tables.T, name="bodies.input"))


class Layers:
    """Adds a brain's layers over t bytes to one graph."""

    def __init__(self, operations: Operations, config: ModelConfig, params: dict[str, np.ndarray],
                 t: int):
        self.o, self.config, self.params, self.t = operations, config, params, t

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Embeddings (t, d) and states to the last row after all layers, (1, 1, 1, d), before the
        norm of the heads; and the next states."""
        c, o = self.config, self.o
        next_state: State = {}
        x = o.reshape(x, 1, self.t, 1, c.d_model)
        if "mask" in state:
            mask = o.concat([state["mask"], o.constant(np.zeros((1, self.t, 1, 1)))], 1)
            next_state["mask"] = o.slice(mask, 1, self.t, c.sliding_window - 1)
            state = {**state, "mask": mask}   # of all slots that the t rows attend to
        for i, kind in enumerate(c.layer_kinds):
            x, changed = self._ssm(i, x, state) if kind == "S" else self._attention(i, x, state)
            next_state |= changed
            x = self._mlp(i, x)
        o.graph.scope = ""
        return o.slice(x, 1, self.t - 1, 1), next_state

    def _mlp(self, i: int, x: Tensor) -> Tensor:
        o, w = self.o, lambda name: self.params[f"layers.{i}.mlp.{name}"]
        o.graph.scope = f"layers.{i}.mlp"
        u = o.rms_norm(x, self.config.stream_eps)
        gate, up = (o.linear(u, rows * w("norm"), f"in_proj.{name}") for rows, name in zip(
            np.split(w("in_proj"), 2), ("gate", "up")))
        return o.add(x, o.linear(o.mul(o.silu(gate), up), w("out_proj"), "out_proj"))

    def _ssm(self, i: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        c, o, w = self.config, self.o, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        o.graph.scope = f"layers.{i}.mixer"
        h, n, p, e = c.ssm_heads, c.d_state, c.head_dim, c.d_inner
        width = 2 * n + 2 * p   # q, k, v and the gate of a head
        rows, beta_rows, dt_rows = np.split(w("in_proj") * w("norm"), [h * width, h * width + h])
        heads = rows.reshape(h, width, -1)

        def ordered(by_head: np.ndarray) -> np.ndarray:
            """(h, 2n+p, ...) to channels k, q, v; k and q by head, or by state if portable."""
            q, k, v = np.split(by_head, [n, 2 * n], 1)
            if o.target != LITERT:
                k, q = k.swapaxes(0, 1), q.swapaxes(0, 1)
            return np.concatenate([z.reshape(-1, *by_head.shape[2:]) for z in (k, q, v)])

        u = o.rms_norm(x, c.stream_eps)
        kqv = o.linear(u, ordered(heads[:, :2 * n + p]), "in_proj.kqv")
        window = o.concat([state[f"conv_{i}"], kqv], 1)
        kernel = ordered(w("conv1d").transpose(1, 2, 0)).T                  # (d_conv, 2nh+e)
        mixed = o.silu(o.depthwise_conv1d(window, kernel, "conv1d"))        # (1, t, 1, 2nh+e)
        gate_rows = heads[:, 2 * n + p:].reshape(e, -1)
        gate = o.silu(o.linear(u, gate_rows, "in_proj.gate"))               # (1, t, 1, e)
        bias = np.concatenate([np.zeros(h), -w("dt_bias")])
        gates = o.linear_f32(u, np.concatenate([beta_rows, -dt_rows]), bias,   # (1, t, 1, 2h)
                             "in_proj.beta_dt")
        beta = o.rectified_sigmoid(o.slice(gates, 3, 0, h), c.beta_max)
        a = np.array([math.exp(log) for log in w("A_log")])   # np.exp differs between CPUs
        log_decay = o.mul(o.log_sigmoid(o.slice(gates, 3, h, h)), o.constant(a, "A"))
        decay = o.exp(log_decay)                                            # (1, t, 1, h)
        recur = self._recur_batched if o.target == LITERT else self._recur_by_rows
        ssm, outputs = state[f"ssm_{i}"], []
        for row in range(self.t):
            row_mixed, row_beta, row_decay = (o.slice(z, 1, row, 1) for z in (mixed, beta, decay))
            y, ssm = recur(row_mixed, row_beta, row_decay, ssm)
            outputs.append(o.rms_norm(o.reshape(y, 1, h, 1, p), c.norm_eps))
        y = o.reshape(o.concat(outputs, 1), 1, self.t, 1, e)
        out_proj = w("out_proj") * np.tile(w("out_norm"), h)
        x = o.add(x, o.linear(o.mul(y, gate), out_proj, "out_proj"))
        return x, {f"conv_{i}": o.slice(window, 1, self.t, c.d_conv - 1), f"ssm_{i}": ssm}

    def _recur_batched(self, mixed: Tensor, beta: Tensor, decay: Tensor,
                       ssm: Tensor) -> tuple[Tensor, Tensor]:
        """One byte of the recurrence: y (1, h, 1, p) and the next state (1, h, n, p)."""
        c, o = self.config, self.o
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        kq = o.l2_normalize(o.reshape(o.slice(mixed, 3, 0, 2 * n * h), 1, 2 * h, 1, n), L2_EPS)
        k, q = o.slice(kq, 1, 0, h), o.slice(kq, 1, h, h)                   # (1, h, 1, n)
        v = o.reshape(o.slice(mixed, 3, 2 * n * h, c.d_inner), 1, h, 1, p)
        decayed = o.mul(ssm, o.reshape(decay, 1, h, 1, 1))
        if c.transition == "delta":
            v = o.sub(v, o.matmul(k, decayed))
        write = o.mul(v, o.reshape(beta, 1, h, 1, 1))
        ssm = o.add(decayed, o.mul(o.reshape(k, 1, h, n, 1), write))
        return o.matmul(q, ssm), ssm

    def _recur_by_rows(self, mixed: Tensor, beta: Tensor, decay: Tensor,
                       ssm: Tensor) -> tuple[Tensor, Tensor]:
        """One byte of the recurrence: y (1, 1, 1, e) and the next state (1, n, 1, e)."""
        c, o = self.config, self.o
        h, n = c.ssm_heads, c.d_state
        same_head = np.tile(np.eye(h), (1, n))                              # (h, nh)
        to_channels = np.repeat(np.eye(h), c.head_dim, 0)                   # (e, h)

        def normalized(start: int) -> Tensor:
            """Each head's k or q, L2-normalized, repeated for its channels: (1, n, 1, e)."""
            x = o.slice(mixed, 3, start, n * h)
            squares = o.linear_f32(o.mul(x, x), same_head, np.full(h, L2_EPS))   # (1, 1, 1, h)
            by_head = o.div(o.reshape(x, 1, n, 1, h), o.unary("SQRT", squares))
            return o.linear_f32(by_head, to_channels)

        k, q = normalized(0), normalized(n * h)
        v = o.slice(mixed, 3, 2 * n * h, c.d_inner)
        decayed = o.mul(ssm, o.linear_f32(decay, to_channels))
        if c.transition == "delta":
            v = o.sub(v, o.sum_rows(o.mul(decayed, k)))
        ssm = o.add(decayed, o.mul(k, o.mul(o.linear_f32(beta, to_channels), v)))
        return o.sum_rows(o.mul(ssm, q)), ssm

    def _attention(self, i: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        c, o, w = self.config, self.o, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        o.graph.scope = f"layers.{i}.mixer"
        h, p, d, slots = c.attn_heads, c.head_dim, c.d_model, c.sliding_window
        query, key, value = np.split(w("qkv_proj") * w("norm"), 3)
        query, key = (z.reshape(h, 2, p // 2, d).swapaxes(0, 1).reshape(d, d)   # lower halves of
                      for z in (query / np.sqrt(p), key))                   # all heads, then upper
        cos, sin = self._rotary_table(math.cos, "cos"), self._rotary_table(math.sin, "sin")
        u = o.rms_norm(x, c.stream_eps)
        q = o.reshape(o.linear(u, query, "qkv_proj.q"), 1, self.t, 2, d // 2)
        low, high = o.slice(q, 2, 0, 1), o.slice(q, 2, 1, 1)
        q_quarter = o.concat([o.unary("NEG", high), low], 2)        # rotated by a quarter turn
        keys = o.concat([state[f"keys_{i}"], o.linear(u, key, "qkv_proj.k")], 1)
        new_values, axis = o.linear(u, value, "qkv_proj.v"), 1
        if o.target == LITERT:                                              # to (1, h, t, p)
            new_values, axis = o.reshape(new_values, 1, self.t, h, p), 2
            new_values = (o.transpose(new_values, 0, 2, 1, 3) if self.t > 1 else
                          o.reshape(new_values, 1, h, 1, p))
        values = o.concat([state[f"values_{i}"], new_values], axis)
        heads = np.repeat(np.eye(h), p, 1)                                  # (h, d)
        halves = np.tile(np.repeat(np.eye(h), p // 2, 1), 2)                # the same, in key order
        outputs = []
        for row in range(self.t):
            q_row, quarter_row = [o.slice(tensor, 1, row, 1) for tensor in (q, q_quarter)]
            rotated = o.add(o.mul(cos, q_row), o.mul(sin, quarter_row))     # (1, slots, 2, d/2)
            rotated = o.reshape(rotated, 1, slots, 1, d)
            window_keys, valid = (o.slice(z, 1, row, slots) for z in (keys, state["mask"]))
            scores = o.linear_f32(o.mul(window_keys, rotated), halves)      # (1, slots, 1, h)
            weight = o.softmax(o.transpose(o.add(scores, valid), 0, 3, 2, 1))   # (1, h, 1, slots)
            window_values = o.slice(values, axis, row, slots)
            if o.target == LITERT:
                outputs.append(o.reshape(o.matmul(weight, window_values), 1, 1, 1, d))
            else:
                by_slot = o.linear_f32(o.transpose(weight, 0, 3, 2, 1), heads.T)
                outputs.append(o.sum_rows(o.mul(by_slot, window_values)))
        x = o.add(x, o.linear(o.concat(outputs, 1), w("out_proj"), "out_proj"))
        return x, {f"keys_{i}": o.slice(keys, 1, self.t, slots - 1),
                   f"values_{i}": o.slice(values, axis, self.t, slots - 1)}

    def _rotary_table(self, wave_fn: Callable[[float], float], name: str) -> Tensor:
        """What rotates the query for each slot, (1, slots, 1, d/2). `wave_fn`: cosine or sine, of
        `math`, which gives the same bytes with every numpy."""
        c, half = self.config, self.config.head_dim // 2
        rows = [[wave_fn((c.sliding_window - 1 - slot) * c.rope_theta ** (-i / half))
                 for i in range(half)] * c.attn_heads for slot in range(c.sliding_window)]
        return self.o.constant(np.array(rows).reshape(1, c.sliding_window, 1, -1), name)
