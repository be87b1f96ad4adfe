"""The whole model: kernels equal the reference, time flows one way, state is all that is
carried, names and first losses are golden."""
from dataclasses import replace

import numpy as np
import pytest
from tinygrad import Tensor

from seed.config import ModelConfig, TrainConfig
from seed.curriculum.dataset import Batch
from seed.errors import ParameterError
from seed.wavecore.optim import Optimizer
from seed.training.step import TrainStep
from seed.wavecore import layout
from seed.wavecore.model import WaveCore, gated_delta_rule, init_params, tied_head
from tests.support.tensors import distance, realized

SMALL = ModelConfig(d_model=32, d_ff=48, n_layers=2, pattern="SA", sliding_window=4)
NAMES = {
    "embedding": (256, 32),
    "layers.0.mixer.norm": (32,),
    "layers.0.mixer.in_proj": (196, 32),
    "layers.0.mixer.conv1d": (4, 2, 64),
    "layers.0.mixer.A_log": (2,),
    "layers.0.mixer.dt_bias": (2,),
    "layers.0.mixer.out_norm": (32,),
    "layers.0.mixer.out_proj": (32, 64),
    "layers.0.mlp.norm": (32,),
    "layers.0.mlp.in_proj": (96, 32),
    "layers.0.mlp.out_proj": (32, 48),
    "layers.1.mixer.norm": (32,),
    "layers.1.mixer.qkv_proj": (96, 32),
    "layers.1.mixer.out_proj": (32, 32),
    "layers.1.mlp.norm": (32,),
    "layers.1.mlp.in_proj": (96, 32),
    "layers.1.mlp.out_proj": (32, 48),
    "norm_f": (32,)}


def random_tokens(b: int, t: int) -> np.ndarray:
    return np.random.default_rng(t).integers(0, 256, (b, t)).astype(np.int32)


def logits_of(model: WaveCore, tokens: np.ndarray, state=None):
    logits, state = model(Tensor(tokens), state)
    Tensor.realize(logits, *(s for layer in state for s in layer))
    return logits.numpy(), state


def test_the_names_and_shapes_of_parameters_are_golden():
    params = init_params(SMALL, 0)
    assert {name: array.shape for name, array in params.items()} == NAMES
    assert list(params) == list(NAMES)   # the order of random draws, and of a checkpoint
    assert layout.count_params(SMALL) == sum(array.size for array in params.values())


