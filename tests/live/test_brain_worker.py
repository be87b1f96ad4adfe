"""A brain's process records again what a full disk had no room for, and in files that can be
removed one by one."""
import json

import pytest

from seed.body.episodes import EpisodeFolder
from seed.live import brain_worker
from seed.live.brain_worker import Worker


@pytest.fixture
def worker(brains, tmp_path):
    worker = Worker({"brain": str(brains.first), "body": "cartpole", "state": "",
                     "scratch": str(tmp_path / "scratch"), "handover": str(tmp_path / "handover"),
                     "episodes": str(tmp_path / "episodes"), "record_bytes_per_day": 1e12,
                     "cores": [], "should_restore": False})
    worker.check_recording()
    worker._activate()
    yield worker
    worker._finish()


def ticks(worker, n: int) -> None:
    for _ in range(n):
        worker.brain.act([0.0] * 4, 1.0)


def n_recorded(folder) -> int:
    return len([step for step in EpisodeFolder(folder).steps() if step.choices])


def test_after_a_full_disk_it_records_again_in_a_new_file(worker, tmp_path, monkeypatch, caplog):
    ticks(worker, 3)
    worker.brain.recorders["cartpole"]._log.fail("No space left on device")
    ticks(worker, 3)   # while the disk is full
    monkeypatch.setattr(brain_worker, "MIN_FREE_BYTES", 2 ** 60)
    worker._renew_recording()
    assert worker.brain.recorders["cartpole"].error
    monkeypatch.setattr(brain_worker, "MIN_FREE_BYTES", 0)
    worker._renew_recording()
    ticks(worker, 3)
    worker._finish()
    names = sorted(path.name for path in (tmp_path / "episodes").iterdir())
    assert names == ["episodes-00000.jsonl", "episodes-00001.jsonl", "metadata.json"]
    lines = (tmp_path / "episodes/episodes-00001.jsonl").read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[0])["is_first"]
    assert n_recorded(tmp_path / "episodes") == 2   # and the end of the recording


def test_a_large_file_is_followed_by_another(worker, tmp_path):
    ticks(worker, 3)
    worker.brain.recorders["cartpole"].limit(100, 1e12)
    ticks(worker, 3)
    worker._finish()
    assert len(list((tmp_path / "episodes").glob("*.jsonl"))) == 2
    assert n_recorded(tmp_path / "episodes") == 4
