"""A smaller brain cut out of a larger one: the layers, heads and units that matter most.

The importance of a structure is the squared first-order change of the loss if it were taken away,
(sum of gradient * weight)^2, averaged over batches (Molchanov et al. 1906.10771, equation 8).
Layers are compared by the loss itself. Channels are not chosen: the stream is narrowed to its
principal axes (reconstruct.py). A child learns from its parent afterwards; this has to be a good start.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from tinygrad import Tensor

from seed.config import ModelConfig, Profile
from seed.curriculum.state import CurriculumState
from seed.curriculum.dataset import Batch, Dataset
from seed.resize import reconstruct
from seed.wavecore import submodel
from seed.wavecore.model import WaveCore

BATCHES = 16   # over which importance is measured, and projections are fitted
TRIED = 32     # choices of layers whose loss is measured
Named = dict[str, np.ndarray]


def shrink(parent: ModelConfig, params: Named, child: ModelConfig, batches: Sequence[Batch],
           threads: int) -> Named:
    """The child's named arrays, out of the parent's. Raises ConfigError if it does not fit."""
    submodel.check(child, parent)
    if child == parent:
        return dict(params)
    removals = [_times_gradient(parent, params, batch, threads) for batch in batches]
    layers = _best_layers(parent, params, child, removals, batches[0], threads)
    heads, units = [], []
    for kind, i in zip(child.layer_kinds, layers):
        n, of = ((child.ssm_heads, parent.ssm_heads) if kind == "S" else
                 (child.attn_heads, parent.attn_heads))
        heads.append(_heads(removals, f"layers.{i}.mixer", of, n))
        units.append(_heads(removals, f"layers.{i}.mlp", parent.d_ff, child.d_ff))
    chosen = submodel.Parts(layers, np.arange(parent.d_model), tuple(heads), tuple(units))
    found = {place.small: np.ascontiguousarray(params[place.large][place.at])
             for place in submodel.places(child, parent, chosen)}
    whole, axes = WaveCore(parent, params, threads), None
    if child.d_model < parent.d_model:
        axes = reconstruct.principal_axes(whole, batches, child.d_model)
        found = reconstruct.narrow(found, axes, layers)
    return reconstruct.reconstruct(child, found, whole, layers, batches, axes)


def lessons(profile: Profile, n: int = BATCHES) -> list[Batch]:
    """Batches of all grades alike, as the parent knew them."""
    dataset = Dataset(replace(profile.curriculum, eval_every_steps=0), profile.identity,
                         profile.train.seed)
    everything = CurriculumState.initial(dataset.config, dataset.tasks)
    return [dataset.batch(everything, i, profile.train.batch_size, profile.train.seq_len)
            for i in range(n)]


def _loss(config: ModelConfig, params: Named, batch: Batch,
          threads: int) -> tuple[WaveCore, Tensor]:
    model = WaveCore(config, params, threads)
    inv_count = np.array([1 / max(1, int((batch.targets >= 0).sum()))], np.float32)
    tokens, targets, count = (Tensor(a).realize() for a in (batch.tokens, batch.targets, inv_count))
    return model, model.loss(tokens, targets, count)[0]


def _times_gradient(config: ModelConfig, params: Named, batch: Batch, threads: int) -> Named:
    """gradient * weight, summed for each column of the projections out: what the loss would gain
    without that column, to first order."""
    model, loss = _loss(config, params, batch, threads)
    grads = loss.gradient(*model.packed.values())
    Tensor.realize(*grads)
    return {key: (array * params[key]).sum(0) for block, g in zip(model.blocks, grads)
            for key, array in block.unpack(g.numpy()).items() if key.endswith("out_proj")}


def _importance(removals: Sequence[Named], sums: Callable[[Named], np.ndarray]) -> np.ndarray:
    return np.mean([np.square(sums(found)) for found in removals], axis=0)


def _best(importance: np.ndarray, n: int) -> np.ndarray:
    """Indices of the n most important, in their own order."""
    return np.sort(np.argsort(-importance, kind="stable")[:n])


def _best_layers(parent: ModelConfig, params: Named, child: ModelConfig,
                 removals: Sequence[Named], batch: Batch, threads: int) -> tuple[int, ...]:
    """Of the most promising choices, the one whose layers alone have the least loss.

    A layer is taken away with its two projections out: nothing of it then reaches the rest.
    """
    def out(i: int) -> list[str]:
        return [f"layers.{i}.{part}.out_proj" for part in ("mixer", "mlp")]

    def loss_of(chosen: tuple[int, ...]) -> float:
        gone = {key: np.zeros_like(params[key]) for i in range(parent.n_layers) if i not in chosen
                for key in out(i)}
        return _loss(parent, params | gone, batch, threads)[1].item()
    worth = _importance(removals, lambda found: np.array(
        [sum(found[key].sum() for key in out(i)) for i in range(parent.n_layers)]))
    choices = sorted(submodel.choices(child, parent), key=lambda chosen: -worth[list(chosen)].sum())
    return min(choices[:TRIED], key=loss_of)


def _heads(removals: Sequence[Named], key: str, of: int, n: int) -> np.ndarray:
    """The n of all heads or units whose columns of the projection out matter most."""
    def columns(found: Named) -> np.ndarray:
        return found[f"{key}.out_proj"].reshape(of, -1).sum(1)
    return _best(_importance(removals, columns), n)