def test_the_first_losses_are_golden():
    model = WaveCore(SMALL, init_params(SMALL, 0), threads=2)
    step = TrainStep(model, Optimizer(model, TrainConfig()), 2, 5)
    batch = Batch(random_tokens(2, 5), random_tokens(2, 5) // 2)
    losses = [step.run(batch, 4e-3).loss for _ in range(6)]
    assert losses == pytest.approx([5.825758, 5.281876, 4.953755, 4.701410, 4.468627, 4.247004],
                                   rel=1e-4)   # other CPUs round otherwise


@pytest.mark.parametrize("transition", ["delta", "diagonal"])
def test_the_recurrence_is_its_equation(transition):
    rng, (b, t, h, n, p) = np.random.default_rng(0), (2, 5, 3, 4, 6)
    q, k = rng.standard_normal((2, b, t, h, n))
    v, state = rng.standard_normal((b, t, h, p)), rng.standard_normal((b, h, n, p))
    beta, decay = 2 * rng.random((b, t, h)), rng.random((b, t, h))
    y, last = gated_delta_rule(*map(Tensor, (q, k, v, beta, decay, state)), transition)
    y, last = y.numpy(), last.numpy()
    for i, j in np.ndindex(b, h):
        S = state[i, j]
        for s in range(t):
            key = k[i, s, j][:, None]
            erase = beta[i, s, j] * key @ key.T if transition == "delta" else 0
            S = decay[i, s, j] * (np.eye(n) - erase) @ S + beta[i, s, j] * key * v[i, s, j]
            assert np.abs(y[i, s, j] - S.T @ q[i, s, j]).max() < 1e-9
        assert np.abs(last[i, j] - S).max() < 1e-9


@pytest.mark.long   # by default: each kernel beside its operation, the model beside the oracle
def test_loss_and_every_gradient_equal_the_reference():
    params = init_params(SMALL, 1)
    tokens, targets = random_tokens(2, 3), random_tokens(2, 4)[:, 1:].copy()
    targets[0, 1:] = -1
    inv_count = np.array([1 / (targets >= 0).sum()], np.float32)
    results = []
    for reference in (False, True):
        model = WaveCore(SMALL, params, threads=2, reference=reference)
        loss, _ = model.loss(*map(realized, (tokens, targets, inv_count)))
        grads = loss.gradient(*model.packed.values())
        Tensor.realize(loss, *grads)
        results.append((loss.item(), dict(zip(model.packed, (g.numpy() for g in grads)))))
    (loss, gradients), (expected_loss, expected_gradients) = results
    assert abs(loss - expected_loss) < 2e-5 * expected_loss
    for name, expected in expected_gradients.items():
        assert distance(gradients[name], expected) < 2e-4, name


@pytest.mark.parametrize("reference", [False, True])
def test_sublayers_one_after_the_other_are_the_model(reference):
    params, tokens = init_params(SMALL, 4), random_tokens(2, 5)
    model, x = WaveCore(SMALL, params, reference=reference), realized(params["embedding"][tokens])
    for i in range(SMALL.n_layers):
        x = model.sublayer(i, "mlp", model.sublayer(i, "mixer", x))
    logits = tied_head(SMALL, x, realized(params["norm_f"]), realized(params["embedding"]))
    assert distance(logits, logits_of(WaveCore(SMALL, params), tokens)[0]) < 1e-5


def test_a_byte_changes_no_logit_before_it():
    model = WaveCore(SMALL, init_params(SMALL, 2), threads=2)
    tokens = random_tokens(3, 65)
    before, _ = logits_of(model, tokens)
    for t in (1, 17, 64):
        changed = tokens.copy()
        changed[:, t] ^= 1
        after, _ = logits_of(model, changed)
        assert np.array_equal(before[:, :t], after[:, :t])
        assert not np.array_equal(before[:, t], after[:, t])


def test_prefill_then_steps_equals_one_forward_at_every_split():
    model = WaveCore(SMALL, init_params(SMALL, 3), threads=1)
    tokens = random_tokens(2, 5)
    whole, _ = logits_of(model, tokens)
    for split in range(1, 5):
        logits, state = logits_of(model, tokens[:, :split])
        pieces = [logits]
        for t in range(split, 5):
            logits, state = logits_of(model, tokens[:, t:t + 1], state)
            pieces.append(logits)
        assert np.abs(np.concatenate(pieces, 1) - whole).max() < 1e-5 * np.abs(whole).max()


def test_the_key_at_window_minus_one_matters_and_at_window_does_not():
    config = ModelConfig(d_model=32, d_ff=48, n_layers=1, pattern="A", sliding_window=5)
    model = WaveCore(config, init_params(config, 4), threads=1)
    tokens = random_tokens(1, 12)
    changed = tokens.copy()
    changed[0, 3] ^= 1
    before, after = logits_of(model, tokens)[0], logits_of(model, changed)[0]
    assert not np.array_equal(before[0, 3 + 4], after[0, 3 + 4])
    assert np.array_equal(before[0, 3 + 5:], after[0, 3 + 5:])


def test_layers_of_a_kind_share_the_empty_state_which_stays_empty():
    config = replace(SMALL, n_layers=3, pattern="SSA")
    model = WaveCore(config, init_params(config, 0))
    state = model.empty_state(3)
    assert [type(part).__name__ for part in state] == [
        type(part).__name__ for part in model.init_state(3)] and model.empty_state(3) is state
    assert state[1] is state[0] and state[2] is not state[0]
    tokens = Tensor(np.arange(15, dtype=np.int32).reshape(3, 5))
    from_init = model(tokens, model.init_state(3))[0].numpy()
    assert (model(tokens)[0].numpy() == from_init).all()
    assert not any(array.numpy().any() for part in state for array in part)


def test_parameters_survive_a_round_trip_and_wrong_ones_are_named():
    params = init_params(SMALL, 5)
    model = WaveCore(SMALL, params, threads=1)
    loaded = model.state_dict()
    assert list(loaded) == list(params)
    assert all(np.array_equal(loaded[key], params[key]) for key in params)
    for key, value, message in (("layers.0.mixer.A_log", None, "missing"),
                                ("layers.9.mixer.A_log", params["norm_f"], "not a parameter"),
                                ("norm_f", np.ones(33, np.float32), "has shape"),
                                ("norm_f", np.ones(32), "is float64")):
        wrong = dict(params)
        wrong.pop(key, None)
        if value is not None:
            wrong[key] = value
        with pytest.raises(ParameterError, match=message) as error:
            model.load_state_dict(wrong)
        assert key in str(error.value)
