"""Files of untrained brains for the tests of the fast loop."""
from types import SimpleNamespace

import numpy as np
import pytest

from seed.export import Options
from seed.export.brain_file import BrainFile
from tests.support.acting_brains import untrained
from tests.support.tick_robot import made


@pytest.fixture(scope="session")
def brains(tmp_path_factory) -> SimpleNamespace:
    """Exported files for cartpole and rover: two of one structure, one of another; a broken one, a
    large one, and one whose weights are not finite."""
    folder = tmp_path_factory.mktemp("brains")
    files = SimpleNamespace(**{name: folder / f"{name}.tflite" for name in (
        "first", "second", "grown", "broken", "large", "nan")})
    trained = untrained()
    files.first.write_bytes(BrainFile(trained, Options()).tobytes())
    for array in trained.params.values():
        array *= 1.1
    files.second.write_bytes(BrainFile(trained, Options()).tobytes())
    files.grown.write_bytes(BrainFile(untrained("model.d_ff=64", "model.sliding_window=8"),
                                      Options()).tobytes())
    data = bytearray(files.second.read_bytes())
    data[len(data) // 2] ^= 1
    files.broken.write_bytes(data)
    files.large.write_bytes(BrainFile(untrained("model.d_model=512", "model.d_ff=2048"),
                                      Options()).tobytes())
    trained.params["norm_f"][0] = np.nan
    files.nan.write_bytes(BrainFile(trained, Options()).tobytes())
    return files


@pytest.fixture
def robot(tmp_path):
    """A tick loop between peers that do as told."""
    with made(tmp_path) as made_robot:
        yield made_robot
