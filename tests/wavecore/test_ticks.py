"""The kernels of ticks equal their reference implementation and a float64 oracle: loss, logits and
every gradient."""
import itertools

import autograd
import numpy as np
import pytest
from tinygrad import Context

from seed.config import ModelConfig
from seed.wavecore import fast_ticks
from seed.wavecore.actor import Actor, Ticks, init_body
from seed.wavecore.layout import BodyShape, HeadTable
from seed.wavecore.model import WaveCore, init_params
from seed.wavecore.ticks import TickTargets
from seed.wavecore.tinygrad_seam import Tensor, buffer_view
from tests.support import oracle
from tests.support.tensors import TOLERANCE, distance, realized

CONFIG = ModelConfig(d_model=32, n_layers=1, pattern="A", d_ff=16, sliding_window=4)
BODIES = {"one choice of two": BodyShape("a", 4 * 4 + 3, 2 * 4 + 2, 4, (2,)),
          "three parts": BodyShape("b", 2 * 4 + 31, 2 * 2 + 4, 2, (16, 5, 9))}


def random_targets(rng: np.random.Generator, heads: HeadTable, n: int) -> list[np.ndarray]:
    """Some heads have no target in some rows."""
    weights = rng.random((n, len(heads.heads))) * (rng.random((n, len(heads.heads))) < 0.7)
    policy = rng.random((n, heads.policy_width))
    for head in heads.heads:
        if not head.is_scalar:
            policy[:, head.place:head.place + head.width] /= policy[
                :, head.place:head.place + head.width].sum(1, keepdims=True)
    highest = [head.width - 1 for head in heads.heads if head.is_scalar] or [1]
    targets = rng.integers(0, highest, (n, heads.n_scalars))
    return [weights.astype(np.float32), targets.astype(np.int32),
            rng.random((n, heads.n_scalars)).astype(np.float32), policy.astype(np.float32)]


def run(body: BodyShape, reference: bool, b: int, t: int, threads: int = 1):
    """Loss, logits without padding, gradients by name, of random ticks and targets."""
    params, rng = {**init_params(CONFIG, 0), **init_body(CONFIG, body, 0)}, np.random.default_rng(1)
    for name, array in params.items():
        if name.startswith("bodies."):   # large enough to matter; padding stays zero
            array *= 20
    model = WaveCore(CONFIG, params, threads, reference, [body])
    actor, n = Actor(model, body), b * t
    ticks = Ticks(realized(rng.integers(0, body.input_rows, (n, body.slots)).astype(np.int32)),
                  realized((rng.random((n, body.slots)) * (rng.random((n, body.slots)) < 0.8))
                           .astype(np.float32)))
    firsts = np.cumsum(body.choices) - body.choices
    actions = Ticks(realized((firsts + rng.integers(0, body.choices, (n, len(body.choices))))
                             .astype(np.int32)),
                    realized(np.ones((n, len(body.choices)), np.float32)))
    control, world = (TickTargets(*map(realized, random_targets(rng, heads, n)))
                      for heads in (body.control, body.world))
    x, _ = actor.hidden(ticks, model.init_state(b), b, t)
    loss = (actor.loss("control", x, control)
            + actor.loss("world", actor.after_action(x, actions), world))
    gradients = model.gradients(loss, lambda name: name != "embedding")
    logits = actor.logits(x)
    with Context(NOOPT=1):   # unrolled loops take most of the time, to compile
        Tensor.realize(loss, logits, *gradients)
    columns = np.concatenate([np.arange(head.start, head.start + head.width)
                              for head in body.control.heads])
    return (loss.numpy(), logits.numpy()[:, columns],
            {name: buffer_view(g).copy() for name, g in zip(model.packed, gradients)})


@pytest.mark.parametrize("body", [
    BODIES["three parts"], pytest.param(BODIES["one choice of two"], marks=pytest.mark.long)])
def test_the_kernels_equal_the_reference(body):
    fast, reference = (run(body, is_reference, 2, 3) for is_reference in (False, True))
    assert distance(fast[0], reference[0]) < TOLERANCE
    assert distance(fast[1], reference[1]) < TOLERANCE
    for name, gradient in reference[2].items():
        if name != "embedding":
            assert gradient.any(), name
            assert distance(fast[2][name], gradient) < TOLERANCE, name


WIDTHS, ROWS = (32, 64, 96, 128, 160, 192, 224, 256), (1, 2, 16, 17, 63, 64, 65, 195, 2080)
THREADS, SAMPLE = 2, [(96, 65), (256, 17)]


@pytest.mark.parametrize("d_model, rows", [
    *SAMPLE, *(pytest.param(*size, marks=pytest.mark.long)
               for size in itertools.product(WIDTHS, ROWS) if size not in SAMPLE)])
def test_the_kernels_equal_the_float64_oracle(d_model, rows):
    config, body = ModelConfig(d_model=d_model), BODIES["three parts"]
    rng, heads = np.random.default_rng((d_model, rows)), body.control

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)
    tokens = rng.integers(0, body.input_rows, (rows, body.slots)).astype(np.int32)
    weights = normal(rows, body.slots) * (rng.random((rows, body.slots)) < 0.8)
    inputs = [normal(body.input_rows, d_model), normal(d_model),
              normal(heads.rows, d_model) / np.float32(np.sqrt(d_model))]
    target = random_targets(rng, heads, rows)
    tables = [realized(array) for array in inputs]
    x = fast_ticks.tick_embedding(config, rows, body.slots, body.input_rows, THREADS)(
        realized(tokens), realized(weights), tables[0])
    loss = fast_ticks.tick_head(config, rows, heads, THREADS).loss(
        x, *tables[1:], TickTargets(*map(realized, target)))
    gradients = loss.gradient(*tables)
    Tensor.realize(x, loss, *gradients)

    def objective(arrays):
        hidden = oracle.tick_embedding(tokens, weights, arrays[0])
        return oracle.tick_loss(config, heads.heads, hidden, *arrays[1:], *target)
    exact = [array.astype(np.float64) for array in inputs]
    expected, d_expected = autograd.value_and_grad(objective)(exact)
    assert distance(x, oracle.tick_embedding(tokens, weights, exact[0])) < TOLERANCE
    assert distance(loss, expected) < TOLERANCE
    for actual, exact_gradient in zip(gradients, d_expected, strict=True):
        assert distance(actual, exact_gradient) < TOLERANCE


def test_padding_of_the_heads_has_no_gradient():
    body = BODIES["three parts"]
    gradient = run(body, False, 3, 5)[2]["bodies.b.control"].reshape(-1, CONFIG.d_model)
    is_used = np.zeros(len(gradient), bool)
    for head in body.control.heads:
        is_used[head.start:head.start + head.width] = True
    assert not gradient[~is_used].any() and gradient[is_used].any(1).all()


def test_threads_change_no_bit():
    body = BODIES["three parts"]
    first, second = (run(body, False, 4, 33, threads) for threads in (1, 3))
    assert first[0].tobytes() == second[0].tobytes()
    assert all(first[2][name].tobytes() == second[2][name].tobytes() for name in first[2])


def test_a_body_leaves_the_other_parameters_of_a_new_brain_as_they_were():
    body = BODIES["one choice of two"]
    params = {**init_params(CONFIG, 0), **init_body(CONFIG, body, 0)}
    model = WaveCore(CONFIG, params, bodies=[body])
    assert all(np.array_equal(model.state_dict()[name], array)
               for name, array in init_params(CONFIG, 0).items())
    assert len(model.state_dict()) == len(init_params(CONFIG, 0)) + 4
