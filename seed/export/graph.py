"""The graphs of a brain: `step`, `reset`, and `prefill_T` on request; of one with bodies also
`save` and `load`, which read and write its states, and `predict`.

Norm gains are folded into the next projection, and the trained arrays are reordered so that each
operator reads contiguous channels. States are resource variables that the signatures share, or
inputs and outputs. Keys are kept as rotated: the rotary state, which turns by one byte's angles a
step, rotates them and the query, and a score has only the difference of both angles. Phases of an
SSM's state are whole numbers of parts of a turn, from which a product of one-hot rows reads cosines
and sines, so that they are exact for ever; both rows of a pair are neighbours.

The step of a brain with bodies reads a byte, a tick or both: the byte's embedding times `present`,
plus a weighted sum of the rows of all input tables, one body's after the other. It returns the
byte's logits, those of all control heads in the same order, and the hidden vector. `predict` takes
that and the action, and returns the logits of all world heads: of the observation that follows.

A small operator costs a runtime more than its arithmetic, and matrices that change are packed
before a product. So heads are batches, k, q and attention weights are columns that multiply rows,
and sums are means over these rows, whose constant factors are folded into weights.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seed.config import L2_EPS, TURN_SCALE, ModelConfig
from seed.errors import ConfigError
from seed.export.flatbuffer import Model, Tensor
from seed.export.operations import RELU_ACTIVATION, Operations
from seed.wavecore.layout import BODIES, BodyShape, state_pairs

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


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every state, in the order of the explicit inputs and outputs."""
    c, slots = config, config.sliding_window - 1
    shapes: dict[str, tuple[int, ...]] = {}
    for i, kind in enumerate(c.layer_kinds):
        if kind == "S":
            shapes[f"conv_{i}"] = (1, c.d_conv - 1, 1, 2 * c.d_state * c.ssm_heads + c.d_inner)
            shapes[f"ssm_{i}"] = (c.ssm_heads, c.d_state, 1, c.head_dim)
            if c.rotary_steps:
                shapes[f"phase_{i}"] = (1, 1, 1, c.ssm_heads * state_pairs(c))
        else:
            for name in ("keys", "values"):
                shapes[f"{name}_{i}"] = (c.attn_heads, slots, 1, c.head_dim)
    if "A" in c.layer_kinds:
        shapes["mask"] = (1, 1, 1, slots)
        shapes["rotary_0"] = (1, 1, 1, c.head_dim)
    return shapes


def initial_value(name: str) -> float:
    """What a state is filled with before the first byte."""
    return {"mask": MASKED, "rotary_0": math.sqrt(0.5)}.get(name, 0.0)


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
    for name, shape in state_shapes(config).items():
        start = [o.integers(shape), o.constant(initial_value(name))]
        value = o.graph.add("FILL", start, shape)
        o.graph.assign(o.graph.variable(name), value)
    o.graph.output("done", o.add(unused, unused))


