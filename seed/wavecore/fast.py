"""The kernels of the blocks: C specialised by shape, called like the operations of model.py.

The kernels get the sizes of all buffers, and the constants below, as text (kernel_source.py).
"""
import functools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seed.config import L2_EPS, LANES, SIGMOID_STRETCH, TURN_SCALE, ModelConfig
from seed.wavecore.kernel_source import kernel_source, segments, with_prefix
from seed.wavecore.layout import KINDS, Block, packed_matrices, proj_columns, round_up
from seed.wavecore.loss import MIN_NORMAL, SoftTargets
from seed.wavecore.model import HIDDEN_SCORE
from seed.wavecore.rotary import rope_table, turn_table
from seed.wavecore.tinygrad_seam import Tensor, LaunchFn, empty, from_array, launch, launcher

ROW_TILE = 96   # rows of activations that one thread takes at a time
MAX_GROUPS = 12   # of row tiles; each has weight gradients of its own, which are added in the end
MAX_CHUNK = 64   # steps of the scan from one state that is saved for the backward pass to the next
CHUNK_FLOATS = 2 ** 15   # of a chunk's states, which stay in a core's second cache
QUERIES = 4     # queries that attention takes together
GATES = ("beta", "decay", "beta_slope", "rate", "rate_slope", "d_beta", "d_log_decay")   # of ssm.c

Sizes = dict[str, int]   # floats of named arrays


def row_tiles(rows: int) -> int:
    return math.ceil(rows / ROW_TILE)


def group_tiles(rows: int) -> int:
    """Row tiles in a group; the last may have fewer."""
    return math.ceil(row_tiles(rows) / MAX_GROUPS)


def groups(rows: int) -> int:
    return math.ceil(row_tiles(rows) / group_tiles(rows))


def chunk_steps(config: ModelConfig, t: int) -> int:
    """Steps of a chunk of the scan, a multiple of LANES."""
    fit = CHUNK_FLOATS // (config.d_state * config.head_dim) // LANES * LANES
    return min(max(LANES, min(fit, MAX_CHUNK)), round_up(t))


def common_constants(config: ModelConfig, b: int, t: int, threads: int) -> dict[str, object]:
    """Constants of every kernel for one shape."""
    return {"THREADS": threads, "BATCH": b, "TIME": t, "ROWS": b * t, "D_MODEL": config.d_model,
            "ROW_TILE": ROW_TILE, "ROW_TILES": row_tiles(b * t), "GROUP_TILES": group_tiles(b * t),
            "GROUPS": groups(b * t), "NORM_EPS": config.stream_eps}


class Sequences(NamedTuple):
    """Sequences of any lengths, one behind the other in the rows: sequence i has the rows
    cu_seqlens[i] to cu_seqlens[i + 1]."""
    cu_seqlens: Tensor   # (at least n + 1,) int32
    n: Tensor            # (1,) int32


# Mixers and MLP: y = x + out_proj(f(in_proj(rms_norm(x))))

