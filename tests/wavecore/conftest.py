"""Plain operations are compiled as they stand: each runs once, and optimizing takes longer."""
import pytest
from tinygrad.helpers import Context


@pytest.fixture(autouse=True)
def unoptimized():
    with Context(NOOPT=1):
        yield
