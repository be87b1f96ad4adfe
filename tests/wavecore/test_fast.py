"""Each kernel equals its reference implementation and a float64 oracle: values, carried state and
every gradient, at every awkward size."""
import itertools
from dataclasses import replace

import autograd
import numpy as np
import pytest
from tinygrad import Context, Tensor

from seed.config import ModelConfig
from seed.wavecore import fast, layout
from seed.wavecore.model import OPERATIONS
from tests.support import oracle
from tests.support.tensors import TOLERANCE, distance, realized


def config_of(d_model: int, variant: str = "delta") -> ModelConfig:
    """`variant`: a transition, or "turns N": into N parts, where states turn."""
    changes = ({"rotary_steps": int(variant.split()[1])} if "turns" in variant
               else {"transition": variant})
    return replace(ModelConfig(d_model=d_model, d_ff=2 * d_model), **changes)


def random_case(kind: str, config: ModelConfig, b: int, t: int):
    """Block, named weights, input, incoming gradient and carried states, all away from zero."""
    rng = np.random.default_rng((config.d_model, b, t))
    block = layout.KINDS[kind].block_fn(config, "block")

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    weights = {a.name: normal(*a.shape, scale=0.5 / np.sqrt(a.shape[-1]) if a.matrices else 0.5)
               + np.float32("norm" in a.name) for a in block.arrays}
    states = []
    if kind == "ssm":
        h, n, p = config.ssm_heads, config.d_state, config.head_dim
        states = [normal(b, config.d_conv - 1, h, 2 * n + p), normal(b, h, n, p)]
        beta = h * 2 * (n + p)
        weights["in_proj"][beta:beta + h] *= 10   # beta reaches 0 and beta_max
        if config.rotary_steps:
            states.append(rng.integers(0, config.rotary_steps, (b, h, n // 2)).astype(np.int32))
            weights["in_proj"][beta + 2 * h:] *= 4
            return block, weights, off_borders(config, weights, normal(b, t, config.d_model)), (
                normal(b, t, config.d_model)), states
    if kind == "attention":
        past = config.sliding_window - 1
        length = np.array([(5, 0, past)[i % 3] for i in range(b)], np.int32)
        states = [normal(b, past, config.d_model), normal(b, past, config.d_model), length]
    return block, weights, normal(b, t, config.d_model), normal(b, t, config.d_model), states


def off_borders(config: ModelConfig, weights, x: np.ndarray) -> np.ndarray:
    """x (b, t, d) with rows whose turns all implementations round alike."""
    rng = np.random.default_rng(1)
    while True:
        parts = oracle.turns(config, x.astype(np.float64), weights)
        is_near = (np.abs(parts % 1 - 0.5) < 1e-3).any((2, 3))
        if not is_near.any():
            return x
        x[is_near] = rng.standard_normal((is_near.sum(), x.shape[-1])).astype(np.float32)


def by_reference(kind, config, block, weights, x, dy, states):
    """Outputs, gradients of x and the float states, gradients of the weights."""
    w = {name: realized(a) for name, a in weights.items()}
    x, states = realized(x), [realized(s) for s in states]
    out = OPERATIONS[kind](config, x, w, *states)
    out = out if isinstance(out, tuple) else (out,)
    floats = [s for s in states if s.dtype.name == "float"]
    grads = (out[0] * realized(dy)).sum().gradient(x, *floats, *w.values())
    with Context(NOOPT=1):   # unrolled loops take most of the time, to compile
        Tensor.realize(*out, *grads)
    n = 1 + len(floats)
    return out, grads[:n], dict(zip(w, grads[n:]))


def by_oracle(kind, config, block, weights, x, dy, states):
    """The same in float64."""
    run = getattr(oracle, kind)
    floats = [s.astype(np.float64) for s in states if s.dtype == np.float32]
    rest = [s.astype(np.float64) for s in states[len(floats):]]
    w = {name: a.astype(np.float64) for name, a in weights.items()}
    out = run(config, x.astype(np.float64), w, *floats, *rest)

    def objective(inputs):
        x, w, *floats = inputs
        out = run(config, x, w, *floats, *rest)
        return (dy * (out[0] if isinstance(out, tuple) else out)).sum()
    dx, dw, *d_states = autograd.grad(objective)((x.astype(np.float64), w, *floats))
    return out if isinstance(out, tuple) else (out,), [dx, *d_states], dw


def forward_by_kernel(kind, config, block, weights, x, states, threads=2):
    """Outputs; and x, packed weights and float states as they went in."""
    b, t, d = x.shape
    run = fast.KERNELS[kind](config, block, b, t, threads)
    w = realized(block.pack({f"block.{name}": a for name, a in weights.items()}))
    x, states = realized(x.reshape(b * t, d)), [realized(s) for s in states]
    out = run(x, w, *states)
    out = out if isinstance(out, tuple) else (out,)
    return out, [x, w, *(s for s in states if s.dtype.name == "float")]


def by_kernel(kind, config, block, weights, x, dy, states, threads=2):
    out, inputs = forward_by_kernel(kind, config, block, weights, x, states, threads)
    grads = (out[0] * realized(dy.reshape(out[0].shape))).sum().gradient(*inputs)
    Tensor.realize(*out, *grads)
    d_weights = {key.removeprefix("block."): a
                 for key, a in block.unpack(grads[1].numpy()).items()}
    return out, [grads[0], *grads[2:]], d_weights


def assert_equal(actual, expected) -> None:
    """Outputs, gradients of inputs, gradients of weights by name."""
    for kind, values, expected_values in zip(("output", "gradient"), actual, expected):
        for i, pair in enumerate(zip(values, expected_values, strict=True)):
            assert distance(*pair) < TOLERANCE, (kind, i)
    for name, gradient in expected[2].items():
        assert distance(actual[2][name], gradient) < TOLERANCE, name


@pytest.mark.parametrize("kind, d_model, b, t, variant", [
    ("mlp", 64, 3, 65, "delta"), ("attention", 64, 3, 130, "delta"), ("ssm", 64, 3, 2, "delta"),
    ("ssm", 32, 2, 3, "diagonal"), ("ssm", 32, 2, 3, "turns 120"),
    *(pytest.param(*case, marks=pytest.mark.long) for case in (
        ("mlp", 32, 1, 1, "delta"), ("attention", 32, 1, 1, "delta"), ("ssm", 32, 1, 1, "delta"),
        ("ssm", 64, 2, 5, "diagonal"))),
])
def test_a_kernel_equals_its_reference(kind, d_model, b, t, variant):
    config = config_of(d_model, variant)
    case = random_case(kind, config, b, t)
    assert_equal(by_kernel(kind, config, *case), by_reference(kind, config, *case))


WIDTHS, TIMES, BATCHES = (32, 64, 96, 128, 160, 192, 224, 256), (1, 2, 63, 64, 65, 130), (1, 3, 16)
KINDS = (("ssm", "delta"), ("ssm", "diagonal"), ("attention", "delta"), ("mlp", "delta"),
         ("ssm", "turns 120"))
GRID = list(itertools.product(KINDS, WIDTHS, TIMES, BATCHES))
# Every width, time and batch of every kind, and most pairs of them, in a twentieth of the time. Of
# "diagonal" every time and batch: its widths are those of "delta".
SAMPLE = [(kind, WIDTHS[i], TIMES[(i + 3 * k) % 6], BATCHES[(i + 4 * k) % 3])
          for k, kind in enumerate(KINDS) for i in range(6 if "diagonal" in kind else 8)]


@pytest.mark.parametrize("kind, d_model, t, b", SAMPLE)
def test_a_kernel_equals_the_float64_oracle(kind, d_model, t, b):
    check_against_oracle(*kind, d_model, t, b)


@pytest.mark.long
@pytest.mark.parametrize("kind, d_model, t, b", GRID)
def test_a_kernel_equals_the_float64_oracle_everywhere(kind, d_model, t, b):
    check_against_oracle(*kind, d_model, t, b)


def check_against_oracle(kind: str, variant: str, d_model: int, t: int, b: int) -> None:
    config = config_of(d_model, variant)
    case = random_case(kind, config, b, t)
    assert_equal(by_kernel(kind, config, *case), by_oracle(kind, config, *case))


@pytest.mark.parametrize("parts", [0, 120])
def test_the_whole_model_equals_the_float64_oracle(parts):
    from seed.wavecore.model import WaveCore, init_params
    config = ModelConfig(n_layers=4, rotary_steps=parts)
    params = init_params(config, 0)
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, 256, (2, 3, 65)).astype(np.int32)
    targets[1, 20:] = -1
    model = WaveCore(config, params, threads=2)
    inv_count = np.array([1 / (targets >= 0).sum()], np.float32)
    loss, _ = model.loss(realized(tokens), realized(targets), realized(inv_count))
    grads = loss.gradient(*model.packed.values())
    Tensor.realize(loss, *grads)
    gradients = {key: a for block, g in zip(model.blocks, grads)
                 for key, a in block.unpack(g.numpy()).items()}
    exact = {key: a.astype(np.float64) for key, a in params.items()}
    expected, d_expected = autograd.value_and_grad(
        lambda p: oracle.loss(config, p, tokens, targets))(exact)
    assert abs(loss.item() - expected) < 1e-5 * expected
    for key, d in d_expected.items():
        assert distance(gradients[key], d) < TOLERANCE, key


def test_a_state_that_is_only_reflected_keeps_its_length():
    """beta is 2 and nothing is forgotten or written: 250 exact reflections."""
    config = config_of(32)
    block, weights, x, _, (conv_in, ssm_in) = random_case("ssm", config, 1, 250)
    h, n, p = config.ssm_heads, config.d_state, config.head_dim
    x[..., 0] = 8.0
    weights["norm"][:] = 1.0
    weights["in_proj"][:-2 * h].reshape(h, 2 * n + 2 * p, -1)[:, 2 * n:2 * n + p] = 0   # v
    weights["in_proj"][-2 * h:] = 0
    weights["in_proj"][-2 * h:, 0] = np.repeat([1.0, -6.0], h)     # beta and dt
    conv_in[..., 2 * n:] = 0
    out, _ = forward_by_kernel("ssm", config, block, weights, x, [conv_in, ssm_in])
    after = out[2].numpy()
    lengths = [np.square(s.astype(np.float64)).sum((2, 3)) ** 0.5 for s in (ssm_in, after)]
    assert distance(after, ssm_in) > 0.5
    assert np.abs(lengths[1] / lengths[0] - 1).max() < 1e-4


def test_a_gate_that_is_not_a_number_is_not_clipped_to_one():
    config = config_of(32)
    block, weights, x, _, states = random_case("ssm", config, 1, 20)
    weights["in_proj"][-2 * config.ssm_heads] = np.nan       # beta of the first head
    y = forward_by_kernel("ssm", config, block, weights, x, states)[0][0].numpy()
    assert np.isnan(y).all()


@pytest.mark.parametrize("kind, variant", [
    ("ssm", "delta"), ("attention", "delta"), ("mlp", "delta"), ("ssm", "turns 120")])
def test_the_thread_count_changes_no_bit(kind, variant):
    config = config_of(64, variant)
    case = random_case(kind, config, 3, 65)
    assert_same_bits([by_kernel(kind, config, *case, threads=threads) for threads in (1, 2, 3, 4)])


def test_hidden_made_again_in_the_backward_pass_has_the_same_bits(monkeypatch):
    config = config_of(64)
    case = random_case("mlp", config, 3, 65)
    saved = by_kernel("mlp", config, *case)
    monkeypatch.setattr(fast.Mlp, "__call__", fast.Mlp.unsaved)
    assert_same_bits([saved, by_kernel("mlp", config, *case)])


@pytest.mark.parametrize("variant", ["delta", "turns 120"])
def test_the_length_of_a_chunk_of_the_scan_changes_no_bit(monkeypatch, variant):
    config = config_of(64, variant)
    case = random_case("ssm", config, 2, 130)
    runs = []
    for steps in (16, 32, 48, 64):
        monkeypatch.setattr(fast, "MAX_CHUNK", steps)
        runs.append(by_kernel("ssm", config, *case))
    assert_same_bits(runs)


@pytest.mark.parametrize("d_state, head_dim, t, steps", [
    (16, 32, 256, 64), (16, 32, 17, 32), (16, 32, 1, 16), (32, 32, 256, 32), (32, 48, 256, 16),
    (128, 128, 256, 16)])
def test_states_of_a_chunk_of_the_scan_stay_in_the_second_cache(d_state, head_dim, t, steps):
    config = ModelConfig(d_model=384, d_state=d_state, head_dim=head_dim)
    assert fast.chunk_steps(config, t) == steps


def assert_same_bits(runs) -> None:
    for out, d_inputs, d_weights in runs[1:]:
        for actual, expected in zip([*out, *d_inputs], [*runs[0][0], *runs[0][1]], strict=True):
            assert np.array_equal(actual.numpy(), expected.numpy())
        for name in d_weights:
            assert np.array_equal(d_weights[name], runs[0][2][name]), name


@pytest.mark.parametrize("kind, variant", [
    ("ssm", "delta"), ("attention", "delta"), ("ssm", "turns 120"), ("ssm", "turns 7")])
def test_a_split_sequence_with_carried_state_equals_the_whole(kind, variant):
    config = config_of(64, variant)
    block, weights, x, _, states = random_case(kind, config, 2, 37)

    def run(x, states):
        return [out.numpy() for out in
                forward_by_kernel(kind, config, block, weights, x, states)[0]]
    whole = run(x, states)
    for cut in (1, 16, 36):
        first = run(x[:, :cut], states)
        last = run(x[:, cut:], first[1:])
        y = np.concatenate([a.reshape(2, -1, config.d_model) for a in (first[0], last[0])], 1)
        assert distance(y, whole[0]) < 1e-5
        for actual, expected in zip(last[1:], whole[1:], strict=True):
            assert distance(actual, expected) < 1e-5


def test_a_state_counts_modulo_small_numbers_without_drift():
    """Nothing is forgotten or written, and each step turns by a third, a fifth or not at all: after
    any multiple of 15 steps the output is that of the first, to the last bit."""
    config = config_of(32, "turns 120")
    block, weights, x, _, states = random_case("ssm", config, 1, 3001)
    x[:] = x[:, :1]
    x[..., 0] = 8.0
    weights["norm"][:] = 1.0
    h, n, p = config.ssm_heads, config.d_state, config.head_dim
    beta = h * 2 * (n + p)
    weights["in_proj"][beta:] = 0
    weights["in_proj"][beta:beta + 2 * h, 0] = -20.0    # beta and dt
    xn = oracle.rms_norm(x.astype(np.float64), 1.0, config.stream_eps)[0, 0, 0]
    parts = np.resize([40, 24, 0, -40, 144], h * n // 2)
    weights["in_proj"][beta + 2 * h:, 0] = parts / 120 * 16 / xn
    weights["dt_bias"][:] = -100.0
    out, _ = forward_by_kernel("ssm", config, block, weights, x, states)
    y, phase = out[0].numpy(), out[3].numpy()
    assert np.array_equal(y[5::15], np.resize(y[5], y[5::15].shape))
    assert not np.array_equal(y[5], y[6])
    assert np.array_equal(phase, (states[2] + 3001 * parts.reshape(1, h, -1)) % 120)
