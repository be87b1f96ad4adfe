"""The fast blocks: C kernels specialised by shape, bound through `Tensor.custom_kernel`.

That interface is marked alpha, so every call to it is in this file and tinygrad is pinned. The
sizes of saved and scratch buffers are computed here and reach the C code as offsets.
"""
import functools
import math
import typing
from importlib import resources

from tinygrad import Tensor, dtypes
from tinygrad.uop.ops import UOp

from seed.config import ModelConfig, TrainConfig
from seed.wavecore.compiler import cpu
from seed.wavecore.layout import Block, moments, proj_columns, round_up
from seed.wavecore.reference import SoftTargets, rope_table
from seed.wavecore.tinygrad_seam import LaunchFn, launcher

ROW_TILE = 96   # ROW_TILE of gemm.h
CHUNK = 16      # CHUNK of ssm.c
QUERIES = 4     # QUERIES of attention.c
UNIT_SIZE = 4096   # floats of the optimizer that one thread takes at a time
GROUP_SIZE = 24    # tensors of one optimizer launch; tinygrad takes at most 63 arguments
PARTS = ("FORWARD", "SOFT", "BACKWARD", "LOGITS", "NORM", "DECIDE", "APPLY", "ORTHOGONALIZE")
HEADERS = ("simd.h", "team.h", "gemm.h", "norm.h")  # of all but the optimizer
NEEDS = {"adamw.c": ("simd.h", "team.h", "update.h"),
         "muon.c": ("simd.h", "team.h", "gemm.h", "update.h")}


@functools.cache
def _text(name: str) -> str:
    return (resources.files("seed.wavecore") / "csrc" / name).read_text(encoding="utf-8")


def _segments(prefix: str, sizes: dict[str, int]) -> tuple[int, dict[str, int]]:
    """Total floats of a buffer and the offset of each of its segments, as C names."""
    offsets, at = {}, 0
    for name, size in sizes.items():
        offsets[f"{prefix}_{name}"] = at
        at += round_up(size)
    return max(at, 1), offsets


def source(file: str, defines: dict[str, object]) -> tuple[str, str]:
    """Kernel name and complete C text.

    The text names the CPU, so that code cached on one is never loaded on another.
    """
    part = next(key for key in PARTS if key in defines)
    name = "_".join([file.removesuffix(".c"), part.lower()] + [
        str(defines[key]) for key in ("D_MODEL", "BATCH", "TIME", "THREADS") if key in defines])
    defines = {**defines, "KERNEL": name}
    head = [f"/* {cpu()} */\n", *(f"#define {key} {value}\n" for key, value in defines.items())]
    headers = NEEDS.get(file, HEADERS)
    return name, "".join([*head, *map(_text, (*headers, file))])


def _launcher(file: str, defines: dict[str, object]) -> LaunchFn:
    return launcher(*source(file, defines))


def _empty(*shape: int) -> Tensor:
    return Tensor.empty(*shape, dtype=dtypes.float)


def _common(config: ModelConfig, b: int, t: int, threads: int) -> dict[str, object]:
    return {"THREADS": threads, "BATCH": b, "TIME": t, "ROWS": b * t, "D_MODEL": config.d_model,
            "NORM_EPS": f"{config.stream_eps!r}f", "OUT_NORM_EPS": f"{config.norm_eps!r}f"}


def _weights(block: Block) -> dict[str, int]:
    return {f"W_{name.upper()}": at for name, at in block.offsets().items()}


