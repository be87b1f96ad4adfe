"""The peer in tinygrad's own operations computes the recurrence of the model."""
import numpy as np
import pytest

from seed.bench.tinygrad_delta import gated_delta_rule
from seed.wavecore.tinygrad_seam import from_array


@pytest.mark.parametrize("transition", ["delta", "diagonal"])
def test_chunks_are_the_recurrence(transition):
    b, t, h, n, p = 1, 64, 2, 4, 4
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((b, t, h, size)) for size in (n, n, p))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    beta, decay = rng.uniform(0, 2, (b, t, h)), rng.uniform(0.5, 1, (b, t, h))
    S = start = rng.standard_normal((b, h, n, p))
    expected = np.zeros((b, t, h, p))
    for i in range(t):
        a, key, beta_i = decay[:, i, :, None], k[:, i, :, :, None], beta[:, i, :, None]
        stored = (S * key).sum(2) * a * (transition == "delta")
        S = a[..., None] * S + key * (beta_i * (v[:, i] - stored))[:, :, None]
        expected[:, i] = (S * q[:, i, :, :, None]).sum(2)
    arrays = [from_array(array.astype(np.float32)) for array in (q, k, v, beta, decay, start)]
    y, after = gated_delta_rule(*arrays, transition)
    assert y.numpy() == pytest.approx(expected, abs=2e-4)
    assert after.numpy() == pytest.approx(S, abs=2e-4)