def _add_save_and_load(model: Model, config: ModelConfig, options: Options) -> None:
    save, load = model.graph("save"), model.graph("load")
    for graph in (save, load):
        unused = graph.input("unused", (1,))
        graph.output("done", graph.add("ADD", [unused, unused], (1,)))
    for name, shape in state_shapes(config).items():
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
    shapes = state_shapes(config)
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
            mask = o.concat([state["mask"], o.constant(np.zeros((1, 1, 1, self.t)))], 3)
            next_state["mask"] = o.slice(mask, 3, self.t, c.sliding_window - 1)
            cos, sin, next_state["rotary_0"] = self._rotate(state["rotary_0"])
            state = {**state, "mask": mask, "cos": cos, "sin": sin}   # of the t rows
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
        rows = np.split(w("in_proj") * w("norm"), 2)
        gate, up = o.linears(u, "in_proj", dict(zip(("gate", "up"), rows)))
        return o.add(x, o.linear(o.mul(o.silu(gate), up), w("out_proj"), "out_proj"))

    def _ssm(self, i: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        c, o, w = self.config, self.o, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        o.graph.scope = f"layers.{i}.mixer"
        h, n, p, e = c.ssm_heads, c.d_state, c.head_dim, c.d_inner
        width = 2 * n + 2 * p   # q, k, v and the gate of a head
        rows, beta_rows, dt_rows, turn_rows = np.split(
            w("in_proj") * w("norm"), h * width + np.array([0, h, 2 * h]))
        heads = rows.reshape(h, width, -1)
        pairs = np.arange(n).reshape(2, -1).T.reshape(-1)   # row i and row i + n/2, one by one

        def ordered(by_head: np.ndarray) -> np.ndarray:
            """(h, 2n+p, ...) to channels k, q, v, each by head."""
            q, k, v = np.split(by_head, [n, 2 * n], 1)
            if c.rotary_steps:
                q, k = q[:, pairs], k[:, pairs]
            return np.concatenate([z.reshape(-1, *by_head.shape[2:]) for z in (k, q, v)])

        u = o.rms_norm(x, c.stream_eps)
        kqv, gate = o.linears(u, "in_proj", {"kqv": ordered(heads[:, :2 * n + p]),
                                             "gate": heads[:, 2 * n + p:].reshape(e, -1)})
        window = o.concat([state[f"conv_{i}"], kqv], 1)
        kernel = ordered(w("conv1d").transpose(1, 2, 0)).T                  # (d_conv, 2nh+e)
        mixed = o.silu(o.depthwise_conv1d(window, kernel, "conv1d"))        # (1, t, 1, 2nh+e)
        gate = o.silu(gate)                                                 # (1, t, 1, e)
        beta_bias = w("beta_bias") if c.rotary_steps else np.zeros(h)
        bias = np.concatenate([beta_bias, -w("dt_bias"), np.zeros(len(turn_rows))])
        gate_rows = [beta_rows, -dt_rows, turn_rows * np.float32(TURN_SCALE * c.rotary_steps)]
        gates = o.linear_f32(u, np.concatenate(gate_rows), bias, "in_proj.beta_dt")
        beta = o.rectified_sigmoid(o.slice(gates, 3, 0, h), c.beta_max)
        a = np.array([math.exp(log) for log in w("A_log")])   # np.exp differs between CPUs
        log_decay = o.mul(o.log_sigmoid(o.slice(gates, 3, h, h)), o.constant(a, "A"))
        decay = o.exp(log_decay)                                            # (1, t, 1, h)
        ssm, outputs, waves, next_phase = state[f"ssm_{i}"], list[Tensor](), None, State()
        if c.rotary_steps:
            r = o.slice(gates, 3, 2 * h, len(turn_rows))
            waves, next_phase[f"phase_{i}"] = self._turn(r, state[f"phase_{i}"])
        for row in range(self.t):
            row_mixed, row_beta, row_decay = (o.slice(z, 1, row, 1) for z in (mixed, beta, decay))
            row_waves = o.slice(waves, 0, row, 1) if waves else None
            y, ssm = self._recur(row_mixed, row_beta, row_decay, ssm, row_waves)
            outputs.append(o.reshape(o.rms_norm(y, c.norm_eps), 1, 1, 1, e))
        out_proj = w("out_proj") * np.tile(w("out_norm"), h)
        x = o.add(x, o.linear(o.mul(o.concat(outputs, 1), gate), out_proj, "out_proj"))
        return x, {f"conv_{i}": o.slice(window, 1, self.t, c.d_conv - 1), f"ssm_{i}": ssm,
                   **next_phase}

    def _turn(self, r: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """r (1, t, 1, h*n/2), in parts of a turn but not whole, and the phases before the t bytes,
        to what _turned_back needs of each (t, h, 1, 2n), and the last phases: whole numbers from
        -steps/2 to steps/2."""
        c, o, t, steps = self.config, self.o, self.t, self.config.rotary_steps
        parts, sums = o.unary("ROUND", r), []
        for row in range(t):
            phase = o.add(phase, o.slice(parts, 1, row, 1))
            sums.append(phase)
        phases = o.concat(sums, 1)
        turns = o.unary("ROUND", o.mul(phases, o.constant(1 / steps)))
        phases = o.sub(phases, o.mul(turns, o.constant(steps)))
        known = np.arange(-(steps // 2), steps // 2 + 1)
        distance = o.unary("ABS", o.sub(o.reshape(phases, 1, math.prod(phases.shape), 1, 1),
                                        o.constant(known.reshape(1, 1, 1, -1))))
        one_hot = o.graph.add("SUB", [o.constant(1.0), distance], distance.shape,
                              activation=RELU_ACTIVATION)
        cos, sin = ([wave_fn(2 * math.pi * part / steps) for part in known.tolist()]
                    for wave_fn in (math.cos, math.sin))
        waves = o.linear_f32(one_hot, np.array([cos, cos, sin, np.negative(sin)]), name="turns")
        return o.reshape(waves, t, c.ssm_heads, 1, 2 * c.d_state), o.slice(phases, 1, t - 1, 1)

    def _turned_back(self, kq: Tensor, waves: Tensor) -> Tensor:
        """kq (2, h, 1, n) with each pair turned back: low cos + high sin, high cos - low sin."""
        eye = np.eye(self.config.d_state // 2)
        factors = self.o.linear_f32(kq, np.kron(eye, [[1, 0], [0, 1], [0, 1], [1, 0]]))
        return self.o.linear_f32(self.o.mul(factors, waves),
                                 np.kron(eye, [[1, 0, 1, 0], [0, 1, 0, 1]]))

    def _recur(self, mixed: Tensor, beta: Tensor, decay: Tensor, ssm: Tensor,
               waves: Tensor | None) -> tuple[Tensor, Tensor]:
        """One byte of the recurrence: y (h, 1, 1, p) and the next state (h, n, 1, p)."""
        c, o = self.config, self.o
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        kq = o.slice(mixed, 3, 0, 2 * n * h)
        if waves:
            kq = self._turned_back(o.rms_norm(o.reshape(kq, 2, h, 1, n), L2_EPS / n), waves)
            k, q = (o.reshape(o.slice(kq, 0, start, 1), h, n, 1, 1) for start in (0, 1))
        else:
            kq = o.rms_norm(o.reshape(kq, 1, 2 * h, 1, n), L2_EPS / n)
            k, q = (o.reshape(o.slice(kq, 1, start, h), h, n, 1, 1) for start in (0, h))
        v = o.reshape(o.slice(mixed, 3, 2 * n * h, c.d_inner), h, 1, 1, p)
        decayed = o.mul(ssm, o.reshape(decay, h, 1, 1, 1))
        if c.transition == "delta":
            v = o.sub(v, o.mean_rows(o.mul(decayed, k)))
        ssm = o.add(decayed, o.mul(k, o.mul(v, o.reshape(beta, h, 1, 1, 1))))
        return o.mean_rows(o.mul(ssm, q)), ssm

    def _attention(self, i: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        c, o, w = self.config, self.o, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        o.graph.scope = f"layers.{i}.mixer"
        h, p, d, slots, t = c.attn_heads, c.head_dim, c.d_model, c.sliding_window, self.t
        query, key, value = np.split(w("qkv_proj") * w("norm"), 3)
        rows = np.concatenate([query * math.sqrt(p), key, value])   # the scores are means over p
        qkv = o.linear(o.rms_norm(x, c.stream_eps), rows, "qkv_proj")       # (1, t, 1, 3d)
        qk = o.reshape(o.slice(qkv, 3, 0, 2 * d), t, 2 * h, 2, p // 2)
        swapped = o.concat([o.slice(qk, 2, 1, 1), o.slice(qk, 2, 0, 1)], 2)
        qk = o.add(o.mul(qk, state["cos"]), o.mul(swapped, state["sin"]))
        new = {"keys": o.slice(qk, 1, h, h), "values": o.slice(qkv, 3, 2 * d, d)}
        windows = {}   # of all t rows, (h, slots - 1 + t, 1, p)
        for name, z in new.items():
            z = o.reshape(z, 1, t, h, p)
            z = o.transpose(z, 0, 2, 1, 3) if t > 1 else z
            windows[name] = o.concat([state[f"{name}_{i}"], o.reshape(z, h, t, 1, p)], 1)
        outputs = []
        for row in range(t):
            q = o.reshape(o.slice(o.slice(qk, 1, 0, h), 0, row, 1), h, p, 1, 1)
            keys, values = (o.slice(window, 1, row, slots) for window in windows.values())
            scores = o.mean_rows(o.mul(o.transpose(keys, 0, 3, 2, 1), q))   # (h, 1, 1, slots)
            weight = o.softmax(o.add(scores, o.slice(state["mask"], 3, row, slots)))
            weighted = o.mul(values, o.reshape(weight, h, slots, 1, 1))     # (h, slots, 1, p)
            outputs.append(o.reshape(o.mean_rows(weighted), 1, 1, 1, d))
        x = o.add(x, o.linear(o.concat(outputs, 1), w("out_proj") * slots, "out_proj"))
        return x, {f"{name}_{i}": o.slice(window, 1, t, slots - 1)
                   for name, window in windows.items()}

    def _rotate(self, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cosines, and sines with the signs of a head's halves, of the t rows' angles, each
        (t, 1, 2, p/2); and the next rotary state (1, 1, 1, p). A state is the first row's cosines
        and sines; at which angle they began makes no difference to a score."""
        o, t, half = self.o, self.t, self.config.head_dim // 2
        rates = [self.config.rope_theta ** (-i / half) for i in range(half)]
        cos, sin = (np.array([[wave_fn(row * rate) for rate in rates] for row in range(t + 1)])
                    for wave_fn in (math.cos, math.sin))
        eye, zero = np.eye(half), np.zeros((half, half))
        matrix = np.block([[eye, zero], [eye, zero], [zero, -eye], [zero, eye],
                           [np.diag(cos[t]), np.diag(-sin[t])], [np.diag(sin[t]), np.diag(cos[t])]])
        rotated = o.linear_f32(rotary, matrix, name="rotary")
        cosines, sines = (o.reshape(o.slice(rotated, 3, start * half, 2 * half), 1, 1, 2, half)
                          for start in (0, 2))
        if t > 1:
            turned = o.constant(np.stack([cos[:t], cos[:t]], 1)[:, None], "rotary.cos")
            across = o.constant(np.stack([sin[:t], -sin[:t]], 1)[:, None], "rotary.sin")
            cosines, sines = (o.add(o.mul(cosines, turned), o.mul(sines, across)),
                              o.sub(o.mul(sines, turned), o.mul(cosines, across)))
        rotary = o.slice(rotated, 3, 4 * half, 2 * half)
        # One step of Newton's method keeps squares of cosine and sine at a sum of 1.
        pairs = np.tile(eye, (2, 2)) / -2
        scale = o.linear_f32(o.mul(rotary, rotary), pairs, np.full(2 * half, 1.5))
        return cosines, sines, o.mul(rotary, scale)
