"""The whole model: fast equals plain, time flows one way, state is all that is carried."""
from dataclasses import replace

import numpy as np
import pytest
from tinygrad import Tensor

from seed.config import ModelConfig, TrainConfig
from seed.curriculum.dataset import Batch
from seed.training.optim import Optimizer
from seed.training.step import TrainStep
from seed.wavecore import optim_ref
from seed.wavecore.model import WaveCore, init_params, tied_head
from seed.errors import ParameterError

SMALL = ModelConfig(d_model=32, d_ff=48, n_layers=3, sliding_window=4)


def tokens_of(b: int, t: int) -> np.ndarray:
    return np.random.default_rng(t).integers(0, 256, (b, t)).astype(np.int32)


def logits_of(model: WaveCore, tokens: np.ndarray, state=None):
    logits, state = model(Tensor(tokens), state)
    Tensor.realize(logits, *(s for layer in state for s in layer))
    return logits.numpy(), state


def test_loss_and_every_gradient_equal_the_plain_model():
    params = init_params(SMALL, 1)
    tokens, targets = tokens_of(2, 7), tokens_of(2, 8)[:, 1:].copy()
    targets[0, 2:5] = -1
    inv_count = np.array([1 / (targets >= 0).sum()], np.float32)
    results = []
    for plain in (False, True):
        model = WaveCore(SMALL, params, threads=2, plain=plain)
        loss, _ = model.loss(*(Tensor(a).realize() for a in (tokens, targets, inv_count)))
        grads = loss.gradient(*model.packed.values())
        Tensor.realize(loss, *grads)
        results.append((loss.item(), dict(zip(model.packed, (g.numpy() for g in grads)))))
    (fast_loss, fast), (plain_loss, plain) = results
    assert abs(fast_loss - plain_loss) < 2e-5 * plain_loss
    for name, expected in plain.items():
        assert np.linalg.norm(fast[name] - expected) < 2e-4 * np.linalg.norm(expected), name


def test_a_byte_changes_no_logit_before_it():
    model = WaveCore(SMALL, init_params(SMALL, 2), threads=2)
    tokens = tokens_of(3, 65)
    before, _ = logits_of(model, tokens)
    for t in (1, 17, 64):
        changed = tokens.copy()
        changed[:, t] ^= 1
        after, _ = logits_of(model, changed)
        assert np.array_equal(before[:, :t], after[:, :t])
        assert not np.array_equal(before[:, t], after[:, t])


def test_prefill_then_steps_equals_one_forward_at_every_split():
    model = WaveCore(SMALL, init_params(SMALL, 3), threads=1)
    tokens = tokens_of(1, 9)
    whole, _ = logits_of(model, tokens)
    for split in range(1, 9):
        logits, state = logits_of(model, tokens[:, :split])
        parts = [logits]
        for t in range(split, 9):
            logits, state = logits_of(model, tokens[:, t:t + 1], state)
            parts.append(logits)
        assert np.abs(np.concatenate(parts, 1) - whole).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("plain", [False, True])
def test_blocks_one_after_the_other_are_the_model(plain):
    model, tokens = WaveCore(SMALL, init_params(SMALL, 4), plain=plain), tokens_of(2, 12)
    named = model.state_dict()
    x = Tensor(named["embedding"][tokens]).realize()
    for i in range(SMALL.n_layers):
        x = model.sublayer(i, "mlp", model.sublayer(i, "mixer", x))
    gain, table = (Tensor(named[key].copy()).realize() for key in ("norm_f", "embedding"))
    found, expected = tied_head(SMALL, x, gain, table).numpy(), logits_of(model, tokens)[0]
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_the_key_at_window_minus_one_matters_and_at_window_does_not():
    config = ModelConfig(d_model=32, d_ff=48, n_layers=1, pattern="A", sliding_window=5)
    model = WaveCore(config, init_params(config, 4), threads=1)
    tokens = tokens_of(1, 12)
    changed = tokens.copy()
    changed[0, 3] ^= 1
    before, after = logits_of(model, tokens)[0], logits_of(model, changed)[0]
    assert not np.array_equal(before[0, 3 + 4], after[0, 3 + 4])
    assert np.array_equal(before[0, 3 + 5:], after[0, 3 + 5:])


def test_parameters_survive_a_round_trip_and_wrong_ones_are_named():
    params = init_params(SMALL, 5)
    model = WaveCore(SMALL, params, threads=1)
    found = model.state_dict()
    assert list(found) == list(params)
    assert all(np.array_equal(found[key], params[key]) for key in params)
    for key, value, says in (("layers.0.mixer.A_log", None, "missing"),
                             ("layers.9.mixer.A_log", params["norm_f"], "not a parameter"),
                             ("norm_f", np.ones(33, np.float32), "has shape"),
                             ("norm_f", np.ones(32), "is float64")):
        wrong = dict(params)
        wrong.pop(key, None)
        if value is not None:
            wrong[key] = value
        with pytest.raises(ParameterError, match=says) as error:
            model.load_state_dict(wrong)
        assert key in str(error.value)


