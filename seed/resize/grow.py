"""Growth that keeps what was learnt: a larger brain that computes what the smaller one did.

New channels stay silent until something is written into them; new heads and units, and both halves
of a new layer, write nothing until their projection out has been learnt (Chen et al. 1511.05641;
Chen et al. 2110.07143). New rows of a state begin almost at zero: at zero they would have no
gradient, for what is read is the product of two of them.

What new heads and units compute is put together from halves of learnt ones. Fresh ones are far
quieter, and Muon gives columns of one matrix their shares by how loud their inputs are: those of
fresh units learnt almost nothing, and the units decayed.
"""
from dataclasses import replace

import numpy as np

from seed.config import ModelConfig, Profile, TrainConfig, from_dict
from seed.rng import Stream, stream
from seed.storage.checkpoint import Checkpoint
from seed.wavecore import layout, submodel
from seed.wavecore.model import init_params
from seed.wavecore.submodel import Parts

ALMOST = 1e-3   # of a new state row's initial weights
Named = dict[str, np.ndarray]


def in_shape_of(small: Profile, large: Profile) -> Profile:
    """The small one's lessons and recipe with the large one's model."""
    return replace(small, name=large.name, model=replace(
        large.model, dt_bias_min=small.model.dt_bias_min, dt_bias_max=small.model.dt_bias_max))


def grow_brain(brain: Checkpoint, large: Profile) -> Checkpoint:
    """The checkpoint of a brain that has become `large`.

    Raises ConfigError if its model does not fit into that.
    """
    small = from_dict(brain.meta["profile"])
    params = {key: brain.tensors[key] for key in init_params(small.model, 0)}
    grown = {**grow(small.model, params, large.model, small.train.seed),
             **grow_moments(small.model, brain.tensors, large.model, small.train),
             "optim.state": brain.tensors["optim.state"]}
    meta = {**brain.meta, "profile": large.to_dict()}
    meta.pop("adapted", None)   # what undoing an adaptation would bring back is of another size
    return Checkpoint(grown, meta)


def grow(small: ModelConfig, params: Named, large: ModelConfig, seed: int,
         chosen: Parts | None = None) -> Named:
    """The named arrays of the large brain. Raises ConfigError if the small one does not fit.

    `chosen`: which parts of the large brain are those of the small one; the first unless given.
    """
    submodel.check(small, large)
    chosen = chosen or submodel.first(small, large)
    grown = init_params(large, seed)
    for key, array in grown.items():
        if key == "embedding" or key.endswith("out_proj"):
            array[...] = 0
    _hush_new_states(small, large, grown, chosen)
    for place in submodel.places(small, large, chosen):
        grown[place.large][place.at] = params[place.small] * _gain(small, large, place.large)
    _recombine(large, grown, chosen, stream(seed, Stream.INIT, 1))
    return grown


def grow_moments(small: ModelConfig, tensors: Named, large: ModelConfig,
                 recipe: TrainConfig) -> Named:
    """The large brain's moments, 0 where it is new; `tensors` hold the small one's.

    A gain that was scaled has a gradient that is scaled the other way.
    """
    grown: Named = {}
    for letter, found in zip("mv", layout.moments(layout.blocks(large), recipe)):
        grown |= {f"{letter}.{block.key(a)}": np.zeros(a.shape, np.float32)
                  for block in found for a in block.arrays}
    for place in submodel.places(small, large, submodel.first(small, large)):
        for letter, power in (("m", 1), ("v", 2)):
            if f"{letter}.{place.large}" in grown:
                gain = _gain(small, large, place.large) ** power
                grown[f"{letter}.{place.large}"][place.at] = (
                    tensors[f"{letter}.{place.small}"] / gain)
    return grown


def _gain(small: ModelConfig, large: ModelConfig, key: str) -> np.float32:
    """Of a norm over channels: the same sum of squares is a mean over more of them."""
    return np.float32(np.sqrt(small.d_model / large.d_model)
                      if key.endswith(("norm_f", ".norm")) else 1)


def _hush_new_states(small: ModelConfig, large: ModelConfig, grown: Named, chosen: Parts) -> None:
    """Makes the rows of in_proj almost zero that give the old heads' q and k their new places."""
    n, p = large.d_state, large.head_dim
    new = np.arange(small.d_state, n)
    for kind, layer, heads in zip(small.layer_kinds, chosen.layers, chosen.heads):
        if kind == "S":
            own = np.concatenate([new, n + new])
            rows = (heads[:, None] * 2 * (n + p) + own).reshape(-1)
            grown[f"layers.{layer}.mixer.in_proj"][rows] *= np.float32(ALMOST)


def _recombine(large: ModelConfig, grown: Named, chosen: Parts, rng: np.random.Generator) -> None:
    """Gives new units one old unit's gate and another's value, new heads of old layers what one old
    head asks, keeps and forgets by and what another one writes.
    """
    n, p = large.d_state, large.head_dim
    for layer, heads, units in zip(chosen.layers, chosen.heads, chosen.units):
        mixer = f"layers.{layer}.mixer"
        halves = grown[f"layers.{layer}.mlp.in_proj"].reshape(2, large.d_ff, large.d_model)
        new, one, other = _pairs(units, large.d_ff, rng)
        halves[0, new], halves[1, new] = halves[0, one], halves[1, other]
        if large.layer_kinds[layer] == "A":
            qkv = grown[f"{mixer}.qkv_proj"].reshape(3, large.attn_heads, p, large.d_model)
            new, one, other = _pairs(heads, large.attn_heads, rng)
            qkv[:2, new], qkv[2, new] = qkv[:2, one], qkv[2, other]
            continue
        h = large.ssm_heads
        new, one, other = _pairs(heads, h, rng)
        qkvz, gates = np.split(grown[f"{mixer}.in_proj"], [h * 2 * (n + p)])
        for array in (qkvz.reshape(h, 2 * (n + p), large.d_model),
                      grown[f"{mixer}.conv1d"].transpose(1, 2, 0)):
            array[new, :2 * n], array[new, 2 * n:] = array[one, :2 * n], array[other, 2 * n:]
        for array in (*gates.reshape(2, h, large.d_model), grown[f"{mixer}.A_log"],
                      grown[f"{mixer}.dt_bias"]):
            array[new] = array[one]


def _pairs(old: np.ndarray, size: int,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The new ones of so many, and for each two old ones, in other pairs as long as there are."""
    new, order = np.setdiff1d(np.arange(size), old), rng.permutation(old)
    k = np.arange(len(new))
    return new, order[k % len(old)], order[(k + 1 + k // len(old)) % len(old)]
