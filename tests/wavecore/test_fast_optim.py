"""The optimizer's kernels equal their reference, and that equals tinygrad's own optimizers."""
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tinygrad import Tensor, nn
from tinygrad.helpers import Context

from seed.config import ModelConfig, TrainConfig
from seed.wavecore.optim import Optimizer
from seed.wavecore import fast_optim, optim_ref
from seed.wavecore.fast_optim import MUON_RMS, NS_COEFFICIENTS, NS_STEPS
from seed.wavecore.layout import acts, Array, BodyShape, blocks
from seed.wavecore.model import WaveCore, init_params
from tests.support.tensors import realized

SMALL = ModelConfig(d_model=32, d_ff=48, n_layers=2, pattern="SA", sliding_window=4)


def run_optimizer(model: WaveCore, optim: Optimizer, grads: dict, loss: float) -> None:
    packed = [realized(block.pack(grads)) for block in model.blocks]
    Tensor.realize(*optim.step(packed, realized(np.array([loss], np.float32))))


def stepped(array: Array, p, g, moments, step: int, config: TrainConfig, d_model: int):
    """One array and its moments after a step in float64, by the reference."""
    if array.matrices and config.trainable == "no-matrices":
        return p, moments
    if not array.matrices:
        p, *moments = optim_ref.adamw(p, g, *moments, step, config.lr, 0.0, config)
    elif config.optimizer == "adamw":
        p, *moments = optim_ref.adamw(p, g, *moments, step, config.lr * 64 / d_model, config.lr,
                                      config)
    else:
        scale, ends = MUON_RMS * (64 / d_model) ** 0.5, np.cumsum(array.matrices)[:-1]
        stacks = (np.split(stack, ends) for stack in (p, g, moments[0]))
        each = [optim_ref.muon(*matrix, config.lr, scale, config) for matrix in zip(*stacks)]
        p, *moments = (np.concatenate(matrices) for matrices in zip(*each))
    return p, moments


@pytest.mark.parametrize("name, trainable, d_model", [
    ("muon", "all", 32), ("muon", "all", 96), ("adamw", "all", 32), ("muon", "no-matrices", 32),
    ("adamw", "no-matrices", 32)])
def test_the_optimizer_equals_its_reference_with_clipping(name, trainable, d_model):
    config = TrainConfig(lr=0.01, weight_decay=0.1, grad_clip=1.0, optimizer=name,
                         trainable=trainable)
    shape = replace(SMALL, d_model=d_model)
    params = {key: p / 10 for key, p in init_params(shape, 6).items()}  # all within 1
    model = WaveCore(shape, params, threads=2)
    optim = Optimizer(model, config)
    optim.lr.assign(Tensor([config.lr])).realize()
    rng = np.random.default_rng(0)
    arrays = {block.key(a): a for block in model.blocks for a in block.arrays}
    expected = {key: (p.astype(np.float64), [np.zeros(p.shape)] * 2) for key, p in params.items()}
    for step in (1, 2, 3):
        grads = {key: rng.standard_normal(p.shape).astype(np.float32) for key, p in params.items()}
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
        run_optimizer(model, optim, grads, 1.0)
        assert abs(optim.grad_norm() - norm) < 1e-5 * norm
        clip = min(1, config.grad_clip / norm)
        expected = {key: stepped(arrays[key], p, grads[key] * clip, moments, step, config, d_model)
                    for key, (p, moments) in expected.items()}
    for key, updated in model.state_dict().items():
        assert np.abs(updated - expected[key][0]).max() < 1e-6, key
        frozen = bool(arrays[key].matrices) and trainable == "no-matrices"
        assert (updated != params[key]).any() != frozen, key
    vectors = {key for key in params if not arrays[key].matrices}
    first = params.keys() if trainable == "all" else vectors
    second = params.keys() if (name, trainable) == ("adamw", "all") else vectors
    named = optim.state_dict().keys() - {"optim.state"}
    assert named == {f"m.{key}" for key in first} | {f"v.{key}" for key in second}


BODY = BodyShape("a", 19, 10, 4, (2,))


def after_two_steps(config: TrainConfig, bodies: Sequence[BodyShape] = (BODY,), body: str = "",
                    ticks_of: str = "") -> dict[str, np.ndarray]:
    """By the optimizer of `body`, if given; with the gradients of ticks of a body, or of all."""
    rng = np.random.default_rng(1)
    params = {block.key(array): rng.standard_normal(array.shape).astype(np.float32) / 10
              for block in blocks(SMALL, bodies) for array in block.arrays}
    model = WaveCore(SMALL, params, threads=2, bodies=bodies)
    optim = Optimizer(model, config, body)
    optim.lr.assign(Tensor([config.lr])).realize()
    for _ in range(2):
        grads = {block.key(array): rng.standard_normal(array.shape).astype(np.float32)
                 * (not ticks_of or acts(block.name, ticks_of))
                 for block in model.blocks for array in block.arrays}
        run_optimizer(model, optim, grads, 1.0)
    return {key: a.copy() for key, a in (model.state_dict() | optim.state_dict()).items()}


@pytest.mark.parametrize("name, trainable", [
    ("muon", "all"), ("adamw", "all"), ("muon", "no-matrices"), ("muon", "tables")])
def test_a_group_may_have_nothing_that_an_optimizer_updates(name, trainable, monkeypatch):
    config = TrainConfig(lr=0.01, optimizer=name, trainable=trainable)
    together = after_two_steps(config)
    monkeypatch.setattr(fast_optim, "MAX_GROUP_TENSORS", 1)
    apart = after_two_steps(config)
    assert together.keys() == apart.keys()
    for key, array in together.items():   # the norm is summed by groups
        assert np.allclose(apart[key], array, rtol=1e-5, atol=1e-6), key


