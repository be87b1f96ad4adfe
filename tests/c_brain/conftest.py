"""The C brain as a library, and one small brain with two bodies."""
import pytest

from seed.evaluation import TrainedBrain
from tests.support.acting_brains import file_of, untrained
from tests.support.c_brain import CBrain, compiled


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="session")
def trained() -> TrainedBrain:
    return untrained()


@pytest.fixture(scope="session")
def acting(trained, tmp_path_factory) -> str:
    """The path of an exported file."""
    return file_of(trained, tmp_path_factory.mktemp("acting")).name


@pytest.fixture
def saved(library, acting, tmp_path):
    """A C brain that has saved its state, and the path."""
    c, path = CBrain(library, acting), tmp_path / "state"
    c.begin("cartpole")
    c.act([0, 0.5, 0, 0])
    c.save_state(path)
    return c, path
