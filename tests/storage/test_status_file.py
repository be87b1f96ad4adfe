"""status.json and heartbeat: whole for every reader, seldom on a disk, and never in the way."""
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

from seed.storage import RunDir, status_file
from seed.storage.status_file import DISK_EVERY_S, MEMORY_EVERY_S, StatusFiles, is_in_memory
from tests.support.fake_clock import FakeClock


def files(run_dir: RunDir, clock=None, log=print) -> StatusFiles:
    return StatusFiles(run_dir, clock or FakeClock(), log)


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_both_files_count_the_beats_and_have_no_numbers_that_json_lacks(tmp_path):
    written = files(RunDir(tmp_path))
    for loss in (0.5, float("nan")):
        written.write({"loss": loss, "returns": {"a": float("inf")}})
    facts = status(tmp_path)
    assert facts["loss"] is None and facts["returns"] == {"a": None} and facts["beat"] == 2
    assert (tmp_path / "heartbeat").read_text() == f"{os.getpid()} 2 {facts['time']:.0f}\n"
    assert sorted(os.listdir(tmp_path)) == ["heartbeat", "status.json"]


def test_a_reader_never_meets_half_a_file(tmp_path):
    written, done, lengths = files(RunDir(tmp_path)), threading.Event(), set()
    written.write({"text": ""})

    def write() -> None:
        for i in range(300):
            written.write({"text": "x" * (i % 50) * 1000})
        done.set()
    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        lengths.add(len(status(tmp_path)["text"]))
    writer.join()
    assert len(lengths) > 1


def test_the_rate_is_that_of_the_file_system(tmp_path, monkeypatch):
    assert not is_in_memory(tmp_path / "none") and not is_in_memory(tmp_path, tmp_path / "none")
    mounts = tmp_path / "mounts"
    device = os.stat(tmp_path).st_dev
    mounts.write_text(f"31 23 {os.major(device)}:{os.minor(device)} / /run rw shared:2 - tmpfs a\n")
    assert is_in_memory(tmp_path, mounts)
    for in_memory, every_s in ((True, MEMORY_EVERY_S), (False, DISK_EVERY_S)):
        monkeypatch.setattr(status_file, "is_in_memory", lambda directory: in_memory)
        clock = FakeClock()
        written = files(RunDir(tmp_path), clock)
        assert written.is_due
        written.write({})
        clock.now += every_s - 0.1
        assert not written.is_due
        clock.now += 0.2
        assert written.is_due


def test_a_directory_that_is_full_read_only_or_gone_is_told_once_and_used_again(tmp_path,
                                                                                monkeypatch):
    messages, place = [], tmp_path / "place"
    written = files(RunDir(tmp_path, status_dir=place), log=messages.append)
    for _ in range(3):
        written.write({})
    assert messages == [f"WARNING: the status is not written: No such file or directory in {place};"
                        f" all else continues"]
    place.mkdir()
    (place / "status.json").mkdir()   # what cannot be replaced
    written.write({})
    assert len(messages) == 1 and os.listdir(place) == ["status.json"]
    (place / "status.json").rmdir()
    written.write({})
    assert status(place)["beat"] == 5
    monkeypatch.setattr(os, "replace", lambda *names, **more: (_ for _ in ()).throw(
        OSError(28, os.strerror(28))))
    written.write({})
    monkeypatch.undo()
    assert len(messages) == 2 and "No space left" in messages[1]
    assert status(place)["beat"] == 5 and len(os.listdir(place)) == 2


def test_links_lead_nowhere_and_a_lock_that_is_lost_ends_the_writing(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    run_path = tmp_path / "run"
    with RunDir(run_path).locked() as run_dir:
        (run_path / "status.json").symlink_to(outside)
        os.mkfifo(run_path / "heartbeat")
        written = files(run_dir)
        written.write({})
        assert outside.read_text() == "mine" and status(run_path)["beat"] == 1
        assert (run_path / "heartbeat").is_file()
        run_path.rename(tmp_path / "moved")
        written.write({})
        assert status(tmp_path / "moved")["beat"] == 2
        (tmp_path / "moved/lock").unlink()
        written.write({})
        assert status(tmp_path / "moved")["beat"] == 2


def test_a_place_of_their_own_has_no_part_in_the_lock(tmp_path):
    with RunDir(tmp_path / "run").locked() as run_dir:
        (tmp_path / "place").mkdir()
        before = os.umask(0o077)   # of the systemd unit
        files(replace(run_dir, status_dir=tmp_path / "place")).write({"a": 1})
        os.umask(before)
    assert (tmp_path / "place/status.json").stat().st_mode & 0o777 == 0o644
    assert status(tmp_path / "place")["a"] == 1
    assert not RunDir(tmp_path / "run").status.exists()


def test_nothing_is_synced(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    files(RunDir(tmp_path)).write({})
    assert status(tmp_path)["beat"] == 1
