"""The optimizer's kernels: Muon for matrices and AdamW for all else, over packed tensors."""
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple

from seed.config import TrainConfig
from seed.wavecore.kernel_source import kernel_source, with_prefix
from seed.wavecore.layout import Block, moments, round_up
from seed.wavecore.tinygrad_seam import Tensor, LaunchFn, empty, launch, launcher

MAX_UNIT_FLOATS = 4096    # of a tensor that one thread takes at a time in AdamW
MAX_GROUP_TENSORS = 24    # of one launch; tinygrad takes at most 63 arguments
MAX_GRAD_NORM = 3e38      # a larger one is not finite in float32
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)   # a, b, c of muon.c (Jordan et al. 2024)
NS_STEPS = 5              # Newton-Schulz iterations
NS_EPS = 1e-7             # added to the norm that the momentum is divided by
MUON_RMS = 0.2            # root mean square of an update: that of AdamW's (Liu et al. 2502.16982)
MIN_WEIGHT, MIN_MOMENTUM = 1e-9, 1e-15   # of matrices: less is 0 (muon.c)


class OptimizerState(IntEnum):
    """Where each float stands in the optimizer's state."""
    UPDATES = 0        # steps that were applied
    BETA1_POWER = 1    # beta1 ** UPDATES
    BETA2_POWER = 2
    GRAD_NORM = 3      # global norm of the last gradient, before clipping
    GRAD_SCALE = 4     # what clipping multiplies that gradient by
    SKIPPED = 5        # 1 if the last step was dropped


STATE = with_prefix("STATE", {place.name: place.value for place in OptimizerState})


class AdamwUnit(NamedTuple):
    """A run of floats of one array: where it starts in its tensor of the group, in m and in v."""
    tensor: int
    at: int
    length: int
    m: int
    v: int
    is_matrix: int


class MuonUnit(NamedTuple):
    """One matrix: where it starts in its tensor of the group and in m."""
    tensor: int
    at: int
    rows: int
    columns: int
    m: int
    lr_scale: float


def _adamw_units(group: list[Block], first: list[Block], second: list[Block], m: int,
                 v: int) -> list[AdamwUnit]:
    """Units of the arrays in `second`, which like `first` are some of the arrays of `group`; their
    moments start at m and v."""
    units = []
    for i, (block, m_block, v_block) in enumerate(zip(group, first, second)):
        offsets, m_offsets, v_offsets = block.offsets(), m_block.offsets(), v_block.offsets()
        for array in v_block.arrays:
            name = array.name
            for start in range(0, array.packed_size, MAX_UNIT_FLOATS):
                units.append(AdamwUnit(
                    i, offsets[name] + start, min(MAX_UNIT_FLOATS, array.packed_size - start),
                    m + m_offsets[name] + start, v + v_offsets[name] + start,
                    int(bool(array.matrices))))
        m, v = m + m_block.size, v + v_block.size
    return units


def _padded_sides(rows: int, columns: int) -> list[int]:
    """Rows and columns of X in muon.c for a matrix, whose columns are whole vectors."""
    return sorted((round_up(rows), columns))


def _muon_units(group: list[Block], first: list[Block], m: int, lr_scale: float) -> list[MuonUnit]:
    """Units of the matrices in `first`, some of the arrays of `group` whose moments start at m;
    those that take longest first."""
    units = []
    for i, (block, m_block) in enumerate(zip(group, first)):
        offsets, m_offsets = block.offsets(), m_block.offsets()
        for array in m_block.arrays:
            at, m_at, columns = offsets[array.name], m + m_offsets[array.name], array.shape[-1]
            for rows in array.matrices:
                longer = _padded_sides(rows, columns)[1]
                units.append(MuonUnit(i, at, rows, columns, m_at,
                                      lr_scale * MUON_RMS * longer ** 0.5))
                at, m_at = at + rows * columns, m_at + rows * columns
        m += m_block.size

    def operations(unit: MuonUnit) -> int:
        shorter, longer = _padded_sides(unit.rows, unit.columns)
        return shorter * shorter * longer
    return sorted(units, key=operations, reverse=True)


def thread_scratch(blocks: list[Block], config: TrainConfig) -> int:
    """Floats of scratch that a thread takes for an update: X and its panels, A and AA of muon.c."""
    if (config.optimizer, config.trainable) != ("muon", "all"):
        return 0
    sides = (_padded_sides(unit.rows, unit.columns) for unit in _muon_units(blocks, blocks, 0, 1.0))
    return max(2 * shorter * (shorter + longer) for shorter, longer in sides)