class Ssm:
    """The SSM mixer's kernels for one shape; call it like `reference.ssm` with packed weights."""

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int):
        d, e, h = config.d_model, config.d_inner, config.ssm_heads
        n, p, rows, proj = config.d_state, config.head_dim, b * t, round_up(proj_columns(config))
        private = 7 * round_up(t)  # gates_t of ssm.c
        self.shape, self.weights = (rows, d), block.size
        self.conv_shape = (b, config.d_conv - 1, h, 2 * n + p)
        self.ssm_shape = (b, h, n, p)
        self.save, save = _segments("SAVE", {
            "PROJ": rows * proj, "OUT": rows * e, "STATES": b * h * math.ceil(t / CHUNK) * n * p})
        panels = {"IN_PANELS": proj * d, "OUT_PANELS": e * d}
        self.forward_scratch, forward = _segments("SCRATCH", {
            **panels, "PRIVATE": threads * private})
        parts = round_up(config.d_conv * (2 * n + p) + p + 2)
        self.backward_scratch, backward = _segments("SCRATCH", {
            **panels, "D_OUT": rows * e, "D_PROJ": rows * proj, "O_PANELS": rows * e,
            "XN_PANELS": rows * d, "D_GAIN": math.ceil(rows / ROW_TILE) * d,
            "PARTS": b * h * parts, "PRIVATE": threads * private})
        defines = {**_common(config, b, t, threads), **_weights(block), **save,
                   "TIME_PADDED": round_up(t), "D_INNER": e, "HEADS": h, "D_STATE": n,
                   "HEAD_DIM": p, "D_CONV": config.d_conv, "PROJ": proj,
                   "DELTA": "1.f" if config.transition == "delta" else "0.f",
                   "BETA_MAX": f"{config.beta_max!r}f", "SCRATCH_PRIVATE_STRIDE": private}
        self.launch_forward = _launcher("ssm.c", {**defines, **forward, "FORWARD": 1})
        self.launch_backward = _launcher("ssm.c", {**defines, **backward, "BACKWARD": 1})

    def __call__(self, x: Tensor, w: Tensor, conv_in: Tensor,
                 ssm_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, conv_out, ssm_out = Tensor.custom_kernel(
            _empty(*self.shape), _empty(*self.conv_shape), _empty(*self.ssm_shape),
            _empty(self.save), _empty(self.forward_scratch), x, w, conv_in, ssm_in,
            fxn=self.launch_forward, grad_fxn=self._gradient)[:3]
        return y, conv_out.detach(), ssm_out.detach()

    def _gradient(self, dy: UOp, call: UOp) -> tuple[UOp | None, ...]:
        save, (x, w, conv_in) = call.src[4], call.src[6:9]
        dx, dw, d_conv, d_ssm = Tensor.custom_kernel(
            _empty(*self.shape), _empty(self.weights), _empty(*self.conv_shape),
            _empty(*self.ssm_shape), _empty(self.backward_scratch), Tensor(dy), Tensor(x),
            Tensor(w), Tensor(conv_in), Tensor(save.after(call)), fxn=self.launch_backward)[:4]
        return (None,) * 5 + (dx.uop, dw.uop, d_conv.uop, d_ssm.uop)


class Attention:
    """The attention mixer's kernels for one shape; call it like `reference.attention`."""

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int):
        d, p, rows, past = config.d_model, config.head_dim, b * t, config.sliding_window - 1
        slots = round_up(past + t)
        self.shape, self.weights, self.batch = (rows, d), block.size, b
        self.cache_shape = (b, past, d)
        self.rope = Tensor(rope_table(config, t)).realize()
        self.save, save = _segments("SAVE", {
            "QKV": rows * 3 * d, "OUT": rows * d, "STATS": b * config.attn_heads * t * 2})
        panels = {"IN_PANELS": 3 * d * d, "OUT_PANELS": d * d}
        forward_private = (p + QUERIES) * slots
        backward_private = (5 * p + 2 * QUERIES) * slots
        self.forward_scratch, forward = _segments("SCRATCH", {
            **panels, "PRIVATE": threads * forward_private})
        self.backward_scratch, backward = _segments("SCRATCH", {
            **panels, "D_OUT": rows * d, "D_QKV": rows * 3 * d, "O_PANELS": rows * d,
            "XN_PANELS": rows * d, "D_GAIN": math.ceil(rows / ROW_TILE) * d,
            "PRIVATE": threads * backward_private})
        defines = {**_common(config, b, t, threads), **_weights(block), **save,
                   "HEADS": config.attn_heads, "HEAD_DIM": p, "WINDOW": config.sliding_window,
                   "SCALE": f"{p ** -0.5!r}f"}
        self.launch_forward = _launcher("attention.c", {
            **defines, **forward, "SCRATCH_PRIVATE_STRIDE": forward_private, "FORWARD": 1})
        self.launch_backward = _launcher("attention.c", {
            **defines, **backward, "SCRATCH_PRIVATE_STRIDE": backward_private, "BACKWARD": 1})

    def __call__(self, x: Tensor, w: Tensor, k_in: Tensor, v_in: Tensor,
                 length: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, k_out, v_out, length_out = Tensor.custom_kernel(
            _empty(*self.shape), _empty(*self.cache_shape), _empty(*self.cache_shape),
            Tensor.empty(self.batch, dtype=dtypes.int), _empty(self.save),
            _empty(self.forward_scratch), x, w, k_in, v_in, length, self.rope,
            fxn=self.launch_forward, grad_fxn=self._gradient)[:4]
        return y, k_out.detach(), v_out.detach(), length_out

    def _gradient(self, dy: UOp, call: UOp) -> tuple[UOp | None, ...]:
        save, inputs = call.src[5], [Tensor(u) for u in call.src[7:13]]
        dx, dw, dk, dv = Tensor.custom_kernel(
            _empty(*self.shape), _empty(self.weights), _empty(*self.cache_shape),
            _empty(*self.cache_shape), _empty(self.backward_scratch), Tensor(dy), *inputs,
            Tensor(save.after(call)), fxn=self.launch_backward)[:4]
        return (None,) * 6 + (dx.uop, dw.uop, dk.uop, dv.uop, None, None)


class Mlp:
    """The SwiGLU MLP's kernels for one shape."""

    def __init__(self, config: ModelConfig, block: Block, b: int, t: int, threads: int):
        d, f, rows = config.d_model, config.d_ff, b * t
        self.shape, self.weights, self.save = (rows, d), block.size, rows * 2 * f
        panels = {"IN_PANELS": 2 * f * d, "OUT_PANELS": f * d}
        self.forward_scratch, forward = _segments("SCRATCH", panels)
        self.backward_scratch, backward = _segments("SCRATCH", {
            **panels, "D_HIDDEN": rows * 2 * f, "ACT_PANELS": rows * f, "XN_PANELS": rows * d,
            "D_GAIN": math.ceil(rows / ROW_TILE) * d})
        defines = {**_common(config, b, t, threads), **_weights(block), "D_FF": f}
        self.launch_forward = _launcher("mlp.c", {**defines, **forward, "FORWARD": 1})
        self.launch_backward = _launcher("mlp.c", {**defines, **backward, "BACKWARD": 1})

    def __call__(self, x: Tensor, w: Tensor) -> Tensor:
        return Tensor.custom_kernel(
            _empty(*self.shape), _empty(self.save), _empty(self.forward_scratch), x, w,
            fxn=self.launch_forward, grad_fxn=self._gradient)[0]

    def _gradient(self, dy: UOp, call: UOp) -> tuple[UOp | None, ...]:
        save, (x, w) = call.src[2], call.src[4:6]
        dx, dw = Tensor.custom_kernel(
            _empty(*self.shape), _empty(self.weights), _empty(self.backward_scratch), Tensor(dy),
            Tensor(x), Tensor(w), Tensor(save.after(call)), fxn=self.launch_backward)[:2]
        return (None,) * 3 + (dx.uop, dw.uop)


class Embedding:
    """Rows of the table for tokens (b*t,) int32."""

    def __init__(self, config: ModelConfig, b: int, t: int, threads: int):
        self.shape, self.table_shape = (b * t, config.d_model), (config.vocab_size, config.d_model)
        defines = {**_common(config, b, t, threads), "VOCAB": config.vocab_size}
        self.launch_forward = _launcher("embedding.c", {**defines, "FORWARD": 1})
        self.launch_backward = _launcher("embedding.c", {**defines, "BACKWARD": 1})

    def __call__(self, tokens: Tensor, table: Tensor) -> Tensor:
        return Tensor.custom_kernel(_empty(*self.shape), tokens, table, fxn=self.launch_forward,
                                    grad_fxn=self._gradient)[0]

    def _gradient(self, dy: UOp, call: UOp) -> tuple[UOp | None, ...]:
        d_table = Tensor.custom_kernel(_empty(*self.table_shape), Tensor(dy), Tensor(call.src[2]),
                                       fxn=self.launch_backward)[0]
        return None, None, d_table.uop


class Head:
    """Final norm and tied head: logits, or the cross-entropy over targets >= 0."""

    def __init__(self, config: ModelConfig, b: int, t: int, threads: int):
        d, v, rows = config.d_model, config.vocab_size, b * t
        self.shape, self.table_shape, self.logits_shape = (rows, d), (v, d), (rows, v)
        self.forward_scratch, forward = _segments("SCRATCH", {"PANELS": v * d, "LOSSES": rows})
        self.backward_scratch, backward = _segments("SCRATCH", {
            "PANELS": v * d, "XN_PANELS": rows * d, "D_GAIN": math.ceil(rows / ROW_TILE) * d})
        defines = {**_common(config, b, t, threads), "VOCAB": v}
        self.launch_logits = _launcher("head.c", {**defines, "LOGITS": 1})
        self.launch_forward = _launcher("head.c", {**defines, **forward, "FORWARD": 1})
        self.launch_soft = functools.cache(lambda top, temperature, alpha: _launcher("head.c", {
            **defines, **forward, "TOP": top, "TEMPERATURE": f"{temperature!r}f",
            "ALPHA": f"{alpha!r}f", "SOFT": 1}))
        self.launch_backward = _launcher("head.c", {**defines, **backward, "BACKWARD": 1})

    def logits(self, x: Tensor, gain: Tensor, table: Tensor) -> Tensor:
        return Tensor.custom_kernel(_empty(*self.logits_shape), _empty(math.prod(self.table_shape)),
                                    x, gain, table, fxn=self.launch_logits)[0]

    def loss(self, x: Tensor, gain: Tensor, table: Tensor, targets: Tensor,
             inv_count: Tensor, soft: SoftTargets | None = None) -> Tensor:
        launch, inputs = self.launch_forward, [x, gain, table, targets, inv_count]
        if soft:
            top = typing.cast(int, soft.topk_ids.shape[-1])
            launch = self.launch_soft(top, soft.temperature, soft.alpha)
            inputs += [soft.topk_ids.reshape(-1, top), soft.topk_probs.reshape(-1, top)]
        return Tensor.custom_kernel(
            _empty(1), _empty(*self.logits_shape), _empty(self.forward_scratch), *inputs,
            fxn=launch, grad_fxn=self._gradient)[0].reshape(())

    def _gradient(self, d_loss: UOp, call: UOp) -> tuple[UOp | None, ...]:
        save, (x, gain, table), rest = call.src[2], call.src[4:7], len(call.src[7:])
        dx, d_gain, d_table = Tensor.custom_kernel(
            _empty(*self.shape), _empty(self.shape[1]), _empty(*self.table_shape),
            _empty(self.backward_scratch), Tensor(d_loss).contiguous(), Tensor(x), Tensor(gain),
            Tensor(table), Tensor(save.after(call)), fxn=self.launch_backward)[:3]
        return (None,) * 3 + (dx.uop, d_gain.uop, d_table.uop) + (None,) * rest


def _arguments(count: int) -> dict[str, str]:
    names = [f"a{i}" for i in range(count)]
    return {"PARAMETERS": ", ".join(f"float *{n}" for n in names), "ARGUMENTS": ", ".join(names)}


def _table(rows: list[str]) -> dict[str, object]:
    return {"UNIT_COUNT": len(rows), "UNIT_TABLE": ", ".join(rows)}


def _runs(group: list[Block], first: list[Block], second: list[Block], m: int,
          v: int) -> list[str]:
    """Rows of the table UNITS of adamw.c for the arrays in `second`, parts of the blocks `group`.

    m and v: where the first moments of `first` and the second of `second` start.
    """
    rows = []
    for i, (block, one, two) in enumerate(zip(group, first, second)):
        places = block.offsets(), one.offsets(), two.offsets()
        for array in two.arrays:
            at, m_at, v_at = (place[array.name] for place in places)
            for start in range(0, array.packed_size, UNIT_SIZE):
                length = min(UNIT_SIZE, array.packed_size - start)
                rows.append(f"{{{i}, {at + start}, {length}, {m + m_at + start}, "
                            f"{v + v_at + start}, {int(bool(array.matrices))}}}")
        m, v = m + one.size, v + two.size
    return rows


def _matrices(group: list[Block], m: int, rate: float) -> tuple[list[str], int]:
    """Rows of the table UNITS of muon.c, the costly first, and the floats that the largest needs.

    The rate's scale gives an update the root mean square of AdamW's (Liu et al. 2502.16982).
    """
    found = []
    for i, block in enumerate(group):
        for array, at in zip(block.arrays, block.offsets().values()):
            columns = array.shape[-1]
            for rows in array.matrices:
                short, long = sorted((round_up(rows), columns))
                scale = rate * 0.2 * long ** 0.5
                found.append((short * short * long, 2 * short * (short + long),
                              f"{{{i}, {at}, {rows}, {columns}, {m + at}, {scale!r}f}}"))
                at += rows * columns
        m += block.size
    found.sort(key=lambda unit: -unit[0])
    return [row for _, _, row in found], max(size for _, size, _ in found)


class Optimizer:
    """One step over packed tensors, in place: Muon for matrices, AdamW for all else.

    With train.optimizer = "adamw" it is AdamW for all; train.trainable = "no-matrices" freezes the
    matrices. `first` and
    `second` are the blocks with the arrays that have such moments; AdamW moves those of `second`.
    The state is as the enum of update.h names it.
    """

    STATE_SIZE = 6

    def __init__(self, blocks: list[Block], config: TrainConfig, matrix_rate: float, threads: int):
        muon = config.optimizer == "muon" and config.trainable == "all"
        self.first, self.second = moments(blocks, config)
        self.groups = [slice(i, i + GROUP_SIZE) for i in range(0, len(blocks), GROUP_SIZE)]
        self.norms, self.applies, self.muons, self.unit_counts = [], [], [], []
        self.scratch = 0
        common = {"THREADS": threads, "WEIGHT_DECAY": f"{config.weight_decay!r}f"}
        adamw = {**common, "BETA1": f"{config.beta1!r}f", "BETA2": f"{config.beta2!r}f",
                 "EPS": f"{config.eps!r}f", "MATRIX_RATE": f"{matrix_rate!r}f",
                 "GRAD_CLIP": f"{config.grad_clip!r}f"}
        m = v = 0
        for g in self.groups:
            group, first, second = blocks[g], self.first[g], self.second[g]
            tensors = {"TENSORS": len(group)}
            all_runs = _runs(group, group, group, 0, 0)   # the norm is of all gradients
            runs = _runs(group, first, second, m, v)
            self.unit_counts.append(len(all_runs))
            self.norms.append(_launcher("adamw.c", {
                **adamw, **tensors, **_table(all_runs), "NORM": 1, **_arguments(1 + len(group))}))
            self.applies.append(_launcher("adamw.c", {
                **adamw, **tensors, **_table(runs), "APPLY": 1, **_arguments(2 * len(group) + 4)}))
            if muon:
                units, size = _matrices(group, m, matrix_rate ** 0.5)
                self.scratch = max(self.scratch, threads * size)
                self.muons.append(_launcher("muon.c", {
                    **common, **tensors, **_table(units), "MOMENTUM": f"{config.momentum!r}f",
                    "PRIVATE_STRIDE": size, "ORTHOGONALIZE": 1,
                    **_arguments(2 * len(group) + 4)}))
            m, v = m + sum(b.size for b in first), v + sum(b.size for b in second)
        self.decide = _launcher("adamw.c", {
            **adamw, "DECIDE": 1, "GROUPS": len(self.groups),
            "GROUP_UNITS": ", ".join(map(str, self.unit_counts)),
            **_arguments(2 + len(self.groups))})

    def __call__(self, params: list[Tensor], grads: list[Tensor], m: Tensor, v: Tensor,
                 state: Tensor, lr: Tensor, loss: Tensor) -> list[Tensor]:
        """Tensors to realize; they are params, m, v and state after the step."""
        sums = [Tensor.custom_kernel(_empty(n), *grads[g], fxn=norm)[0]
                for g, n, norm in zip(self.groups, self.unit_counts, self.norms)]
        state = Tensor.custom_kernel(state, loss, *sums, fxn=self.decide)[0]
        after: list[Tensor] = []
        for i, (g, apply) in enumerate(zip(self.groups, self.applies)):
            count = len(params[g])
            *updated, m, v = Tensor.custom_kernel(*params[g], m, v, state, lr, *grads[g],
                                                  fxn=apply)[:count + 2]
            if self.muons:
                *updated, m = Tensor.custom_kernel(*updated, m, _empty(self.scratch), state, lr,
                                                   *grads[g], fxn=self.muons[i])[:count + 1]
            after += updated
        return [*after, m, v, state]