def copied(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: array.copy() for key, array in named.items()}


def run_optimizer(model: WaveCore, optim: Optimizer, grads: dict, loss: float) -> None:
    packed = [Tensor(block.pack(grads)).realize() for block in model.blocks]
    Tensor.realize(*optim.step(packed, Tensor(np.array([loss], np.float32)).realize()))


def stepped(array, p, g, moments, step, config, d_model):
    """One array and its moments after a step in float64, by the plain optimizer."""
    p, g, moments = Tensor(p), Tensor(g), [Tensor(moment) for moment in moments]
    if not array.matrices:
        new = optim_ref.adamw(p, g, *moments, step, config.lr, 0.0, config)
    elif config.trainable == "no-matrices":
        return p.numpy(), [moment.numpy() for moment in moments]
    elif config.optimizer == "adamw":
        new = optim_ref.adamw(p, g, *moments, step, config.lr * 64 / d_model, config.lr, config)
    else:
        scale = 0.2 * (64 / d_model) ** 0.5
        stacks = (tensor.split(list(array.matrices)) for tensor in (p, g, moments[0]))
        each = [optim_ref.muon(*matrix, config.lr, scale, config) for matrix in zip(*stacks)]
        new = [part[0].cat(*part[1:]) for part in zip(*each)]
    p, *moments = (tensor.numpy() for tensor in new)
    return p, moments


@pytest.mark.parametrize("name, trainable, d_model", [
    ("muon", "all", 32), ("muon", "all", 96), ("adamw", "all", 32), ("muon", "no-matrices", 32),
    ("adamw", "no-matrices", 32)])
def test_the_optimizer_equals_the_plain_one_with_clipping(name, trainable, d_model):
    config = TrainConfig(lr=0.01, weight_decay=0.1, grad_clip=1.0, optimizer=name,
                         trainable=trainable)
    shape = replace(SMALL, d_model=d_model, n_layers=2, pattern="SA")
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
    for key, found in model.state_dict().items():
        assert np.abs(found - expected[key][0]).max() < 1e-6, key
        frozen = bool(arrays[key].matrices) and trainable == "no-matrices"
        assert (found != params[key]).any() != frozen, key
    vectors = {key for key in params if not arrays[key].matrices}
    first = params.keys() if trainable == "all" else vectors
    second = params.keys() if (name, trainable) == ("adamw", "all") else vectors
    named = optim.state_dict().keys() - {"optim.state"}
    assert named == {f"m.{key}" for key in first} | {f"v.{key}" for key in second}


def test_orthogonalizing_keeps_singular_vectors_and_draws_every_value_towards_one():
    x = np.random.default_rng(0).standard_normal((24, 16)) @ np.diag(np.logspace(0, 1.5, 16))
    u, _, v = np.linalg.svd(x, full_matrices=False)
    values = u.T @ optim_ref.orthogonalize(Tensor(x)).numpy() @ v.T
    assert np.abs(values - np.diag(np.diag(values))).max() < 1e-9
    assert 0.6 < np.diag(values).min() and np.diag(values).max() < 1.3


@pytest.mark.parametrize("loss, poison", [(1.0, np.nan), (1.0, np.inf), (np.nan, 0.0)])
def test_a_step_that_is_not_finite_changes_no_bit(loss, poison):
    model = WaveCore(SMALL, init_params(SMALL, 7), threads=2)
    optim = Optimizer(model, TrainConfig())
    grads = {key: np.full_like(p, 0.5) for key, p in model.state_dict().items()}
    run_optimizer(model, optim, grads, 1.0)
    assert not optim.skipped()
    before = copied({**model.state_dict(), **optim.state_dict()})
    grads["layers.1.mlp.in_proj"][3, 3] += poison
    run_optimizer(model, optim, grads, loss)
    assert optim.skipped()
    after = {**model.state_dict(), **optim.state_dict()}
    before.pop("optim.state"), after.pop("optim.state")
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_two_accumulated_half_batches_step_like_the_whole_batch():
    """Up to the order of sums; the halves have different numbers of learnt bytes."""
    rng = np.random.default_rng(8)
    tokens, targets = rng.integers(0, 256, (2, 4, 33)).astype(np.int32)
    targets[:2, 9:] = -1
    found = []
    for rows, accumulated in ((4, 1), (2, 2)):
        model = WaveCore(SMALL, init_params(SMALL, 8), threads=2)
        step = TrainStep(model, Optimizer(model, TrainConfig()), rows, 33, accumulated)
        results = [step.run(Batch(tokens, targets), 1e-3) for _ in range(3)]
        found.append((results, model.state_dict()))
    (whole, after), (halves, after_halves) = found
    for one, other in zip(whole, halves, strict=True):
        assert abs(one.loss - other.loss) < 1e-5 * one.loss
        assert abs(one.grad_norm - other.grad_norm) < 1e-4 * one.grad_norm
    for key in after:
        assert np.abs(after[key] - after_halves[key]).max() < 1e-4, key
