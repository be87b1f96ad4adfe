"""Packed blocks, the table of kinds of block, and where a small model lies in a large one."""
from dataclasses import replace

import numpy as np
import pytest

from seed.config import LANES, ModelConfig
from seed.errors import ConfigError
from seed.wavecore import fast, layout, submodel
from seed.wavecore.model import OPERATIONS, STATES, init_params

LARGE = ModelConfig(d_model=64, d_ff=96, d_state=32, n_layers=5, pattern="SSA")
SMALL = replace(LARGE, d_model=32, d_ff=48, d_state=16, n_layers=3)
TURNING = replace(SMALL, rotary_steps=120)


def test_a_packed_block_is_aligned_and_gives_its_arrays_back():
    params = init_params(SMALL, 0)
    unpacked = {}
    for block in layout.blocks(SMALL):
        assert all(at % LANES == 0 for at in block.offsets().values())
        flat = block.pack(params)
        assert flat.size == block.size and flat.dtype == np.float32
        unpacked |= block.unpack(flat)
        assert np.square(flat, dtype=np.float64).sum() == pytest.approx(
            sum(np.square(params[block.key(a)], dtype=np.float64).sum() for a in block.arrays))
    assert all(np.array_equal(unpacked[key], params[key]) for key in params)


def test_every_kind_of_block_has_an_operation_a_kernel_and_its_state():
    assert OPERATIONS.keys() == fast.KERNELS.keys() == layout.KINDS.keys()
    assert layout.BLOCKS.keys() == set("SA")
    carried = {tuple(array.name for array in kind.state_fn(config))
               for kind in layout.BLOCKS.values() for config in (SMALL, TURNING)}
    assert STATES.keys() == carried
    assert layout.MLP.state_fn(SMALL) == ()


@pytest.mark.parametrize("rotary_steps", [0, 120])
def test_a_selection_maps_every_array_of_the_small_model_to_numbers_of_the_large_one_once(
        rotary_steps):
    large_config, small_config = (replace(config, rotary_steps=rotary_steps)
                                  for config in (LARGE, SMALL))
    large = {key: np.arange(array.size).reshape(array.shape)
             for key, array in init_params(large_config, 0).items()}
    small = {key: array.shape for key, array in init_params(small_config, 0).items()}
    rng = np.random.default_rng(0)

    def some(n: int, of: int) -> np.ndarray:
        return rng.permutation(of)[:n]
    heads = tuple(some(n(small_config), n(large_config)) for n in (
        layout.BLOCKS[letter].n_heads_fn for letter in small_config.layer_kinds))
    scattered = submodel.Selection((0, 3, 2), some(32, 64), heads,
                                   tuple(some(48, 96) for _ in range(3)))
    for selection in (submodel.first(small_config, large_config), scattered):
        maps = list(submodel.index_maps(small_config, large_config, selection))
        assert [entry.small for entry in maps] != [] and len(maps) == len(small)
        for entry in maps:
            numbers = large[entry.large][entry.at]
            assert numbers.shape == small[entry.small], entry.small
            assert np.unique(numbers).size == numbers.size, entry.small


def test_the_whole_model_selects_itself():
    params = init_params(LARGE, 0)
    for entry in submodel.index_maps(LARGE, LARGE, submodel.first(LARGE, LARGE)):
        assert entry.small == entry.large
        assert np.array_equal(params[entry.large][entry.at], params[entry.small])


def test_layers_are_chosen_by_kind_and_in_order():
    assert submodel.layer_choices(SMALL, LARGE) == [(0, 1, 2)]
    assert submodel.first_layers(SMALL, LARGE) == (0, 1, 2)
    other = replace(SMALL, pattern="AS", n_layers=2)
    assert submodel.layer_choices(other, LARGE) == [(2, 3), (2, 4)]
    assert submodel.first_layers(other, LARGE) == (2, 3)
    assert submodel.first_layers(replace(SMALL, pattern="A", n_layers=2), LARGE) is None


@pytest.mark.parametrize("change, message", [
    ({"head_dim": 16}, "model.head_dim is 16"), ({"d_ff": 128}, "model.d_ff is 128"),
    ({"pattern": "A"}, "model.pattern gives AAA")])
def test_a_model_that_does_not_fit_is_refused_by_key(change, message):
    with pytest.raises(ConfigError, match=message):
        submodel.check(replace(SMALL, **change), LARGE)


def test_pairs_of_rows_of_a_state_stay_pairs_in_a_larger_one():
    large, head = replace(TURNING, d_state=48), np.array([1])
    at = layout.ssm_heads(large, head, 16)
    keys = at.others["conv1d"][2].ravel()[16:32] - 48   # rows of k within the state
    assert keys.tolist() == [*range(8), *range(24, 32)]
    turns = large.ssm_heads * (2 * (48 + 32) + 2) + 24   # behind all gates, of the second head
    assert at.in_rows[-8:].tolist() == [*range(turns, turns + 8)]


def test_what_a_model_without_turns_has_is_as_before():
    assert layout.proj_columns(SMALL) == 2 * (2 * 16 + 2 * 32 + 2)
    assert "beta_bias" not in {array.name for array in layout.ssm_block(SMALL, "").arrays}
    assert len(layout.ssm_state(SMALL)) == 2
    turning, params = layout.ssm_block(TURNING, "layers.0.mixer"), init_params(TURNING, 0)
    in_proj = next(array for array in turning.arrays if array.name == "in_proj")
    assert in_proj.matrices == (16, 16, 32, 32) * 2 + (4,) + (8, 8)   # each head's are a matrix
    assert params["layers.0.mixer.beta_bias"].tolist() == [-3.0, 0.0]
    rows = np.abs(params["layers.0.mixer.in_proj"]).max(1)
    assert rows[-16:].max() < 0.03 / np.sqrt(32) < rows[:-16].min()
