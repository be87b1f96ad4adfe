"""Soft targets: the kernel, its reference and a float64 oracle agree, gradients included."""
import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from tinygrad import Tensor

from seed.config import ModelConfig
from seed.wavecore import fast
from seed.wavecore.loss import SoftTargets, cross_entropy
from seed.wavecore.model import WaveCore, init_params, tied_head
from tests.support import oracle
from tests.support.tensors import TOLERANCE, distance, realized

CONFIG = ModelConfig(d_model=32, d_ff=32, n_layers=1, pattern="S")
B, T = 16, 7   # more rows than one tile of the kernel


def brain(seed: int) -> WaveCore:
    params = init_params(CONFIG, seed)
    params["embedding"] *= 20   # so that its logits differ
    return WaveCore(CONFIG, params, threads=2)


def tokens_and_targets() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, targets of which a third are outside the loss mask, 1 over how many are in it."""
    rng = np.random.default_rng(1)
    tokens, targets = rng.integers(0, 256, (2, B, T)).astype(np.int32)
    targets[rng.random((B, T)) < 0.3] = -1
    return tokens, targets, np.array([1 / (targets >= 0).sum()], np.float32)


def topk_of(parent: WaveCore, tokens: np.ndarray, top: int,
            temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Its `top` likeliest bytes at every position and their probabilities."""
    z = parent(realized(tokens))[0].numpy().astype(np.float64) / temperature
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    topk_ids = np.argsort(-p, -1)[..., :top].astype(np.int32)
    return topk_ids, np.take_along_axis(p, topk_ids, -1).astype(np.float32)


def loss_and_gradients(model: WaveCore, tokens, targets, inv_count, topk_ids, topk_probs,
                       temperature: float, alpha: float) -> tuple[float, dict[str, np.ndarray]]:
    """Loss, and gradients by block."""
    soft = SoftTargets(realized(topk_ids), realized(topk_probs), temperature, alpha)
    loss, _ = model.loss(realized(tokens), realized(targets), realized(inv_count), soft=soft)
    grads = loss.gradient(*model.packed.values())
    Tensor.realize(loss, *grads)
    return loss.item(), {block.name: g.numpy() for block, g in zip(model.blocks, grads)}


def exact(logits, targets, inv_count, topk_ids, topk_probs, temperature, alpha):
    """The loss in float64, from the definition."""
    def log_softmax(z):
        z = z - anp.max(z, -1, keepdims=True)
        return z - anp.log(anp.sum(anp.exp(z), -1, keepdims=True))
    hard_log, soft_log, total = log_softmax(logits), log_softmax(logits / temperature), 0.0
    for i, j in np.ndindex(*targets.shape):
        hard = -hard_log[i, j, targets[i, j]] if targets[i, j] >= 0 else 0.0
        used = topk_ids[i, j] >= 0
        if not used[0]:
            total = total + hard
            continue
        named, q = topk_ids[i, j][used], topk_probs[i, j][used].astype(np.float64)
        rest = np.setdiff1d(np.arange(256), named)
        soft = -anp.sum(q * soft_log[i, j][named])
        if 1 - q.sum() > 1e-7:
            soft = soft - (1 - q.sum()) * anp.log(anp.sum(anp.exp(soft_log[i, j][rest])))
        total = total + (1 - alpha) * hard + alpha * temperature ** 2 * soft
    return total * inv_count[0]


@pytest.mark.parametrize("top, temperature, alpha", [(1, 1.0, 0.5), (4, 2.0, 0.3), (8, 1.0, 1.0),
                                                     (256, 3.0, 0.9)])
def test_kernel_reference_and_float64_agree_on_soft_targets(top, temperature, alpha):
    tokens, targets, inv_count = tokens_and_targets()
    topk_ids, topk_probs = topk_of(brain(1), tokens, top, temperature)
    topk_ids[0, ::2] = -1                       # no soft target
    if top > 1:
        topk_ids[1, ::3, top // 2:] = -1        # fewer bytes
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((B * T, 32)).astype(np.float32), np.ones(32, np.float32),
              rng.standard_normal((256, 32)).astype(np.float32)]
    soft = SoftTargets(realized(topk_ids), realized(topk_probs), temperature, alpha)

    def by_kernel(x, gain, table):
        return fast.Head(CONFIG, B, T, 2).loss(x, gain, table, realized(targets.reshape(-1)),
                                               realized(inv_count), soft)

    def by_reference(x, gain, table):
        scores = tied_head(CONFIG, x, gain, table).reshape(B, T, 256)
        return cross_entropy(scores, realized(targets), realized(inv_count), soft)

    def by_float64(inputs):
        logits = anp.dot(oracle.rms_norm(inputs[0], inputs[1], CONFIG.stream_eps), inputs[2].T)
        return exact(anp.reshape(logits, (B, T, 256)), targets, inv_count, topk_ids, topk_probs,
                     temperature, alpha)
    expected, d_expected = autograd.value_and_grad(by_float64)(
        [a.astype(np.float64) for a in arrays])
    for run in (by_kernel, by_reference):
        inputs = [realized(a) for a in arrays]
        loss = run(*inputs)
        grads = loss.gradient(*inputs)
        Tensor.realize(loss, *grads)
        assert abs(loss.item() / expected - 1) < 1e-5, run
        for grad, expected_grad in zip(grads, d_expected, strict=True):
            assert distance(grad, expected_grad) < TOLERANCE, run


def test_one_hot_targets_at_temperature_1_are_cross_entropy():
    tokens, targets, inv_count = tokens_and_targets()
    topk_ids, topk_probs = targets[..., None].copy(), np.ones((B, T, 1), np.float32)
    soft, d_soft = loss_and_gradients(brain(0), tokens, targets, inv_count, topk_ids, topk_probs,
                                      1.0, 1.0)
    no_targets = np.full_like(topk_ids, -1)
    hard, d_hard = loss_and_gradients(brain(0), tokens, targets, inv_count, no_targets, topk_probs,
                                      1.0, 1.0)
    assert abs(soft / hard - 1) < 1e-6
    for name, d in d_hard.items():
        assert np.linalg.norm(d) > 1e-3 and distance(d_soft[name], d) < 1e-5, name


@pytest.mark.parametrize("top, temperature", [(1, 1.0), (8, 2.0), (256, 4.0)])
def test_a_brain_that_is_its_own_parent_has_no_gradient(top, temperature):
    tokens, targets, inv_count = tokens_and_targets()
    norms = []
    for parent in (brain(0), brain(1)):
        topk = topk_of(parent, tokens, top, temperature)
        _, grads = loss_and_gradients(brain(0), tokens, targets, inv_count, *topk, temperature, 1.0)
        norms.append(np.sqrt(sum(np.square(d).sum() for d in grads.values())))
    assert norms[0] < 1e-5 * norms[1]