class _ProjectionBlock:
    """What the mixers and the MLP share (projection.h).

    A block is called with x (b*t, d), the packed weights and the carried states, and returns
    y (b*t, d) and the states after it. Integer states and `tables` have no gradient. That of x
    takes the place of x, which nobody may need again.
    """

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int,
                 in_width: int, out_width: int):
        d, rows = config.d_model, b * t
        self.shape, self.weights = (rows, d), block.size
        self.common = {**common_constants(config, b, t, threads), "IN_WIDTH": in_width,
                       "OUT_WIDTH": out_width}
        self.panels = {"in_proj_panels": in_width * d, "out_proj_panels": out_width * d}
        self.backward_arrays = {"d_projections": groups(rows) * d * (in_width + out_width),
                                "d_gains": row_tiles(rows) * d}
        kind = KINDS[block.kind]
        self.arrays = {"in_proj" if name == kind.in_proj else name: at
                       for name, at in block.offsets().items()}
        self.gradients = {f"d_{name}": at for name, at in self.arrays.items()}
        self.states = [array._replace(shape=(b, *array.shape)) for array in kind.state_fn(config)]
        self.float_states = [state for state in self.states if state.dtype == np.float32]
        self.tables: dict[str, Tensor] = {}

    def _bind(self, file: str, constants: Mapping[str, object], save: Sizes, forward: Sizes,
              backward: Sizes) -> None:
        """Makes the launchers; `save`, `forward` and `backward` are the arrays in the buffer that
        the backward pass needs again, and in the scratch buffer of each pass."""
        self.save, saved = segments(save)
        self.forward_scratch, forward_scratch = segments({**self.panels, **forward})
        self.backward_scratch, backward_scratch = segments(
            {**self.panels, **self.backward_arrays, **backward})
        constants = {**self.common, **constants}
        carried_in = " ".join(["x w", *(f"{s.name}_in" for s in self.states), *self.tables])
        carried_out = " ".join(["y", *(f"{s.name}_out" for s in self.states), "save scratch"])
        gradients = " ".join(["dx dw", *(f"d_{s.name}_in" for s in self.float_states),
                              "save scratch"])
        self.launch_forward = launcher(*kernel_source(
            file, "FORWARD", constants, carried_out, carried_in,
            {"w": self.arrays, "save": saved, "scratch": forward_scratch}))
        self.step_scratch, step_scratch = segments({**save, **forward})
        self.launch_step = self._step_launcher(file, "STEP", constants, step_scratch)
        if self.states:   # else sequences are rows like others
            self.launch_varlen = self._step_launcher(file, "VARLEN", constants, step_scratch)
        self.launch_backward = launcher(*kernel_source(
            file, "BACKWARD", constants, gradients, f"dy {carried_in}",
            {"w": self.arrays, "dw": self.gradients, "save": saved, "scratch": backward_scratch}))

    def _step_launcher(self, file: str, variant: str, constants: Mapping[str, object],
                       scratch: Sizes) -> LaunchFn:
        is_varlen = variant == "VARLEN"
        states = [] if is_varlen else [s.name for s in self.states]
        outputs = " ".join(["y", *(f"{name}_out" for name in states), "scratch"])
        inputs = " ".join(["x w panels", *self.tables, *["cu_seqlens n_seqs"] * is_varlen])
        in_place = {f"{name}_out": {f"{name}_in": 0} for name in states}
        return launcher(*kernel_source(
            file, variant, constants, outputs, inputs,
            {"w": self.arrays, "panels": segments(self.panels)[1], "scratch": scratch, **in_place}))

    def step(self, x: Tensor, w: Tensor, panels: Tensor, *states: Tensor) -> Tensor:
        """y; the states change in place. `panels` are those of a Packer."""
        return launch([empty(*self.shape), *states, empty(self.step_scratch)],
                      [x, w, panels, *self.tables.values()], self.launch_step)[0]

    def varlen(self, x: Tensor, w: Tensor, panels: Tensor, sequences: Sequences) -> Tensor:
        """y of sequences that each begin with an empty state; of one row of the batch."""
        if not self.states:
            return self.step(x, w, panels)
        return launch([empty(*self.shape), empty(self.step_scratch)],
                      [x, w, panels, *self.tables.values(), *sequences], self.launch_varlen)[0]

    def __call__(self, x: Tensor, w: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        carried = [Tensor.empty(*s.shape, dtype=s.dtype.__name__) for s in self.states]
        *results, _, _ = launch(
            [empty(*self.shape), *carried, empty(self.save), empty(self.forward_scratch)],
            [x, w, *states, *self.tables.values()], self.launch_forward, self._gradient)
        return tuple(results)

    def _gradient(self, dy: Tensor, outputs: list[Tensor],
                  inputs: list[Tensor]) -> Sequence[Tensor | None]:
        save = outputs[-2]   # which the backward pass may write over
        *gradients, _, _ = launch(
            [inputs[0], empty(self.weights),
             *(empty(*s.shape) for s in self.float_states), save, empty(self.backward_scratch)],
            [dy, *inputs], self.launch_backward)
        return [*gradients, *[None] * (len(inputs) - len(gradients))]


class Ssm(_ProjectionBlock):
    """The SSM mixer."""

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int):
        e, h, n, p = config.d_inner, config.ssm_heads, config.d_state, config.head_dim
        rows, channels, columns = b * t, 2 * n + p, proj_columns(config)
        in_width = round_up(columns)
        chunk, padded = chunk_steps(config, t), round_up(t)
        saved_states = math.ceil(t / chunk) - 1   # of a head
        super().__init__(config, block, b, t, threads, in_width, e)
        vectors = {"out_norm": p, "A_log": 1, "dt_bias": 1}
        if config.rotary_steps:
            vectors["beta_bias"] = 1
        partial_size, partials = segments({"conv1d": config.d_conv * channels, **vectors}, unit=1)
        constants = {
            "TIME_PADDED": padded, "D_INNER": e, "HEADS": h, "D_STATE": n, "HEAD_DIM": p,
            "D_CONV": config.d_conv, "PAST": config.d_conv - 1, "CHANNELS": channels,
            "HEAD_PROJ": channels + p, "COLUMNS": columns, "CHUNK": chunk,
            "SAVED_STATES": saved_states,
            "L2_EPS": L2_EPS, "SIGMOID_STRETCH": SIGMOID_STRETCH, "BETA_MAX": config.beta_max,
            "DELTA": 1.0 if config.transition == "delta" else 0.0, "OUT_NORM_EPS": config.norm_eps,
            "GATE_ARRAYS": ", ".join(f"{name}[{padded}]" for name in GATES),
            "PARTIALS": round_up(partial_size), **with_prefix("PARTIAL", partials),
            **_turns(config.rotary_steps)}
        gates, out = {"gates": threads * len(GATES) * padded}, {"out": rows * e}
        self._bind("ssm.c", constants,
                   save={"proj": rows * in_width, "states": b * h * saved_states * n * p},
                   forward={**out, **gates},
                   backward={"d_out": rows * e, "partials": b * h * round_up(partial_size),
                             **gates})


