"""A training step: captured equals eager, and accumulated micro-batches equal the whole batch."""
import numpy as np
import pytest

from seed.config import ModelConfig, TrainConfig
from seed.curriculum.dataset import Batch
from seed.training import step as step_module
from seed.wavecore.optim import Optimizer
from seed.training.step import TrainStep
from seed.wavecore import footprint
from seed.wavecore.carried import Hearing
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.tinygrad_seam import Tensor, buffer_view

SMALL = ModelConfig(d_model=32, d_ff=48, n_layers=2, pattern="SA", sliding_window=4)
ROWS, T = 4, 5


def random_batches(n: int) -> list[Batch]:
    """The halves of each have different numbers of bytes in the loss mask."""
    batches = []
    for i in range(n):
        tokens, targets = np.random.default_rng(i).integers(0, 256, (2, ROWS, T)).astype(np.int32)
        targets[:ROWS // 2, 2:] = -1
        batches.append(Batch(tokens, targets))
    return batches


def train(accumulated: int):
    """Results of three steps, and weights and moments after them."""
    model = WaveCore(SMALL, init_params(SMALL, 8), threads=2)
    optim = Optimizer(model, TrainConfig())
    step = TrainStep(model, optim, ROWS // accumulated, T, accumulated)
    results = [step.run(batch, lr) for batch, lr in zip(random_batches(3), (1e-3, 2e-3, 5e-4))]
    named = model.state_dict() | optim.state_dict()   # views of memory that ends with the model
    return results, {key: array.copy() for key, array in named.items()}


def test_a_captured_step_equals_an_eager_one_over_changing_batches_and_rates(monkeypatch):
    captured_results, captured = train(1)
    monkeypatch.setattr(step_module, "CapturedGraph", lambda run_fn, arena: run_fn)
    results, eager = train(1)
    assert results == captured_results and len({result.loss for result in results}) == 3
    assert eager.keys() == captured.keys()
    assert all(np.array_equal(eager[key], captured[key]) for key in eager)


def test_two_accumulated_half_batches_step_like_the_whole_batch():
    """Up to the order of sums."""
    (whole, after), (halves, after_halves) = train(1), train(2)
    for result, accumulated in zip(whole, halves, strict=True):
        assert abs(result.loss - accumulated.loss) < 1e-5 * result.loss
        assert abs(result.grad_norm - accumulated.grad_norm) < 1e-4 * result.grad_norm
    for key in init_params(SMALL, 8):
        assert np.abs(after[key] - after_halves[key]).max() < 1e-4, key


def test_a_step_takes_little_more_memory_than_what_it_saves():
    """Gradients and scratch stand where nothing is needed any more: the buffers share less than
    all that they hold, without the scratch of the largest kernel."""
    config = ModelConfig(d_model=64, d_ff=128, n_layers=2, pattern="SA")
    model, shape = WaveCore(config, init_params(config, 8), threads=2), (8, 256)
    step = TrainStep(model, Optimizer(model, TrainConfig(optimizer="adamw")), *shape)
    step.run(Batch(*np.zeros((2, *shape), np.int32)), 1e-3)
    assert 0 < model.arena.n_bytes <= 4 * footprint.training(config, *shape, threads=2).activations


def test_rows_that_hear_begin_with_a_state_and_the_others_empty():
    model = WaveCore(SMALL, init_params(SMALL, 8), threads=2)
    step, (first, second, _) = TrainStep(model, Optimizer(model, TrainConfig()), ROWS, T,
                                         hears=True), random_batches(3)
    heard = list[list[np.ndarray]]()
    n, empty = ROWS // 2, [buffer_view(array)[:ROWS // 2].copy()
                           for layer in model.init_state(ROWS) for array in layer]
    for batch, before in ((first, empty), (second, heard)):
        state = heard[-1] if before is heard else before
        result = step.run(batch, 0.0, Hearing(state, lambda after: heard.append(
            [array.copy() for array in after])))
    state_of_all = model.init_state(ROWS)
    for array, before in zip((a for layer in state_of_all for a in layer), heard[0], strict=True):
        buffer_view(array)[:n] = before
    count = Tensor(np.array([1 / (second.targets >= 0).sum()], np.float32))
    loss, _ = model.loss(Tensor(second.tokens), Tensor(second.targets), count, state_of_all)
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    assert step.run(second, 0.0).loss == pytest.approx(
        model.loss(Tensor(second.tokens), Tensor(second.targets), count)[0].item(), rel=1e-6)
    assert abs(step.run(second, 0.0).loss - result.loss) > 1e-4
