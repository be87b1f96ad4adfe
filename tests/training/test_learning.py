"""A model trains: parity needs right gradients and an eigenvalue that can be negative."""
import numpy as np
import pytest

from seed.config import ModelConfig, TrainConfig
from seed.curriculum.dataset import Batch
from seed.wavecore.optim import Optimizer
from seed.evaluation.forward_pass import CapturedForward
from seed.training.step import TrainStep
from seed.wavecore.model import WaveCore, init_params

STEPS, MAX_BITS, ROWS = 900, 40, 32


def parity_rows(rng: np.random.Generator, low: int, high: int, t: int):
    """Random bits after a start byte; the target at each bit is the parity so far."""
    bits = rng.integers(0, 2, (ROWS, t)).astype(np.int32)
    bits[:, 0] = 2
    parity = (np.cumsum(bits[:, 1:], 1) % 2).astype(np.int32)
    targets = np.full((ROWS, t), -1, np.int32)
    targets[:, 1:] = parity
    lengths = rng.integers(low, high + 1, ROWS)
    targets[np.arange(t)[None] > lengths[:, None]] = -1
    return bits + np.int32(48), targets + (targets >= 0) * np.int32(48)


def accuracy(forward: CapturedForward, rng, low: int, high: int) -> float:
    """Share of rows whose parity after a random number of bits in [low, high] is right."""
    hits = []
    for _ in range(8):
        tokens, targets = parity_rows(rng, low, high, high + 1)
        guess = forward.run(tokens)[..., 48:50].argmax(-1) + 48
        last = (targets >= 0).cumsum(1).argmax(1)
        hits += list(guess[np.arange(ROWS), last] == targets[np.arange(ROWS), last])
    return float(np.mean(hits))


def train(beta_max: float) -> WaveCore:
    config = ModelConfig(d_model=32, d_ff=32, n_layers=2, pattern="S", beta_max=beta_max)
    recipe = TrainConfig(lr=5e-3)
    model = WaveCore(config, init_params(config, 0), threads=1)
    step = TrainStep(model, Optimizer(model, recipe), ROWS, MAX_BITS + 1)
    rng = np.random.default_rng(0)
    for i in range(STEPS):
        lr = recipe.lr * min(1, (i + 1) / 100, (STEPS - i) / (0.3 * STEPS))
        step.run(Batch(*parity_rows(rng, 1, MAX_BITS, MAX_BITS + 1)), lr)
    return model


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(99)


def test_parity_is_trained_and_generalises_to_three_times_the_length(rng):
    model = train(2.0)
    assert accuracy(CapturedForward(model, ROWS, MAX_BITS + 1), rng, 1, MAX_BITS) >= 0.99
    assert accuracy(CapturedForward(model, ROWS, 129), rng, 41, 128) >= 0.95


@pytest.mark.long
def test_with_positive_eigenvalues_parity_stays_near_chance_beyond_its_length(rng):
    assert accuracy(CapturedForward(train(1.0), ROWS, 129), rng, 65, 128) < 0.65
