"""The reference is compiled as it stands: each operation runs once, and optimizing takes longer."""
import pytest
from tinygrad.helpers import Context


@pytest.fixture(autouse=True)
def unoptimized():
    with Context(NOOPT=1):
        yield