def _turns(steps: int) -> dict[str, object]:
    """Constants of rotary.h."""
    if not steps:
        return {"ROTARY_STEPS": 0}
    cosines, sines = ([f"{wave}f" for wave in row] for row in turn_table(steps).tolist())
    return {"ROTARY_STEPS": steps, "PARTS_PER_UNIT": TURN_SCALE * steps,
            "RADIANS_PER_UNIT": 2 * math.pi * TURN_SCALE,
            "COSINES": ", ".join(cosines), "SINES": ", ".join(sines)}


class Attention(_ProjectionBlock):
    """Sliding-window attention."""

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int):
        d, h, p = config.d_model, config.attn_heads, config.head_dim
        rows, past = b * t, config.sliding_window - 1
        slots = past + t
        padded = round_up(slots)
        super().__init__(config, block, b, t, threads, 3 * d, d)
        self.tables = {"rope": from_array(rope_table(config, t))}
        queries = min(QUERIES, t)
        columns, scores = p * padded, queries * padded
        private = {"keys": columns, "p": scores}   # of the forward pass, and first in the backward
        forward_stride = segments(private)[0]
        backward_stride, offsets = segments({**private, "values": columns, "k": columns,
                                             "dk": columns, "dv": columns, "ds": scores})
        constants = {
            "HEADS": h, "HEAD_DIM": p, "WINDOW": config.sliding_window, "PAST": past,
            "SLOTS": slots, "SLOTS_PADDED": padded, "QUERIES": queries, "SCALE": p ** -0.5,
            "HIDDEN_SCORE": HIDDEN_SCORE, "FORWARD_STRIDE": forward_stride,
            "BACKWARD_STRIDE": backward_stride, **with_prefix("PRIVATE", offsets)}
        self._bind("attention.c", constants,
                   save={"qkv": rows * 3 * d, "out": rows * d, "stats": b * h * t * 2},
                   forward={"private": threads * forward_stride},
                   backward={"d_out": rows * d, "private": threads * backward_stride})


