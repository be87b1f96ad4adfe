"""Event files: checksums of the standard, and what TensorBoard's own reader finds in them."""
import json
import subprocess
import sys

import pytest

from seed.storage import event_file
from seed.storage.event_file import Scalar

READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(json.dumps({tag: [[e.wall_time, e.step, e.value] for e in events.Scalars(tag)]
                  for tag in events.Tags()["scalars"]}))
"""


@pytest.mark.parametrize("data, crc", [
    (bytes(32), 0x8a9136aa), (b"\xff" * 32, 0x62a8ab43), (bytes(range(32)), 0x46dd794e),
    (b"123456789", 0xe3069283), (b"", 0)])
def test_the_checksum_is_that_of_rfc_3720(data, crc):
    assert event_file.crc32c(data) == crc


def test_tensorboard_reads_back_what_was_written(tmp_path):
    scalars = [Scalar("loss", 0, 0.0, 2.5), Scalar("loss", 127, 1.7e9, 1.25),
               Scalar("loss", 2 ** 40 + 300, 1.7e9 + 0.125, -0.5),
               Scalar("return/ro\u00efver", 128, 1.7e9, 1e30)]
    (tmp_path / event_file.NAME).write_bytes(event_file.encoded(scalars))
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "loss": [[0.0, 0, 2.5], [1.7e9, 127, 1.25], [1.7e9 + 0.125, 2 ** 40 + 300, -0.5]],
        "return/ro\u00efver": [[1.7e9, 128, pytest.approx(1e30, rel=1e-7)]]}
    assert "corrupt" not in done.stderr.lower()


def test_an_event_file_is_known_by_its_first_bytes():
    assert event_file.is_event_file(event_file.encoded([])[:64])
    assert not event_file.is_event_file(b'{"kind": "step"}' * 4)