class OptimizerKernels:
    """One step over packed tensors, in place, as train.optimizer and train.trainable say.

    `first` and `second` are the blocks with the arrays that have such moments; AdamW updates those
    of `second`. Blocks that `trains_fn` refuses stay as they are.
    """

    def __init__(self, blocks: list[Block], config: TrainConfig, matrix_lr_scale: float,
                 threads: int, trains_fn: Callable[[str], bool] = lambda name: True):
        self.first, self.second = (
            [block if trains_fn(block.name) else replace(block, arrays=()) for block in part]
            for part in moments(blocks, config))
        self.groups = [slice(i, i + MAX_GROUP_TENSORS)
                       for i in range(0, len(blocks), MAX_GROUP_TENSORS)]
        self.norms: list[LaunchFn] = []
        self.applies: list[LaunchFn | None] = []   # None: nothing of the group is updated so
        self.muons: list[LaunchFn | None] = []
        self.unit_counts: list[int] = []
        stride = thread_scratch(blocks, config)
        self.scratch = threads * stride
        common = {"THREADS": threads, "WEIGHT_DECAY": config.weight_decay, **STATE}
        adamw = {**common, "BETA1": config.beta1, "BETA2": config.beta2, "EPS": config.eps,
                 "MATRIX_LR_SCALE": matrix_lr_scale, "GRAD_CLIP": config.grad_clip,
                 "MAX_GRAD_NORM": MAX_GRAD_NORM}
        muon = {**common, "MOMENTUM": config.momentum, "NS_STEPS": NS_STEPS, "NS_EPS": NS_EPS,
                "MIN_WEIGHT": MIN_WEIGHT, "MIN_MOMENTUM": MIN_MOMENTUM,
                "SCRATCH_STRIDE": stride, **dict(zip(("NS_A", "NS_B", "NS_C"), NS_COEFFICIENTS))}
        m = v = 0
        for g in self.groups:
            group, first, second = blocks[g], self.first[g], self.second[g]
            counts = {"params": len(group), "grads": len(group)}
            all_units = _adamw_units(group, group, group, 0, 0)   # the norm is of all gradients
            self.unit_counts.append(len(all_units))
            self.norms.append(launcher(*kernel_source(
                "adamw.c", "NORM", adamw, "sums", "grads", counts=counts, units=all_units)))
            units = _adamw_units(group, first, second, m, v)
            self.applies.append(launcher(*kernel_source(
                "adamw.c", "APPLY", adamw, "params m v", "state lr grads", counts=counts,
                units=units)) if units else None)
            matrices = _muon_units(group, first, m, matrix_lr_scale ** 0.5) if self.scratch else []
            self.muons.append(launcher(*kernel_source(
                "muon.c", "ORTHOGONALIZE", muon, "params m scratch", "state lr grads",
                counts=counts, units=matrices)) if matrices else None)
            m, v = m + sum(b.size for b in first), v + sum(b.size for b in second)
        self.decide = launcher(*kernel_source(
            "adamw.c", "DECIDE", {**adamw, "THREADS": 1, "GROUPS": len(self.groups),
                                  "GROUP_UNITS": ", ".join(map(str, self.unit_counts))},
            "state changes", "loss sums", counts={"sums": len(self.groups)}))

    def __call__(self, params: list[Tensor], grads: list[Tensor], m: Tensor, v: Tensor,
                 state: Tensor, lr: Tensor, loss: Tensor, changes: Tensor) -> list[Tensor]:
        """Tensors to realize; they are params, m, v and state after the step, which
        counts in `changes` (WaveCore.version)."""
        sums = [launch([empty(n)], grads[g], norm)[0]
                for g, n, norm in zip(self.groups, self.unit_counts, self.norms)]
        state = launch([state, changes], [loss, *sums], self.decide)[0]
        after: list[Tensor] = []
        for i, g in enumerate(self.groups):
            inputs, updated = [state, lr, *grads[g]], params[g]
            if apply := self.applies[i]:
                *updated, m, v = launch([*updated, m, v], inputs, apply)
            if muon := self.muons[i]:
                *updated, m, _ = launch([*updated, m, empty(self.scratch)], inputs, muon)
            after += updated
        return [*after, m, v, state]
