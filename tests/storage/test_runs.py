"""Which run a command means that names none, and the deletion of runs."""
import fcntl
import json
import os

import pytest

from seed.errors import ConfigError, InUse
from seed.live import claims
from seed.storage import RunDir
from seed.storage.lock import is_held
from seed.storage.removal import REMOVED, check_removable, remove
from seed.storage.runs import read_status, run_to_train, runs_in


def make_run(path, **status) -> RunDir:
    path.mkdir(parents=True)
    run_dir = RunDir(path)
    run_dir.checkpoint.write_bytes(b"x")
    if status:
        run_dir.status.write_text(json.dumps(status))
    return run_dir


def test_the_first_run_is_number_1(tmp_path):
    assert run_to_train("toy", tmp_path / "runs").path == tmp_path / "runs" / "1"


@pytest.mark.parametrize("status, expected", [
    ({"state": "finished", "profile": "toy"}, "3"), ({"state": "stopped", "profile": "toy"}, "2"),
    ({"state": "training", "profile": "toy"}, "2"), ({"state": "stopped", "profile": "fast"}, "3"),
    ({}, "2")], ids=["finished", "stopped", "killed", "another profile", "no status"])
def test_a_run_goes_on_until_it_has_finished_and_then_the_next_begins(tmp_path, status, expected):
    make_run(tmp_path / "1", state="stopped", profile="toy")
    make_run(tmp_path / "2", **status)
    make_run(tmp_path / "mine", state="stopped", profile="toy")
    assert run_to_train("toy", tmp_path).path.name == expected


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path):
    run_dir = make_run(tmp_path / "1", state="training", profile="toy")
    with run_dir.locked():
        assert is_held(run_dir.lock) and run_to_train("toy", tmp_path).path.name == "2"
    assert not is_held(run_dir.lock) and run_to_train("toy", tmp_path).path.name == "1"


@pytest.mark.parametrize("name", ["9" * 255, "٣", "007", "1e3", "-2", "4\n"])
def test_what_is_no_number_of_a_run_is_not_counted_on(tmp_path, name):
    (tmp_path / name).mkdir()
    assert run_to_train("toy", tmp_path).path.name == "1"
    make_run(tmp_path / "2", state="finished", profile="toy")
    assert run_to_train("toy", tmp_path).path.name == "3"


def test_runs_are_directories_with_a_checkpoint_the_newest_last(tmp_path):
    for age, name in enumerate(["old", "new", "oldest"]):
        run_dir = make_run(tmp_path / name)
        os.utime(run_dir.checkpoint, (0, [20, 30, 10][age]))
    (tmp_path / "folder").mkdir()
    make_run(tmp_path / f"{REMOVED}gone")
    assert [run_dir.path.name for run_dir in runs_in(tmp_path)] == ["oldest", "old", "new"]
    assert runs_in(tmp_path / "absent") == []


@pytest.mark.parametrize("text", ["", "[1]", "\0", "{"])
def test_a_status_that_is_none_is_unknown(tmp_path, text):
    run_dir = make_run(tmp_path / "run")
    run_dir.status.write_text(text)
    assert read_status(run_dir) == {}


def test_a_run_is_deleted_with_its_folders_and_without_a_trace(tmp_path):
    run_dir = make_run(tmp_path / "run")
    (run_dir.path / "live" / "deep").mkdir(parents=True)
    (run_dir.path / "live" / "deep" / "file").write_text("x")
    run_dir.replay("0" * 32).write_text("{}\n")
    make_run(tmp_path / f"{REMOVED}run")   # of one that a power cut has ended
    check_removable(run_dir)
    remove(run_dir)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_trained_is_not_deleted(tmp_path):
    run_dir = make_run(tmp_path / "run")
    with run_dir.locked(), pytest.raises(InUse):
        remove(run_dir)
    assert run_dir.checkpoint.exists()


def test_a_run_whose_brain_acts_alone_is_not_deleted(tmp_path):
    run_dir = make_run(tmp_path / "run")
    (run_dir.path / "live").mkdir()
    with open(run_dir.path / "live" / claims.LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InUse, match="acts: stop its fast loop"):
            remove(run_dir)
    assert run_dir.checkpoint.exists()
    remove(run_dir)
    assert not run_dir.path.exists()


@pytest.mark.parametrize("foreign", ["notes.txt", "checkpoint.safetensors.txt", "photos",
                                     "replay.mine.jsonl"])
def test_a_directory_with_other_things_is_not_deleted(tmp_path, foreign):
    run_dir = make_run(tmp_path / "run")
    (run_dir.path / foreign).mkdir()
    with pytest.raises(ConfigError, match=foreign):
        check_removable(run_dir)


def test_neither_a_link_nor_a_file_nor_a_folder_without_a_brain_is_deleted(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("link", "folder", "file", "absent"):
        with pytest.raises(ConfigError, match=name):
            check_removable(RunDir(tmp_path / name))


def test_the_folder_that_the_shell_is_in_is_not_deleted(tmp_path, monkeypatch):
    run_dir = make_run(tmp_path / "run")
    (run_dir.path / "live").mkdir()
    monkeypatch.chdir(run_dir.path / "live")
    with pytest.raises(ConfigError, match="current folder"):
        check_removable(run_dir)
