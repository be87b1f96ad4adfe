"""Structured pruning: the layers, heads and units of a brain that matter most.

The importance of a structure is the squared first-order change of the loss if it were removed,
(sum of gradient * weight)^2, averaged over batches (Molchanov et al. 1906.10771, equation 8).
Layers are compared by the loss itself. Channels are not chosen: the residual stream is narrowed to
its principal axes (reconstruct.py).
"""
from collections.abc import Callable, Sequence

import numpy as np

from seed.config import ModelConfig
from seed.curriculum.dataset import Batch
from seed.resize import reconstruct
from seed.wavecore import layout, submodel
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import Tensor

MAX_LAYER_CHOICES = 32   # whose loss is measured
Named = dict[str, np.ndarray]


def prune(parent: ModelConfig, params: Named, child: ModelConfig, batches: Sequence[Batch],
          threads: int) -> Named:
    """The child's named arrays, out of the parent's. Raises ConfigError if it does not fit."""
    submodel.check(child, parent)
    if child == parent:
        return dict(params)
    removals = [_removal_changes(parent, params, batch, threads) for batch in batches]
    layers = _best_layers(parent, params, child, removals, batches[0], threads)
    heads, units = [], []
    for kind, i in zip(child.layer_kinds, layers):
        total, n = (layout.BLOCKS[kind].n_heads_fn(config) for config in (parent, child))
        heads.append(_best_structures(removals, f"layers.{i}.mixer", total, n))
        units.append(_best_structures(removals, f"layers.{i}.mlp", parent.d_ff, child.d_ff))
    chosen = submodel.Selection(layers, np.arange(parent.d_model), tuple(heads), tuple(units))
    cut = {entry.small: np.ascontiguousarray(params[entry.large][entry.at])
           for entry in submodel.index_maps(child, parent, chosen)}
    whole, axes = WaveCore(parent, params, threads), None
    if child.d_model < parent.d_model:
        axes = reconstruct.principal_axes(whole, batches, child.d_model)
        cut = reconstruct.narrow(cut, axes, layers)
    return reconstruct.reconstruct(child, cut, whole, layers, batches, axes)


def _loss(model: WaveCore, batch: Batch) -> Tensor:
    inv_count = np.array([1 / max(1, int((batch.targets >= 0).sum()))], np.float32)
    tokens, targets, count = (Tensor(a).realize() for a in (batch.tokens, batch.targets, inv_count))
    return model.loss(tokens, targets, count)[0]


def _removal_changes(config: ModelConfig, params: Named, batch: Batch, threads: int) -> Named:
    """The change of the loss, to first order, without each column of each output projection:
    gradient * weight, summed over the column."""
    model = WaveCore(config, params, threads)
    grads = _loss(model, batch).gradient(*model.packed.values())
    Tensor.realize(*grads)
    return {key: (array * params[key]).sum(0) for block, g in zip(model.blocks, grads)
            for key, array in block.unpack(g.numpy()).items() if key.endswith("out_proj")}


def _importance(removals: Sequence[Named], sums_fn: Callable[[Named], np.ndarray]) -> np.ndarray:
    return np.mean([np.square(sums_fn(columns)) for columns in removals], axis=0)


def _best_layers(parent: ModelConfig, params: Named, child: ModelConfig,
                 removals: Sequence[Named], batch: Batch, threads: int) -> tuple[int, ...]:
    """The choice of layers with the lowest loss, among the most important ones. A layer is removed
    by zeroing its two output projections: nothing of it then reaches the rest."""
    outputs = [[f"layers.{i}.{half}.out_proj" for half in ("mixer", "mlp")]
               for i in range(parent.n_layers)]

    def loss_of(chosen: tuple[int, ...]) -> float:
        zeros = {key: np.zeros_like(params[key]) for i, keys in enumerate(outputs)
                 if i not in chosen for key in keys}
        return _loss(WaveCore(parent, params | zeros, threads), batch).item()
    importance = _importance(removals, lambda columns: np.array(
        [sum(columns[key].sum() for key in keys) for keys in outputs]))
    choices = sorted(submodel.layer_choices(child, parent),
                     key=lambda chosen: -importance[list(chosen)].sum())
    return min(choices[:MAX_LAYER_CHOICES], key=loss_of)


def _best_structures(removals: Sequence[Named], key: str, total: int, n: int) -> np.ndarray:
    """Sorted indices of the n most important of `total` heads or units."""
    importance = _importance(
        removals, lambda columns: columns[f"{key}.out_proj"].reshape(total, -1).sum(1))
    return np.sort(np.argsort(-importance, kind="stable")[:n])