class Mlp(_ProjectionBlock):
    """The SwiGLU MLP."""

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int):
        d, f, rows = config.d_model, config.d_ff, b * t
        super().__init__(config, block, b, t, threads, 2 * f, f)
        self._bind("mlp.c", {"D_FF": f}, save={"hidden": rows * 2 * f}, forward={},
                   backward={})
        self.again_scratch, scratch = segments(
            {**self.panels, **self.backward_arrays, "forward_panels": 2 * f * d})
        self.launch_again = launcher(*kernel_source(
            "mlp.c", "AGAIN", {**self.common, "D_FF": f, "BACKWARD": 1}, "dx dw scratch", "dy x w",
            {"w": self.arrays, "dw": self.gradients, "scratch": scratch}))

    def unsaved(self, x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        """As a call, but the backward pass makes `hidden` again."""
        outputs = [empty(*self.shape), empty(self.save), empty(self.forward_scratch)]
        return launch(outputs, [x, w], self.launch_forward, self._gradient_again)[0],

    def _gradient_again(self, dy: Tensor, outputs: list[Tensor],
                        inputs: list[Tensor]) -> Sequence[Tensor | None]:
        return launch([inputs[0], empty(self.weights), empty(self.again_scratch)], [dy, *inputs],
                      self.launch_again)[:2]


# Embedding and head

class Embedding:
    """Rows of the table (v, d) for tokens (b*t,) int32."""

    def __init__(self, config: ModelConfig, b: int, t: int, threads: int):
        self.shape, self.table_shape = (b * t, config.d_model), (config.vocab_size, config.d_model)
        constants = {**common_constants(config, b, t, threads), "VOCAB": config.vocab_size}
        self.launch_forward = launcher(*kernel_source(
            "embedding.c", "FORWARD", constants, "y", "tokens table"))
        self.launch_backward = launcher(*kernel_source(
            "embedding.c", "BACKWARD", constants, "d_table", "dy tokens"))

    def __call__(self, tokens: Tensor, table: Tensor) -> Tensor:
        return launch([empty(*self.shape)], [tokens, table], self.launch_forward, self._gradient)[0]

    def _gradient(self, dy: Tensor, outputs: list[Tensor],
                  inputs: list[Tensor]) -> Sequence[Tensor | None]:
        return [None, *launch([empty(*self.table_shape)], [dy, inputs[0]], self.launch_backward)]


class PanelUnit(NamedTuple):
    """A panel: its first float, and that of its first row in the packed weights."""
    at: int
    row_at: int
    columns: int


class Packer:
    """Packs the matrices of a block, as `step` takes them."""

    def __init__(self, config: ModelConfig, block: Block):
        matrices, offsets = packed_matrices(block), block.offsets()
        self.size, panels_at = segments({array.name: array.packed_size for array in matrices})
        units = [PanelUnit(panels_at[a.name] + row * a.shape[1],
                           offsets[a.name] + row * a.shape[1], a.shape[1])
                 for a in matrices for row in range(0, a.padded_rows or a.shape[0], LANES)]
        self.launch = launcher(*kernel_source(
            "pack.c", "PANELS", {"D_MODEL": config.d_model, "THREADS": 1}, "panels", "w",
            units=units))

    def __call__(self, w: Tensor, panels: Tensor) -> Tensor:
        """The panels after the launch, which writes them in place."""
        return launch([panels], [w], self.launch)[0]


class HeadKernels:
    """What heads share (head.h): the final norm, logits by a table (v, d), and gradients of a loss
    whose forward pass leaves d loss / d logits as its second output."""
    replaces_x = False   # whether the gradient of x takes the place of x

    def __init__(self, config: ModelConfig, rows: int, v: int, file: str,
                 constants: Mapping[str, object]):
        d = config.d_model
        self.shape, self.table_shape, self.logits_shape = (rows, d), (v, d), (rows, v)
        self.constants = {**constants, "VOCAB": v}
        self.forward_scratch, forward = segments({"panels": v * d, "losses": rows})
        self.backward_scratch, backward = segments(
            {"panels": v * d, "d_tables": groups(rows) * v * d, "d_gains": row_tiles(rows) * d})
        self.arrays = {"scratch": forward}
        self.launch_logits = launcher(*kernel_source(
            file, "LOGITS", self.constants, "logits panels", "x gain table"))
        self.launch_step = launcher(*kernel_source(
            file, "STEP", self.constants, "logits", "x gain panels"))
        self.launch_backward = launcher(*kernel_source(
            file, "BACKWARD", self.constants, "dx d_gain d_table scratch",
            "d_loss x gain table d_logits", {"scratch": backward}))

    def logits(self, x: Tensor, gain: Tensor, table: Tensor) -> Tensor:
        return launch([empty(*self.logits_shape), empty(math.prod(self.table_shape))],
                      [x, gain, table], self.launch_logits)[0]

    def step(self, x: Tensor, gain: Tensor, panels: Tensor) -> Tensor:
        """`logits` by a table's panels, which are those of a Packer."""
        return launch([empty(*self.logits_shape)], [x, gain, panels], self.launch_step)[0]

    def _loss(self, inputs: list[Tensor], launch_fn: LaunchFn) -> Tensor:
        """inputs: x, gain and table first."""
        outputs = [empty(1), empty(*self.logits_shape), empty(self.forward_scratch)]
        return launch(outputs, inputs, launch_fn, self._gradient)[0].reshape(())

    def _gradient(self, d_loss: Tensor, outputs: list[Tensor],
                  inputs: list[Tensor]) -> Sequence[Tensor | None]:
        gradients = launch(
            [inputs[0] if self.replaces_x else empty(*self.shape), empty(self.shape[1]),
             empty(*self.table_shape), empty(self.backward_scratch)],
            [d_loss.contiguous(), *inputs[:3], outputs[1]], self.launch_backward)[:3]
        return [*gradients, *[None] * (len(inputs) - 3)]


class Head(HeadKernels):
    """Final norm and tied head: logits, or the cross-entropy over targets >= 0, after whose
    gradient nobody may need x again."""
    replaces_x = True

    def __init__(self, config: ModelConfig, b: int, t: int, threads: int):
        super().__init__(config, b * t, config.vocab_size, "head.c",
                         common_constants(config, b, t, threads))
        self.launch_forward = launcher(*kernel_source(
            "head.c", "FORWARD", self.constants, "loss d_logits scratch",
            "x gain table targets inv_count", self.arrays))
        self.launch_soft = functools.cache(self._soft_launcher)

    def _soft_launcher(self, top_k: int, temperature: float, alpha: float) -> LaunchFn:
        soft = {"TOP_K": top_k, "TEMPERATURE": temperature, "ALPHA": alpha,
                "MIN_NORMAL": MIN_NORMAL}
        return launcher(*kernel_source(
            "head.c", "SOFT", {**self.constants, **soft}, "loss d_logits scratch",
            "x gain table targets inv_count topk_ids topk_probs", self.arrays))

    def loss(self, x: Tensor, gain: Tensor, table: Tensor, targets: Tensor,
             inv_count: Tensor, soft: SoftTargets | None = None) -> Tensor:
        launch_fn, inputs = self.launch_forward, [x, gain, table, targets, inv_count]
        if soft:
            top_k = typing.cast(int, soft.topk_ids.shape[-1])
            launch_fn = self.launch_soft(top_k, soft.temperature, soft.alpha)
            inputs += [soft.topk_ids.reshape(-1, top_k), soft.topk_probs.reshape(-1, top_k)]
        return self._loss(inputs, launch_fn)


KERNELS = {"ssm": Ssm, "attention": Attention, "mlp": Mlp}   # by layout.BlockKind.name


@functools.cache
def kernels_of(config: ModelConfig, kind: str, b: int, t: int, threads: int) -> typing.Any:
    """The kernels of a kind for one shape: all blocks of the kind share them."""
    if kind in KERNELS:
        return KERNELS[kind](config, KINDS[kind].block_fn(config, kind), b, t, threads)
    return (Embedding if kind == "embedding" else Head)(config, b, t, threads)
