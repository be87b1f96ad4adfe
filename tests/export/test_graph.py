"""The graphs of exported files compute what the reference and the trainer compute."""
import numpy as np
import pytest

from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.reference import Reference
from seed.export.verify import delegate_coverage, free_run
from seed.profile_file import load_profile
from seed.runtime import Brain
from seed.system_health import tree_mb
from tests.support import brains
from tests.support.brains import exported
from tests.support.tflite import LOOKUP, SMALL, check_prefill


def reference_of(brain) -> Reference:
    return Reference(brain.profile.model, brain.params)


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_free_running_file_equals_reference_and_trainer(brain, tmp_path, target, explicit):
    file = Brain(exported(brain, tmp_path / "f", target=target, explicit_state=explicit))
    brain.decoder.reset()
    expected_fns = [reference_of(brain).step, lambda byte: brain.decoder.prefill(bytes([byte]))]
    for agreement in free_run(file, expected_fns, 400):
        assert agreement.agreed == 400 and agreement.relative_delta < 1e-5, agreement


@pytest.mark.parametrize("target", ["portable", "litert"])
def test_slow_heads_as_after_long_training_keep_their_digits(tmp_path, target):
    """A tiny dt times a large rate: the decay of a head with a long memory."""
    profile = load_profile("toy", SMALL)
    params = brains.weights(profile)
    for key in params:
        if key.endswith("A_log"):
            params[key][:] = 7.0
        if key.endswith("dt_bias"):
            params[key][:] = -11.0
    slow = brains.trained(brains.save(tmp_path / "run", profile, params))
    file = Brain(exported(slow, tmp_path / "f", target=target))
    agreement = free_run(file, [reference_of(slow).step], 400)[0]
    assert agreement.agreed == 400 and agreement.relative_delta < 1e-5, agreement


@pytest.mark.parametrize("name", ["toy", "fast", "mid", "slow", "seed"])
def test_every_profile_is_one_partition_with_only_the_lookup_outside(tmp_path, name):
    untrained = brains.trained(brains.untrained(tmp_path, name))
    for (target, weights), lookup in LOOKUP.items():
        file = Brain(exported(untrained, tmp_path / "f", target=target, weights=weights))
        coverage = delegate_coverage(file.interpreter)
        assert coverage.partitions == 1 and coverage.outside == lookup, coverage
        assert np.isfinite(file.step(65)).all()


def test_float32_is_exact_and_narrow_weights_are_smaller_and_near(brain, tmp_path):
    sizes, deltas = {}, {}
    for weights in ("float32", "float16", "int8"):
        path = exported(brain, tmp_path / "f", target="litert", weights=weights)
        agreement = free_run(Brain(path), [reference_of(brain).step], 200)[0]
        sizes[weights], deltas[weights] = path.stat().st_size, agreement.relative_delta
    assert deltas["float32"] < 1e-5 < deltas["float16"] < 0.02 < deltas["int8"] < 0.4
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("explicit", [False, True])
def test_prefill_equals_single_steps_and_both_continue_alike(brain, tmp_path, target, explicit):
    file = Brain(exported(brain, tmp_path / "f", target=target, explicit_state=explicit, prefill=5))
    check_prefill(file)


def test_the_rotary_state_returns_to_length_one(brain, tmp_path):
    """Else it would grow or shrink over days, and the scores with it."""
    file = Brain(exported(brain, tmp_path / "f", explicit_state=True))
    state_in, _ = file._states["rotary_0"]
    cos, sin = np.split(file.interpreter.get_tensor(state_in).ravel(), 2)
    assert np.abs(cos ** 2 + sin ** 2 - 1).max() < 1e-6
    file.interpreter.set_tensor(state_in, 0.9 * file.interpreter.get_tensor(state_in))
    for byte in b"abcdef":
        file.step(byte)
    cos, sin = np.split(file.interpreter.get_tensor(state_in).ravel(), 2)
    assert np.abs(cos ** 2 + sin ** 2 - 1).max() < 1e-6


def test_what_matrices_of_integers_read_is_rounded_once(brain):
    graph = BrainFile(brain, Options(target="litert", weights="int8")).model.graphs[0]
    read = [inputs[0] for _, kind, inputs, _, _ in graph.operators if kind == "FULLY_CONNECTED"
            and graph.tensors[inputs[1]].dtype == "int8"]
    assert len(read) == len(set(read)) > 8


@pytest.mark.long
@pytest.mark.parametrize("target", ["portable", "litert"])
def test_a_hundred_thousand_steps_do_not_drift_or_leak(tmp_path, target):
    toy = brains.trained(brains.untrained(tmp_path, "toy"))
    file, reference = Brain(exported(toy, tmp_path / "f", target=target)), reference_of(toy)
    free_run(file, [reference.step], 1000)
    before_mb, reference = tree_mb()[0].value, reference_of(toy)
    agreement = free_run(file, [reference.step], 100_000, seed=1)[0]
    assert agreement.relative_delta < 1e-3 and agreement.steps == 100_000, agreement
    assert tree_mb()[0].value - before_mb < 3
    print(f"{target}: {agreement}")


def test_reset_forgets_everything(brain, tmp_path):
    file = Brain(exported(brain, tmp_path / "f"))
    first = [file.step(byte) for byte in b"abc"]
    file.reset()
    assert np.array_equal(first, [file.step(byte) for byte in b"abc"])
    assert not np.array_equal(first[0], file.step(ord("a")))
