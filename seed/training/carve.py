"""A smaller brain cut out of a larger one: the layers, channels, heads and units that matter most.

The importance of a structure is the squared first-order change of the loss if it were taken away,
(sum of gradient * weight)^2, averaged over batches (Molchanov et al. 1906.10771, equation 8). A
child learns from its parent afterwards; what is cut out only has to be a good start.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from tinygrad import Tensor

from seed.config import ModelConfig, Profile
from seed.curriculum import school
from seed.curriculum.lessons import Batch, Curriculum
from seed.wavecore import parts
from seed.wavecore.model import WaveCore

BATCHES = 16   # over which importance is measured
Named = dict[str, np.ndarray]


def carve(parent: ModelConfig, params: Named, child: ModelConfig, batches: Sequence[Batch],
          threads: int) -> Named:
    """The child's named arrays, out of the parent's. Raises ConfigError if it does not fit."""
    parts.check(child, parent)
    removals = [_times_gradient(parent, params, batch, threads) for batch in batches]
    layers = _best_layers(parent, child, removals)
    channels = _best(_channels(parent, removals), child.d_model)
    heads, units = [], []
    for kind, i in zip(child.layer_kinds, layers):
        n, of = ((child.ssm_heads, parent.ssm_heads) if kind == "S" else
                 (child.attn_heads, parent.attn_heads))
        heads.append(_heads(removals, f"layers.{i}.mixer", of, n))
        units.append(_heads(removals, f"layers.{i}.mlp", parent.d_ff, child.d_ff))
    chosen = parts.Parts(layers, channels, tuple(heads), tuple(units))
    params = _with_gains_for(parent, params, channels)
    return {place.small: np.ascontiguousarray(params[place.large][place.at])
            for place in parts.places(child, parent, chosen)}


def lessons(profile: Profile, n: int = BATCHES) -> list[Batch]:
    """Batches of all grades alike, as the parent knew them."""
    curriculum = Curriculum(replace(profile.curriculum, exam_every=0), profile.identity,
                            profile.train.seed)
    everything = school.enter(curriculum.config, curriculum.tasks)
    return [curriculum.batch(everything, i, profile.train.batch_size, profile.train.seq_len)
            for i in range(n)]


def _times_gradient(config: ModelConfig, params: Named, batch: Batch, threads: int) -> Named:
    """gradient * weight of every number: what the loss would gain if it were 0, to first order."""
    model = WaveCore(config, params, threads)
    inv_count = np.array([1 / max(1, int((batch.targets >= 0).sum()))], np.float32)
    tokens, targets, count = (Tensor(a).realize() for a in (batch.tokens, batch.targets, inv_count))
    loss, _ = model.loss(tokens, targets, count)
    grads = loss.gradient(*model.packed.values())
    Tensor.realize(*grads)
    return {key: array * params[key] for block, g in zip(model.blocks, grads)
            for key, array in block.unpack(g.numpy()).items()}


def _importance(removals: Sequence[Named], sums: Callable[[Named], np.ndarray]) -> np.ndarray:
    return np.mean([np.square(sums(found)) for found in removals], axis=0)


def _best(importance: np.ndarray, n: int) -> np.ndarray:
    """Indices of the n most important, in their own order."""
    return np.sort(np.argsort(-importance, kind="stable")[:n])


def _best_layers(parent: ModelConfig, child: ModelConfig,
                 removals: Sequence[Named]) -> tuple[int, ...]:
    """A layer is taken away with its two projections out: nothing of it then reaches the rest."""
    def leaves(found: Named) -> np.ndarray:
        return np.array([found[f"layers.{i}.mixer.out_proj"].sum() +
                         found[f"layers.{i}.mlp.out_proj"].sum() for i in range(parent.n_layers)])
    worth = _importance(removals, leaves)
    return max(parts.choices(child, parent), key=lambda chosen: worth[list(chosen)].sum())


def _channels(config: ModelConfig, removals: Sequence[Named]) -> np.ndarray:
    """A channel of the residual stream is taken away with all that writes into it."""
    def writes(found: Named) -> np.ndarray:
        out = [found[f"layers.{i}.{part}.out_proj"].sum(1) for i in range(config.n_layers)
               for part in ("mixer", "mlp")]
        return found["embedding"].sum(0) + sum(out)
    return _importance(removals, writes)


def _with_gains_for(config: ModelConfig, params: Named, channels: np.ndarray) -> Named:
    """The gains of all norms over channels, so that what is left is as large as it was.

    How much of the stream's energy is left is taken from the weights that write into it.
    """
    energy = np.square(params["embedding"]).mean(0)
    for i in range(config.n_layers):
        for part in ("mixer", "mlp"):
            energy = energy + np.square(params[f"layers.{i}.{part}.out_proj"]).sum(1)
    left = energy[channels].sum() / energy.sum() * config.d_model / len(channels)
    return {key: array * np.float32(np.sqrt(left)) if key.endswith(("norm_f", ".norm")) else array
            for key, array in params.items()}


def _heads(removals: Sequence[Named], key: str, of: int, n: int) -> np.ndarray:
    """The n of all heads or units whose columns of the projection out matter most."""
    def columns(found: Named) -> np.ndarray:
        return found[f"{key}.out_proj"].sum(0).reshape(of, -1).sum(1)
    return _best(_importance(removals, columns), n)
