"""The mean of a model's weights: what it follows, and when."""
import numpy as np
import pytest

from seed.config import ModelConfig
from seed.storage.checkpoint import TRAINED
from seed.wavecore.average import EVERY_STEPS, Average
from seed.wavecore.model import WaveCore, init_params

SMALL = ModelConfig(d_model=32, d_ff=48, n_layers=2, pattern="SA", sliding_window=4)


def weights(seed: int) -> dict[str, np.ndarray]:
    return init_params(SMALL, seed)


def named(average: Average) -> tuple[dict, dict]:
    """The mean and the weights, as a checkpoint has them."""
    state = average.state_dict()
    mean = {key: array.copy() for key, array in state.items() if not key.startswith(TRAINED)}
    return mean, {key: state.get(TRAINED + key, mean[key]).copy() for key in mean}


def same(these: dict, those: dict) -> bool:
    return these.keys() == those.keys() and all(
        np.array_equal(these[key], those[key]) for key in these)


@pytest.mark.parametrize("fraction, steps, rate, horizon", [
    (0.05, 400, 1.0, 20), (0.05, 400, 0.75, 15), (0.5, 4000, 1.0, 1000), (0.5, 4000, 0.25, 250),
    (0.05, 200, 1.0, 10), (0.05, 100, 1.0, 5), (0.5, 4000, 0.0, 0)])
def test_the_mean_follows_the_weights_over_a_horizon_that_shrinks_with_the_rate(
        fraction, steps, rate, horizon):
    model = WaveCore(SMALL, weights(0))
    average = Average(model, fraction)
    average.follow(steps - EVERY_STEPS, 1.0, False)
    model.load_state_dict(weights(1))
    before, _ = named(average)
    average.follow(steps - 1, rate, False)   # nothing is due
    assert same(named(average)[0], before)
    average.follow(steps, rate, False)
    mean, trained = named(average)
    assert same(trained, weights(1)) and same(model.state_dict(), weights(1))
    moved = EVERY_STEPS / max(EVERY_STEPS, horizon)
    for key, array in weights(1).items():
        assert np.allclose(mean[key], before[key] + moved * (array - before[key]), atol=1e-7), key
    assert same(mean, trained) == (moved == 1)


def test_a_model_has_the_mean_while_it_is_used_and_nothing_is_lost():
    model = WaveCore(SMALL, weights(0))
    average = Average(model, 0.5)
    average.follow(4000, 1.0, False)
    model.load_state_dict(weights(1))
    average.follow(4010, 1.0, False)
    mean, trained = named(average)
    assert not same(mean, trained)
    version = model.version
    with pytest.raises(KeyError), average.used():
        assert same(model.state_dict(), mean) and model.version > version
        assert named(average)[1].keys() == trained.keys()
        assert same(named(average)[0], mean) and same(named(average)[1], trained)   # a save
        raise KeyError
    assert same(model.state_dict(), trained) and same(named(average)[0], mean)


def test_the_last_step_counts_whatever_its_number():
    model = WaveCore(SMALL, weights(0))
    average = Average(model, 0.5)
    average.follow(4000, 1.0, False)
    model.load_state_dict(weights(1))
    average.follow(4003, 0.001, is_last=True)
    assert same(average.state_dict(), weights(1))


def test_what_is_loaded_is_what_was_there():
    average = Average(WaveCore(SMALL, weights(0)), 0.5)
    state = {**weights(1), **{TRAINED + key: array for key, array in weights(2).items()}}
    average.load_state_dict({**state, "m.norm_f": np.zeros(1)})
    assert same(average.state_dict(), state)
    average.load_state_dict(average.state_dict())
    assert same(average.state_dict(), state)
    average.load_state_dict(weights(3))
    assert same(average.state_dict(), weights(3))
