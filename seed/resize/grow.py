"""Function-preserving growth: a larger brain with the outputs of the smaller one.

New channels are zero until something is written into them; new heads and units, and both halves of
a new layer, write nothing until their output projection has been trained (Chen et al. 1511.05641;
Chen et al. 2110.07143). New rows of a state begin almost at zero: at zero they would have no
gradient, because the output is a product of two of them.

New heads and units combine halves of trained ones. Muon scales the columns of one matrix by the
size of their inputs, so randomly initialised ones, whose inputs are far smaller, learnt nothing.
"""
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from seed import system_health
from seed.body.facts import facts_of
from seed.config import ROTARY_KEYS, ModelConfig, Profile, TrainConfig, from_dict
from seed.errors import CheckpointError, ConfigError
from seed.evaluation.trained_brain import stored_params
from seed.interpreter import shown_command
from seed.profile_file import load_profile
from seed.resize import growth_undo
from seed.resize.growth_schedule import exceeds, next_profile
from seed.resize.trial import Size
from seed.rng import Stream, stream
from seed.storage import metrics, metrics_reader
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import Log, RunDir
from seed.training.memory_estimate import check_fits
from seed.wavecore import layout, submodel
from seed.wavecore.layout import BodyShape
from seed.wavecore.model import init_params
from seed.wavecore.submodel import Selection

RECORDS = "episodes", "recent", "changed"   # of a body's rows, in a checkpoint
KEPT = "dt_bias_min", "dt_bias_max", *ROTARY_KEYS   # of the small model, whatever the profile has
NEW_STATE_SCALE = 1e-3   # of the initial weights of new rows of a state
Named = dict[str, np.ndarray]


class ParamCounts(NamedTuple):
    """Parameters before and after a growth."""
    before: int
    after: int


def grow_brain(run_dir: RunDir, to: Profile | None = None, threads: int = 1,
               log: Log = print) -> ParamCounts:
    """Makes the brain of a run directory larger, in place; the smaller one stays beside it
    (growth_undo.py).

    It gets the model of `to`; by default the next size up to the limit that find_size stored in
    this directory. Raises ConfigError if the brain does not fit into that or that not into memory,
    NotEnoughMemory if it does not fit now.
    """
    with run_dir.locked() as run_dir:
        brain = run_dir.load_brain(log, recover=True)
        small = from_dict(brain.meta["profile"])
        large = (replace(small, name=to.name, loop=to.loop, model=replace(
                     to.model, **{key: getattr(small.model, key) for key in KEPT}))
                 if to else _next_up_to_limit(run_dir, small, brain.meta["step"], log))
        submodel.check(small.model, large.model)
        bodies = body_shapes(brain)
        log(check_fits(large, threads, system_health.read(run_dir.path), bodies))
        if large == small:   # an earlier call grew it and was killed at its very end
            return _param_counts(small, large, bodies)
        growth_undo.keep(run_dir)
        return grow_in_place(run_dir, brain, large)


def _next_up_to_limit(run_dir: RunDir, small: Profile, step: int, log: Log) -> Profile:
    """The next size; `small` itself if it has grown at this step already. Raises ConfigError."""
    path = run_dir.limit_profile
    advice = (f"find the limit with {shown_command('scale', str(run_dir))}, or grow to a named "
              f"profile")
    if not path.exists():
        raise ConfigError(f"{path} does not exist: {advice}")
    if (step, [*Size.of(small)]) in _growths(run_dir):
        log(f"the brain has already grown at step {step}: train it, or grow it to a named profile")
        return small
    limit = load_profile(str(path))
    if exceeds(small, limit):
        raise ConfigError(f"the brain is {Size.of(small)}, larger than the limit in {path}, "
                          f"{Size.of(limit)}: {advice}")
    large = next_profile(small, limit, lambda profile: math.inf, 0.0)
    if large is None:
        raise ConfigError(f"the brain is as large as the limit in {path}: {advice}")
    return large


def _growths(run_dir: RunDir) -> list[tuple[int, list[int] | None]]:
    """(step, new size) of each growth that was begun."""
    return [(row["step"], row.get("size")) for row in metrics_reader.read(run_dir.metrics, "grow")]


def _param_counts(small: Profile, large: Profile, bodies: Sequence[BodyShape]) -> ParamCounts:
    return ParamCounts(*(layout.count_params(profile.model, bodies) for profile in (small, large)))


def body_shapes(brain: Checkpoint) -> list[BodyShape]:
    """Raises ConfigError if its bodies are damaged."""
    return [facts.codec.body for facts in facts_of(brain.meta).values()]


def grow_in_place(run_dir: RunDir, brain: Checkpoint, large: Profile) -> ParamCounts:
    """Replaces the brain of a directory that the caller has locked. Raises ConfigError."""
    small, bodies = from_dict(brain.meta["profile"]), body_shapes(brain)
    params = stored_params(small.model, brain.tensors, bodies)
    _check_moments(small, brain, bodies)
    tensors = {**grow(small.model, params, large.model, small.train.seed, bodies=bodies),
               **grow_moments(small.model, brain.tensors, large.model, small.train, bodies),
               "optim.state": brain.tensors["optim.state"]}
    meta = {**brain.meta, "profile": large.to_dict()}
    if bodies:   # their rows begin anew: the states were those of the smaller brain
        meta["bodies"] = {name: {key: value for key, value in fields.items() if key not in RECORDS}
                          for name, fields in meta["bodies"].items()}
    meta.pop("adapted", None)   # undoing an adaptation would bring back another size
    counts, step, size = (_param_counts(small, large, bodies), brain.meta["step"],
                          [*Size.of(large)])
    if (step, size) not in _growths(run_dir):   # else it was killed before it was saved
        rows = metrics.Metrics(run_dir.metrics, step, held=run_dir.held)
        rows.write("grow", step, parameters=counts, size=size)
        rows.sync()
    run_dir.save(tensors, meta)
    return counts


