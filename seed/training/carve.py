"""A smaller brain cut out of a larger one: the layers, channels, heads and units that matter most.

The importance of a structure is the squared first-order change of the loss if it were taken away,
(sum of gradient * weight)^2, averaged over batches (Molchanov et al. 1906.10771, equation 8). A
child learns from its parent afterwards; what is cut out only has to be a good start.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from tinygrad import Tensor

from seed.config import ConfigError, ModelConfig, Profile
from seed.curriculum import school
from seed.curriculum.lessons import Batch, Curriculum
from seed.wavecore.model import WaveCore

BATCHES = 16   # over which importance is measured
SAME = ("vocab_size", "expand", "d_state", "head_dim", "d_conv", "transition", "beta_max",
        "rope_theta", "norm_eps")
SMALLER = ("d_model", "n_layers", "d_ff", "sliding_window")
Named = dict[str, np.ndarray]


def check(parent: ModelConfig, child: ModelConfig) -> None:
    """Raises ConfigError unless the child can be cut out of the parent."""
    for key in SAME:
        if getattr(parent, key) != getattr(child, key):
            raise ConfigError(f"model.{key} is {getattr(child, key)!r}, the parent's is "
                              f"{getattr(parent, key)!r}: use the same")
    for key in SMALLER:
        if getattr(child, key) > getattr(parent, key):
            raise ConfigError(f"model.{key} is {getattr(child, key)}: use at most the parent's, "
                              f"{getattr(parent, key)}")
    if not _choices(parent.layer_kinds, child.layer_kinds):
        raise ConfigError(f"model.pattern gives {child.layer_kinds}, which is not in the parent's "
                          f"{parent.layer_kinds}: leave layers out of that")


def carve(parent: ModelConfig, params: Named, child: ModelConfig, batches: Sequence[Batch],
          threads: int) -> Named:
    """The child's named arrays, out of the parent's. Raises ConfigError as `check` does."""
    check(parent, child)
    removals = [_times_gradient(parent, params, batch, threads) for batch in batches]
    layers = _best_layers(parent, child, removals)
    channels = _best(_channels(parent, removals), child.d_model)
    params = _with_gains_for(parent, params, channels)
    cut: Named = {"embedding": params["embedding"][:, channels],
                  "norm_f": params["norm_f"][channels]}
    for new, old in enumerate(layers):
        source, to = f"layers.{old}", f"layers.{new}"
        kind = parent.layer_kinds[old]
        mixer = _cut_ssm if kind == "S" else _cut_attention
        cut |= mixer(parent, child, params, removals, f"{source}.mixer", f"{to}.mixer", channels)
        cut |= _cut_mlp(parent, child, params, removals, f"{source}.mlp", f"{to}.mlp", channels)
    return {key: np.ascontiguousarray(array) for key, array in cut.items()}


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


def _choices(parent: str, child: str) -> list[tuple[int, ...]]:
    """All ways to leave layers of the parent out so that the child's kinds remain."""
    return [chosen for chosen in combinations(range(len(parent)), len(child))
            if all(parent[i] == kind for i, kind in zip(chosen, child))]


def _best_layers(parent: ModelConfig, child: ModelConfig,
                 removals: Sequence[Named]) -> Sequence[int]:
    """A layer is taken away with its two projections out: nothing of it then reaches the rest."""
    def leaves(found: Named) -> np.ndarray:
        return np.array([found[f"layers.{i}.mixer.out_proj"].sum() +
                         found[f"layers.{i}.mlp.out_proj"].sum() for i in range(parent.n_layers)])
    worth = _importance(removals, leaves)
    return max(_choices(parent.layer_kinds, child.layer_kinds),
               key=lambda chosen: worth[list(chosen)].sum())


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


def _heads(removals: Sequence[Named], key: str, heads: int, n: int) -> np.ndarray:
    """The n heads whose columns of the projection out matter most."""
    def columns(found: Named) -> np.ndarray:
        return found[f"{key}.out_proj"].sum(0).reshape(heads, -1).sum(1)
    return _best(_importance(removals, columns), n)


def _spread(heads: np.ndarray, size: int) -> np.ndarray:
    """The rows of some heads among those of all."""
    return (heads[:, None] * size + np.arange(size)).reshape(-1)


def _cut_ssm(parent: ModelConfig, child: ModelConfig, params: Named, removals: Sequence[Named],
             key: str, to: str, channels: np.ndarray) -> Named:
    heads = _heads(removals, key, parent.ssm_heads, child.ssm_heads)
    own = 2 * (parent.d_state + parent.head_dim)   # rows of q, k, v and z of a head
    gates = parent.ssm_heads * own
    rows = np.concatenate([_spread(heads, own), gates + heads, gates + parent.ssm_heads + heads])
    w = {name: params[f"{key}.{name}"] for name in ("norm", "in_proj", "conv1d", "A_log", "dt_bias",
                                                    "out_norm", "out_proj")}
    return {f"{to}.norm": w["norm"][channels],
            f"{to}.in_proj": w["in_proj"][np.ix_(rows, channels)],
            f"{to}.conv1d": w["conv1d"][:, heads], f"{to}.A_log": w["A_log"][heads],
            f"{to}.dt_bias": w["dt_bias"][heads], f"{to}.out_norm": w["out_norm"],
            f"{to}.out_proj": w["out_proj"][np.ix_(channels, _spread(heads, parent.head_dim))]}


def _cut_attention(parent: ModelConfig, child: ModelConfig, params: Named,
                   removals: Sequence[Named], key: str, to: str, channels: np.ndarray) -> Named:
    heads = _heads(removals, key, parent.attn_heads, child.attn_heads)
    own = _spread(heads, parent.head_dim)
    rows = np.concatenate([own + part * parent.d_model for part in range(3)])
    return {f"{to}.norm": params[f"{key}.norm"][channels],
            f"{to}.qkv_proj": params[f"{key}.qkv_proj"][np.ix_(rows, channels)],
            f"{to}.out_proj": params[f"{key}.out_proj"][np.ix_(channels, own)]}


def _cut_mlp(parent: ModelConfig, child: ModelConfig, params: Named, removals: Sequence[Named],
             key: str, to: str, channels: np.ndarray) -> Named:
    units = _best(_importance(removals, lambda found: found[f"{key}.out_proj"].sum(0)), child.d_ff)
    rows = np.concatenate([units, units + parent.d_ff])
    return {f"{to}.norm": params[f"{key}.norm"][channels],
            f"{to}.in_proj": params[f"{key}.in_proj"][np.ix_(rows, channels)],
            f"{to}.out_proj": params[f"{key}.out_proj"][np.ix_(channels, units)]}
