"""Each kernel equals its specification: values, carried state and every gradient."""
import numpy as np
import pytest
from tinygrad import Tensor

from seed.config import ModelConfig
from seed.wavecore import kernels, layout, reference

TOLERANCE = 2e-4  # relative L2, float32

BLOCKS = {"ssm": (layout.ssm_block, kernels.Ssm, reference.ssm),
          "attention": (layout.attention_block, kernels.Attention, reference.attention),
          "mlp": (layout.mlp_block, kernels.Mlp, reference.mlp)}


def realized(array: np.ndarray) -> Tensor:
    return Tensor(array).realize()


def distance(found: Tensor | np.ndarray, expected: Tensor) -> float:
    found, expected = (np.asarray(a.numpy() if isinstance(a, Tensor) else a).reshape(-1)
                       for a in (found, expected))
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) + 1e-12))


def random_case(kind: str, config: ModelConfig, b: int, t: int):
    """Block, named weights, input, incoming gradient and carried states, all away from zero."""
    rng = np.random.default_rng((config.d_model, b, t))
    block = BLOCKS[kind][0](config, "block")

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    named = {block.key(a): normal(*a.shape, scale=0.5 / np.sqrt(a.shape[-1]) if a.decay else 0.5)
             + np.float32("norm" in a.name) for a in block.arrays}
    states = []
    if kind == "ssm":
        h, n, p = config.ssm_heads, config.d_state, config.head_dim
        states = [normal(b, config.d_conv - 1, h, 2 * n + p), normal(b, h, n, p)]
    if kind == "attention":
        past = config.sliding_window - 1
        length = np.array([(0, past, 5)[i % 3] for i in range(b)], np.int32)
        states = [normal(b, past, config.d_model), normal(b, past, config.d_model), length]
    return block, named, normal(b, t, config.d_model), normal(b, t, config.d_model), states


def specification(kind, config, block, named, x, dy, states):
    w = {a.name: realized(named[block.key(a)]) for a in block.arrays}
    x, states = realized(x), [realized(s) for s in states]
    out = BLOCKS[kind][2](config, x, w, *states)
    out = out if isinstance(out, tuple) else (out,)
    learnt = [s for s in states if s.dtype.name == "float"]
    grads = (out[0] * realized(dy)).sum().gradient(x, *learnt, *w.values())
    Tensor.realize(*out, *grads)
    n = 1 + len(learnt)
    return out, grads[:n], dict(zip(w, grads[n:]))


def kernel(kind, config, block, named, x, dy, states, threads):
    b, t, d = x.shape
    run = BLOCKS[kind][1](config, block, b, t, threads)
    w, x, states = realized(block.pack(named)), realized(x.reshape(b * t, d)), \
        [realized(s) for s in states]
    out = run(x, w, *states)
    out = out if isinstance(out, tuple) else (out,)
    learnt = [s for s in states if s.dtype.name == "float"]
    grads = (out[0] * realized(dy.reshape(b * t, d))).sum().gradient(x, w, *learnt)
    Tensor.realize(*out, *grads)
    named_grads = block.unpack(grads[1].numpy())
    return out, [grads[0], *grads[2:]], {a.name: named_grads[block.key(a)] for a in block.arrays}


@pytest.mark.parametrize("kind, d_model, b, t, transition", [
    ("mlp", 32, 1, 1, "delta"), ("mlp", 64, 3, 65, "delta"), ("mlp", 256, 2, 63, "delta"),
    ("attention", 32, 1, 1, "delta"), ("attention", 64, 3, 2, "delta"),
    ("attention", 256, 1, 63, "delta"), ("attention", 64, 3, 130, "delta"),
    ("ssm", 32, 1, 1, "delta"), ("ssm", 64, 3, 2, "delta"), ("ssm", 32, 1, 17, "delta"),
    ("ssm", 64, 2, 5, "diagonal"), ("ssm", 96, 1, 3, "delta"),
])
def test_a_kernel_equals_its_specification(kind, d_model, b, t, transition):
    config = ModelConfig(d_model=d_model, d_ff=2 * d_model, transition=transition)
    config.check()
    case = random_case(kind, config, b, t)
    out, d_inputs, d_weights = specification(kind, config, *case)
    k_out, k_d_inputs, k_d_weights = kernel(kind, config, *case, threads=2)
    for found, expected in zip(k_out, out, strict=True):
        assert distance(found, expected) < TOLERANCE
    for found, expected in zip(k_d_inputs, d_inputs, strict=True):
        assert distance(found, expected) < TOLERANCE
    for name, expected in d_weights.items():
        assert distance(k_d_weights[name], expected) < TOLERANCE, name


@pytest.mark.parametrize("kind", ["ssm", "attention", "mlp"])
def test_the_thread_count_changes_no_bit(kind):
    config = ModelConfig()
    case = random_case(kind, config, 3, 65)
    runs = [kernel(kind, config, *case, threads=threads) for threads in (1, 2, 3)]
    for out, d_inputs, d_weights in runs[1:]:
        for found, expected in zip([*out, *d_inputs], [*runs[0][0], *runs[0][1]], strict=True):
            assert np.array_equal(found.numpy(), expected.numpy())
        for name in d_weights:
            assert np.array_equal(d_weights[name], runs[0][2][name]), name


def test_a_split_sequence_with_carried_state_equals_the_whole():
    config = ModelConfig()
    block, named, x, dy, states = random_case("ssm", config, 2, 37)
    whole = kernel("ssm", config, block, named, x, dy, states, 2)[0]
    for cut in (1, 16, 36):
        first = kernel("ssm", config, block, named, x[:, :cut], dy[:, :cut], states, 2)[0]
        carried = [s.numpy() for s in first[1:]]
        last = kernel("ssm", config, block, named, x[:, cut:], dy[:, cut:], carried, 2)[0]
        joined = np.concatenate([o.numpy().reshape(2, -1, config.d_model)
                                 for o in (first[0], last[0])], 1)
        assert distance(joined, whole[0]) < 1e-5
        assert distance(last[2], whole[2]) < 1e-5
