"""Each fast loop has a directory and a core of its own, as far as there are cores."""
import os
import subprocess
import sys

import pytest

from seed.errors import ConfigError, InUse
from seed.live import claims, real_time


def test_each_loop_has_another_core_until_none_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    taken = [claims.take_core(tmp_path) for _ in range(3)]
    assert [core for _, core, _ in taken] == [2, 1, 2]   # the first is left to everything else
    assert [note for _, _, note in taken] == [
        "", "", "core 2 has another fast loop: both share it, and ticks may be late"]
    assert real_time.other_cores(2) == {0, 1}
    os.close(taken[0][0])
    again = claims.take_core(tmp_path)
    assert again[1:] == (2, "")
    for claim in (again[0], taken[1][0]):
        os.close(claim)
    assert claims.take_core(tmp_path / "none")[:2] == (None, 2)   # where nothing can be claimed


@pytest.mark.parametrize("isolated, cores, expected", [
    ("", {0}, [0]), ("", {0, 1}, [1]), ("", {2, 5, 7}, [7, 5]), ("1-2,9", {0, 1, 2, 3}, [2, 1]),
    ("3", {0, 1}, [3]), ("\n", {0, 3}, [3])])
def test_isolated_cores_come_first_and_one_is_left_to_the_others(tmp_path, monkeypatch, isolated,
                                                                 cores, expected):
    (tmp_path / "isolated").write_text(isolated)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert real_time.fast_cores(tmp_path / "isolated") == expected
    assert real_time.fast_cores(tmp_path / "none") == sorted(
        cores - {min(cores)} or cores, reverse=True)


def test_a_directory_is_free_when_all_that_hold_it_have_ended(tmp_path, monkeypatch):
    """A tick loop outlives its parent for as long as it takes to stop the motors."""
    claim = claims.take_directory(tmp_path / "live")
    holder = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[claim],
                              stdin=subprocess.PIPE)
    os.close(claim)
    monkeypatch.setattr(claims, "HOLDER_WAIT_S", 0.0)
    with pytest.raises(InUse, match="has a fast loop already"):
        claims.take_directory(tmp_path / "live")
    monkeypatch.setattr(claims, "HOLDER_WAIT_S", 60.0)
    holder.stdin.close()   # it ends while the next one waits
    os.close(claims.take_directory(tmp_path / "live"))
    holder.wait()


def test_what_is_no_file_is_refused_or_left_out_and_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    for name in (claims.LOCK, "seed-live-core-2"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=f"{claims.LOCK}: it is not a regular file: use another"):
        claims.take_directory(tmp_path)
    claim, core, note = claims.take_core(tmp_path)
    assert (core, note) == (1, "")
    os.close(claim)