def _check_moments(small: Profile, brain: Checkpoint, bodies: Sequence[BodyShape]) -> None:
    """Raises CheckpointError unless the checkpoint has the optimizer's state of its weights."""
    shapes = {"optim.state": brain.tensors.get("optim.state", np.zeros(0)).shape}
    blocks_of_small = layout.blocks(small.model, bodies)
    for letter, blocks in zip("mv", layout.moments(blocks_of_small, small.train)):
        shapes |= {f"{letter}.{block.key(a)}": a.shape for block in blocks for a in block.arrays}
    for key, shape in shapes.items():
        if key not in brain.tensors or brain.tensors[key].shape != shape:
            raise CheckpointError(f"the checkpoint's {key} is missing or misshaped: use another "
                                  f"--run-dir")


def grow(small: ModelConfig, params: Named, large: ModelConfig, seed: int,
         chosen: Selection | None = None, bodies: Sequence[BodyShape] = ()) -> Named:
    """The named arrays of the large brain. Raises ConfigError if the small one does not fit.

    `chosen`: the place of the small brain in the large one; by default all that comes first.
    """
    submodel.check(small, large)
    chosen = chosen or submodel.first(small, large)
    grown = init_params(large, seed)
    for table in (block for body in bodies for block in body.blocks(large)):
        grown[table.name] = np.zeros(table.arrays[0].shape, np.float32)
    for key, array in grown.items():
        if key == "embedding" or key.endswith("out_proj"):
            array[...] = 0
    _shrink_new_states(small, large, grown, chosen)
    for entry in submodel.index_maps(small, large, chosen, bodies):
        grown[entry.large][entry.at] = params[entry.small] * _norm_scale(small, large, entry.large)
    _recombine(large, grown, chosen, stream(seed, Stream.INIT, 1))
    return grown


def grow_moments(small: ModelConfig, tensors: Named, large: ModelConfig,
                 recipe: TrainConfig, bodies: Sequence[BodyShape] = ()) -> Named:
    """The large brain's moments, from those in the small one's `tensors`; new ones are 0.

    The gradient of a weight that was scaled is scaled by the inverse.
    """
    grown: Named = {}
    for letter, blocks in zip("mv", layout.moments(layout.blocks(large, bodies), recipe)):
        grown |= {f"{letter}.{block.key(a)}": np.zeros(a.shape, np.float32)
                  for block in blocks for a in block.arrays}
    for entry in submodel.index_maps(small, large, submodel.first(small, large), bodies):
        scale = _norm_scale(small, large, entry.large)
        for letter, power in (("m", 1), ("v", 2)):
            key = f"{letter}.{entry.large}"
            if key in grown:
                grown[key][entry.at] = tensors[f"{letter}.{entry.small}"] / scale ** power
    return grown


def _norm_scale(small: ModelConfig, large: ModelConfig, key: str) -> np.float32:
    """By which an RMS norm over channels is scaled: its mean is over more of them, and new ones are
    zero. 1 for other arrays."""
    return np.float32(np.sqrt(small.d_model / large.d_model)
                      if key.endswith(("norm_f", ".norm")) else 1)


def _shrink_new_states(small: ModelConfig, large: ModelConfig, grown: Named,
                       chosen: Selection) -> None:
    """Scales down the rows that give the old heads' q and k their new dimensions."""
    for letter, layer, heads in zip(small.layer_kinds, chosen.layers, chosen.heads):
        kind = layout.BLOCKS[letter]
        old, all_rows = (kind.head_index_fn(large, heads, d_state).in_rows
                         for d_state in (small.d_state, large.d_state))
        rows = np.setdiff1d(all_rows, old)
        grown[f"layers.{layer}.mixer.{kind.in_proj}"][rows] *= np.float32(NEW_STATE_SCALE)


def _recombine(large: ModelConfig, grown: Named, chosen: Selection,
               rng: np.random.Generator) -> None:
    """A new unit gets the gate of one old unit and the value of another. A new head of an old layer
    gets q, k and gates of one old head, and v and z of another.
    """
    for layer, heads, units in zip(chosen.layers, chosen.heads, chosen.units):
        blocks = dict(layout.halves(large, layer))
        for half, old in (("mlp", units), ("mixer", heads)):
            kind, key = blocks[half], f"layers.{layer}.{half}"
            new, first, second = (
                kind.head_index_fn(large, some, large.d_state)
                for some in _pairs(old, kind.n_heads_fn(large), rng))
            whole = {kind.in_proj: (first.in_rows,), **first.others}
            for source, target in ((whole, {kind.in_proj: (new.in_rows,), **new.others}),
                                   (second.writes, new.writes)):
                for name, index in target.items():
                    grown[f"{key}.{name}"][index] = grown[f"{key}.{name}"][source[name]]


def _pairs(old: np.ndarray, size: int,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The new indices below `size`, and a pair of old ones for each, different while possible."""
    new, order = np.setdiff1d(np.arange(size), old), rng.permutation(old)
    k = np.arange(len(new))
    return new, order[k % len(old)], order[(k + 1 + k // len(old)) % len(old)]
