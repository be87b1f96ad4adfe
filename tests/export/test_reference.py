"""The numpy reference, which judges exported files, against that of the trainer."""
import numpy as np
import pytest
from tinygrad import Context, Tensor

from seed.export.reference import Reference
from seed.profile_file import load_profile
from seed.wavecore.model import WaveCore
from tests.support import brains
from tests.support.tflite import SMALL


@pytest.mark.parametrize("overrides", [["model.pattern=SA"], ["model.pattern=S"],
                                       ["model.pattern=S", "model.transition=diagonal"],
                                       ["model.pattern=A"],
                                       ["model.pattern=S", "model.d_state=48"],
                                       ["model.pattern=S", "model.rotary_steps=120"]],
                         ids=str)
def test_the_numpy_reference_equals_that_of_the_trainer(overrides):
    """Two implementations, written independently."""
    profile = load_profile("toy", [*SMALL, "model.n_layers=2", "model.sliding_window=3",
                                   *overrides])
    params = brains.weights(profile)
    tokens = brains.some_bytes(4)
    with Context(NOOPT=1):   # each operation runs once, and optimizing takes longer
        expected = WaveCore(profile.model, params, reference=True)(Tensor([tokens]))[0].numpy()[0]
    reference = Reference(profile.model, params)
    logits = np.stack([reference.step(byte) for byte in tokens])
    assert np.abs(logits - expected).max() < 1e-5 * np.ptp(expected)
