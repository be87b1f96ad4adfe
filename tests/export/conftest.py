"""One small brain, and what it must compute, for all tests of exported files."""
from pathlib import Path

import pytest

from seed.evaluation import TrainedBrain
from tests.support import brains
from tests.support.tflite import SMALL


@pytest.fixture(scope="session")
def brain(tmp_path_factory) -> TrainedBrain:
    return brains.trained(brains.untrained(tmp_path_factory.mktemp("brain"), "toy", *SMALL))


@pytest.fixture(scope="session")
def expected(brain, tmp_path_factory) -> Path:
    """500 bytes of the reference's free run, and its logits."""
    return brains.expect(tmp_path_factory.mktemp("expected") / "expected.npz", brain, 500)
