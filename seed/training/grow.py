"""Growth that keeps what was learnt: a larger brain that computes what the smaller one did.

New channels stay silent until something is written into them; new heads and units, and both halves
of a new layer, write nothing until their projection out has been learnt (Chen et al. 1511.05641;
Chen et al. 2110.07143). New rows of a state begin almost at zero: at zero they would have no
gradient, for what is read is the product of two of them.
"""
import numpy as np

from seed.config import ModelConfig
from seed.wavecore import parts
from seed.wavecore.model import init_params
from seed.wavecore.parts import Parts

ALMOST = 1e-3   # of a new state row's initial weights
Named = dict[str, np.ndarray]


def grow(small: ModelConfig, params: Named, large: ModelConfig, seed: int,
         chosen: Parts | None = None) -> Named:
    """The named arrays of the large brain. Raises ConfigError if the small one does not fit.

    `chosen`: which parts of the large brain are those of the small one; the first unless given.
    """
    parts.check(small, large)
    chosen = chosen or parts.first(small, large)
    grown = init_params(large, seed)
    for key, array in grown.items():
        if key == "embedding" or key.endswith("out_proj"):
            array[...] = 0
    _hush_new_states(small, large, grown, chosen)
    gain = np.float32(np.sqrt(small.d_model / large.d_model))  # the same sum over more channels
    for place in parts.places(small, large, chosen):
        scale = gain if place.large.endswith(("norm_f", ".norm")) else np.float32(1)
        grown[place.large][place.at] = params[place.small] * scale
    return grown


def _hush_new_states(small: ModelConfig, large: ModelConfig, grown: Named, chosen: Parts) -> None:
    """Makes the rows of in_proj almost zero that give the old heads' q and k their new places."""
    n, p = large.d_state, large.head_dim
    new = np.arange(small.d_state, n)
    for kind, layer, heads in zip(small.layer_kinds, chosen.layers, chosen.heads):
        if kind == "S":
            own = np.concatenate([new, n + new])
            rows = (heads[:, None] * 2 * (n + p) + own).reshape(-1)
            grown[f"layers.{layer}.mixer.in_proj"][rows] *= np.float32(ALMOST)
