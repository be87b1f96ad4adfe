"""A brain's process records again what a full disk had no room for, and in files that can be
removed one by one, each of one brain."""
import json
import time
from types import SimpleNamespace

import pytest

from seed.body.episodes import EpisodeFolder
from seed.live import brain_worker
from seed.live.brain_worker import Worker
from seed.live.frames import Call

MAX_S = 60


@pytest.fixture
def load(tmp_path):
    """Loads a brain's file, as a process does before the fast loop hears of it."""
    workers = []

    def load(path) -> Worker:
        workers.append(Worker({
            "brain": str(path), "body": "cartpole", "state": "",
            "scratch": str(tmp_path / f"scratch-{len(workers)}"),
            "handover": str(tmp_path / "handover"), "episodes": str(tmp_path / "episodes"),
            "record_bytes_per_day": 1e12, "cores": [], "should_restore": False}))
        workers[-1].check_recording()
        return workers[-1]
    yield load
    for worker in workers:
        worker._finish()


@pytest.fixture
def worker(load, brains):
    worker = load(brains.first)
    worker._activate()
    return worker


def ticks(worker, n: int) -> None:
    for _ in range(n):
        worker.brain.act([0.0] * 4, 1.0)


def wait_for_files(folder, n: int) -> None:
    ends_s = time.monotonic() + MAX_S
    while len(list(folder.glob("*.jsonl"))) < n:
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def n_recorded(folder) -> int:
    return len([step for step in EpisodeFolder(folder).steps() if step.choices])


def test_after_a_full_disk_it_records_again_in_a_new_file(worker, tmp_path, monkeypatch, caplog):
    ticks(worker, 3)
    wait_for_files(tmp_path / "episodes", 1)
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
    assert n_recorded(tmp_path / "episodes") >= 2   # and the end of the recording


def test_a_large_file_is_followed_by_another(worker, tmp_path):
    ticks(worker, 3)
    worker.brain.recorders["cartpole"].limit(100, 1e12)
    ticks(worker, 3)
    worker._finish()
    assert len(list((tmp_path / "episodes").glob("*.jsonl"))) == 2
    assert n_recorded(tmp_path / "episodes") == 4


def test_the_newest_file_is_of_the_brain_that_acts(worker, load, brains, tmp_path):
    """Also when the one before comes back."""
    newer, folder = load(brains.second), tmp_path / "episodes"
    for number, acting in enumerate([worker, newer, worker]):
        acting._activate()
        ticks(acting, 2 + number)
        wait_for_files(folder, number + 1)
        assert len(list(folder.glob("*.jsonl"))) == number + 1   # none of a brain that waits
        acting._do(SimpleNamespace(call=Call.RETIRE), None)
    for each in (worker, newer):
        each._finish()
    n_lines = [len(path.read_text().splitlines()) for path in sorted(folder.glob("*.jsonl"))]
    assert n_lines == [2, 3, 4]   # the last observation ends an episode


def test_where_memory_is_full_it_acts_on_and_saves_later(load, brains, tmp_path):
    scratch = tmp_path / "scratch-0"
    scratch.mkdir()
    worker = load(brains.first)
    assert worker.notes == [f"{tmp_path} has no room for the state of {brains.first}: it is "
                            f"saved when there is some"]
    worker.state_path = tmp_path / "state"
    worker._activate()
    for has_room in (False, True):
        worker._next_save_s = 0.0
        ticks(worker, 1)
        worker._after_act()
        if worker._saving:
            worker._saving.join()
        assert worker.state_path.exists() is has_room
        scratch.rmdir() if scratch.is_dir() else None
