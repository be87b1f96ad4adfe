"""Steps have the bits of whole forward passes, and never see weights that are no longer there."""
import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from seed.config import ModelConfig, TrainConfig
from seed.curriculum.dataset import Batch
from seed.evaluation.forward_pass import VarlenForward
from seed.training.step import TrainStep
from seed.wavecore.actor import Actor, Ticks, init_body
from seed.wavecore.decode import CarriedForward
from seed.wavecore.layout import BodyShape
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.optim import Optimizer
from seed.wavecore.stepping import StepGraph
from seed.wavecore.tinygrad_seam import Tensor, buffer_view
from tests.support.tensors import realized

SMALL = ModelConfig(d_model=64, d_ff=48, n_layers=2, pattern="SA", sliding_window=20)
TURNING = replace(SMALL, rotary_steps=120)
BODY = BodyShape("a", 4 * 4 + 3, 2 * 4 + 2, 4, (2,))


def model_of(seed: int, threads: int = 1, config: ModelConfig = SMALL) -> WaveCore:
    """With weights so large that every one matters."""
    params = init_params(config, seed) | init_body(config, BODY, seed)
    for name in params:
        if name == "embedding" or name.startswith("bodies."):
            params[name] *= 20
        if name.endswith("in_proj") and config.rotary_steps:
            params[name][-config.ssm_heads * config.d_state // 2:] *= 50
    return WaveCore(config, params, threads, bodies=[BODY])


def views(state) -> list[np.ndarray]:
    return [buffer_view(array) for layer in state for array in layer]


def same(arrays, others) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays, others, strict=True))


@pytest.mark.parametrize("b, t, config", [
    *((b, t, SMALL) for b, t in ((1, 1), (1, 32), (2, 1), (3, 1), (7, 1), (16, 1), (33, 1))),
    (1, 32, TURNING), (3, 1, TURNING), (33, 1, TURNING)])
def test_steps_equal_whole_forward_passes_bit_for_bit(b, t, config):
    model, rng = model_of(3, 2, config), np.random.default_rng((b, t))
    state, expected_state = model.init_state(b), model.init_state(b)
    forward = CarriedForward(model, state, b, t)
    for _ in range(24 if t == 1 else 4):   # so many that the window is full
        tokens = rng.integers(0, 256, (b, t))
        logits, after = model(realized(tokens.astype(np.int32)), expected_state)
        Tensor.realize(logits, *(array for layer in after for array in layer))
        expected_state = after
        assert np.array_equal(forward(tokens), logits.numpy())
        assert same(views(state), views(after))
    assert config is SMALL or len(set(state[0].phase.numpy().ravel())) > 10


@pytest.mark.parametrize("threads, config", [(1, SMALL), (3, SMALL), (3, TURNING)])
def test_sequences_behind_each_other_equal_whole_forward_passes_bit_for_bit(threads, config):
    """Of 1 to 65 bytes: around a chunk of the scan, a vector and the window. A pass that has fewer
    sequences than the one before it sees none of those."""
    model, rng = model_of(3, threads, config), np.random.default_rng(0)
    lengths = [1, 2, 16, 20, 65, 3, 17, 33]
    texts = [rng.integers(0, 256, length).astype(np.uint8) for length in lengths]
    expected = [model(realized(text[None].astype(np.int32)))[0].numpy()[0] for text in texts]
    forward = VarlenForward(model, 192)
    for n in (8, 5, 1, 8):   # captured, recorded and replayed
        logits = forward.run(np.concatenate(texts[:n]), np.cumsum([0, *lengths[:n]]))
        assert np.array_equal(logits, np.concatenate(expected[:n]))


def test_ticks_of_a_body_equal_whole_forward_passes_bit_for_bit():
    model, rng = model_of(3), np.random.default_rng(0)
    actor, state, expected_state = Actor(model, BODY), model.init_state(2), model.init_state(2)
    ticks = Ticks(realized(rng.integers(0, BODY.input_rows, (2, BODY.slots)).astype(np.int32)),
                  realized(rng.random((2, BODY.slots)).astype(np.float32)))
    step = StepGraph(model, lambda steps: actor.step(steps, ticks, state, 2))
    for _ in range(4):
        x, expected_state = actor.hidden(ticks, expected_state, 2, 1)
        logits = actor.logits(x)
        Tensor.realize(logits, *(array for layer in expected_state for array in layer))
        assert np.array_equal(step(), logits.numpy())
        assert same(views(state), views(expected_state))


class Acting:
    """A byte and a tick of a model, each from an empty state."""

    def __init__(self, model: WaveCore):
        actor, self.states = Actor(model, BODY), [model.init_state(1), model.init_state(1)]
        ticks = Ticks(realized(np.zeros((1, BODY.slots), np.int32)),
                      realized(np.ones((1, BODY.slots), np.float32)))
        self.forward = CarriedForward(model, self.states[0], 1, 1)
        self.tick = StepGraph(model, lambda steps: actor.step(steps, ticks, self.states[1], 1))

    def logits(self) -> list[np.ndarray]:
        for view in (*views(self.states[0]), *views(self.states[1])):
            view.fill(0)
        return [self.forward(np.array([[65]])).copy(), self.tick().copy()]


def train_fn(model: WaveCore) -> Callable[[], object]:
    tokens = np.arange(10, dtype=np.int32).reshape(2, 5)
    step = TrainStep(model, Optimizer(model, TrainConfig()), 2, 5)
    return lambda: step.run(Batch(tokens, tokens), 1e-2)


def load_fn(model: WaveCore) -> Callable[[], object]:
    checkpoints = itertools.cycle([model_of(seed).state_dict() for seed in (4, 5)])
    return lambda: model.load_state_dict(next(checkpoints))


def set_rows_fn(model: WaveCore) -> Callable[[], object]:
    values = itertools.count(1.0)
    return lambda: (model.set_rows("bodies.a.control", slice(3), next(values)),
                    model.set_rows("embedding", slice(65, 66), next(values)))


@pytest.mark.parametrize("change_fn", [train_fn, load_fn, set_rows_fn])
def test_steps_see_every_change_of_the_weights_and_pack_once_for_each(monkeypatch, change_fn):
    model, packed = model_of(3), []
    acting, change = Acting(model), change_fn(model)
    pack = model.stepper._pack
    monkeypatch.setattr(model.stepper, "_pack", lambda: (pack(), packed.append(1)))
    before = acting.logits()
    for n_changes in range(1, 5):   # captured, recorded and replayed
        change()
        packed.clear()
        after = [acting.logits() for _ in range(3)][-1]
        assert len(packed) == 1 and not any(map(np.array_equal, before, after))
        if n_changes in (1, 4):
            fresh = WaveCore(SMALL, model.state_dict(), bodies=[BODY])
            assert same(after, Acting(fresh).logits())
        before = after


def test_weights_are_not_changed_behind_the_models_back():
    with pytest.raises(ValueError, match="read-only"):
        model_of(3).state_dict()["norm_f"][0] = 2.0


def test_evaluations_and_steps_of_acting_run_in_the_memory_that_all_graphs_share():
    """That of training steps is in it as well (tests/training/test_step.py)."""
    evaluated, acting = model_of(3), model_of(3)
    assert evaluated.arena.n_bytes == acting.arena.n_bytes == 0
    VarlenForward(evaluated, 96).run(np.zeros(3, np.int32), np.array([0, 3], np.int32))
    CarriedForward(acting, acting.init_state(3), 3, 1)(np.zeros((3, 1), np.int32))
    assert evaluated.arena.n_bytes > 0 and acting.arena.n_bytes > 0