@pytest.mark.parametrize("name, trainable", [
    ("muon", "all"), ("adamw", "all"), ("muon", "no-matrices"), ("muon", "tables")])
def test_an_optimizer_of_a_body_does_as_one_of_all_to_what_its_ticks_use(name, trainable):
    config = TrainConfig(lr=0.01, weight_decay=0.1, optimizer=name, trainable=trainable)
    bodies = [replace(BODY, name=body) for body in ("a", "ab", "b")]
    of_all, of_body = (after_two_steps(config, bodies, only, "ab") for only in ("", "ab"))
    of_others = {"embedding", *(block.name for body in (bodies[0], bodies[2])
                                for block in body.blocks(SMALL))}
    assert {key for key in of_all if key not in of_body} == {
        key for key in of_all if key[:2] in ("m.", "v.") and key[2:] in of_others}
    for key, array in of_body.items():
        assert np.array_equal(array, of_all[key]), key
    assert of_body["m.bodies.ab.input"].any()


@pytest.mark.parametrize("shape", [(16, 48), (48, 16)])
def test_the_reference_optimizers_equal_those_of_tinygrad(shape):
    rng, config = np.random.default_rng(0), TrainConfig(lr=0.01, weight_decay=0.1)
    start = rng.standard_normal(shape).astype(np.float32)
    scale = MUON_RMS * 48 ** 0.5   # by the longer side; in tinygrad it is a factor of the rate
    tensors = realized(start), realized(start)
    optimizers = (
        nn.optim.AdamW([tensors[0]], config.lr, config.beta1, config.beta2, config.eps,
                       config.weight_decay),
        nn.optim.Muon([tensors[1]], config.lr * scale, config.momentum, config.weight_decay / scale,
                      NS_STEPS, NS_COEFFICIENTS, nesterov=True))
    zeros = np.zeros(shape)
    adamw, muon = (start, zeros, zeros), (start, zeros)
    for step in (1, 2):
        g = rng.standard_normal(shape).astype(np.float32)
        adamw = optim_ref.adamw(adamw[0], g, *adamw[1:], step, config.lr, config.lr, config)
        muon = optim_ref.muon(muon[0], g, muon[1], config.lr, MUON_RMS, config)
        with Context(TRAINING=1):
            for tensor, optimizer in zip(tensors, optimizers):
                tensor.grad = realized(g)
                optimizer.step()
    for (p, *_), tensor in zip((adamw, muon), tensors):
        assert np.abs(p - tensor.numpy()).max() < 1e-6 < 1e-3 < np.abs(p - start).max()


def test_orthogonalizing_keeps_singular_vectors_and_draws_every_value_towards_one():
    x = np.random.default_rng(0).standard_normal((24, 16)) @ np.diag(np.logspace(0, 1.5, 16))
    u, _, v = np.linalg.svd(x, full_matrices=False)
    values = u.T @ optim_ref.orthogonalize(x) @ v.T
    assert np.abs(values - np.diag(np.diag(values))).max() < 1e-9
    assert 0.6 < np.diag(values).min() and np.diag(values).max() < 1.3


def test_weights_that_only_decay_end_as_zeros():
    """A unit of the MLP that nothing needs: products of its weights are no subnormal numbers."""
    config, size = TrainConfig(lr=0.01, weight_decay=10.0, grad_clip=1e6), 2e-9
    params = init_params(SMALL, 6)
    key = "layers.0.mlp.in_proj"
    params[key][0] = size
    model = WaveCore(SMALL, params, threads=2)
    optim = Optimizer(model, config)
    optim.lr.assign(Tensor([config.lr])).realize()
    array, = (a for block in model.blocks for a in block.arrays if block.key(a) == key)
    rng = np.random.default_rng(0)
    grads = {name: rng.standard_normal(p.shape).astype(np.float32) for name, p in params.items()}
    grads[key][0] = 0.0
    expected, moments = params[key].astype(np.float64), [np.zeros(params[key].shape)]
    for step in range(1, 10):
        run_optimizer(model, optim, grads, 1.0)
        expected, moments = stepped(array, expected, grads[key], moments, step, config,
                                    SMALL.d_model)
    after = model.state_dict()[key]
    assert not after[0].any() and not expected[0].any() and size * 0.9 ** 9 > 1e-10
    assert np.abs(after[1:]).min() > 0 and np.abs(after - expected).max() < 1e-5


@pytest.mark.parametrize("loss, poison", [(1.0, np.nan), (1.0, np.inf), (np.nan, 0.0)])
def test_a_step_that_is_not_finite_changes_no_bit(loss, poison):
    model = WaveCore(SMALL, init_params(SMALL, 7), threads=2)
    optim = Optimizer(model, TrainConfig(lr=0.01, weight_decay=0.1))
    grads = {key: np.full_like(p, 0.5) for key, p in model.state_dict().items()}
    run_optimizer(model, optim, grads, 1.0)
    assert not optim.skipped()
    before = {key: array.copy() for key, array in (model.state_dict() | optim.state_dict()).items()}
    grads["layers.1.mlp.in_proj"][3, 3] += poison
    run_optimizer(model, optim, grads, loss)
    assert optim.skipped()
    after = model.state_dict() | optim.state_dict()
    before.pop("optim.state"), after.pop("optim.state")
    assert all(np.array_equal(before[key], after[key]) for key in before)
