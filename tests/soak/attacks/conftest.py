"""One small trained brain that the attacks of a session copy."""
from pathlib import Path

import pytest

from tests.support.attack_run import train, works


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """The run directory of a brain at step 20."""
    path = tmp_path_factory.mktemp("attacks") / "base"
    assert works(train(path, steps=20))
    return path


@pytest.fixture
def rule(tmp_path) -> Path:
    """A file of recorded examples."""
    path = tmp_path / "rule.jsonl"
    path.write_text("".join(f'{{"prompt": "{i}?7=", "answer": "{i + 7}"}}\n'
                            for i in range(10, 200)))
    return path


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests of this folder are attacks."""
    item.add_marker("attack")
