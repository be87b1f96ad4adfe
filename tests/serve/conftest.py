"""A served run for all tests of a file."""
import pytest

from tests.support import recorded_run
from tests.support.served_run import Brain, served


@pytest.fixture
def brain():
    return Brain()


@pytest.fixture
def run_dir(tmp_path):
    return recorded_run.write(tmp_path / "first")


@pytest.fixture
def site(run_dir, brain, monkeypatch):
    with served(run_dir, brain, monkeypatch) as site:
        yield site
