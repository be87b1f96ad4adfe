"""The block's layout is a contract; what it tells about deadlines is right."""
import os
import stat

import pytest

from seed.errors import ConfigError
from seed.live import shared_block
from seed.live.shared_block import BINS, FIRST_LATENESS, Block, bin_end_us, bin_of, quantile_us


@pytest.fixture
def block(tmp_path):
    yield Block.create(tmp_path)
    shared_block.remove(tmp_path)


def test_version_2_has_these_words_in_these_places():
    assert shared_block.VERSION == 2 and shared_block.WORDS == 512 and BINS == 88
    assert shared_block.AT == {
        "pid": 8, "state": 9, "fault": 10, "started_ns": 11, "heartbeat_ns": 12, "ticks": 13,
        "missed": 14, "late": 15, "worst_late_ns": 16, "worst_tick_ns": 17, "late_brain": 18,
        "late_body": 19, "faults": 20, "episodes": 21, "last_return": 22, "surprise": 23,
        "value": 24, "clipped": 25, "absent": 26, "clamped": 27, "slewed": 28, "generation": 29,
        "swaps": 30, "swaps_anew": 31, "period_ns": 32, "episode_return": 33, "episode_ticks": 34,
        "steps": 35, "total_reward": 36, "latched": 37, "action_numbers": 38,
        "stop": 64, "next_generation": 65, "hold": 66, "clear": 67, "explore": 68}
    assert (shared_block.FIRST_LATENESS, shared_block.FIRST_TICK_TIME) == (96, 184)
    assert (shared_block.FIRST_ACTION, shared_block.FIRST_FAULT_TIME) == (272, 480)


def test_the_next_loop_reads_the_last_action_and_the_faults(block, tmp_path):
    reader = Block.open(tmp_path)
    assert reader.action is None and reader.fault_times == []
    block.action, block.fault_times = [0.25, -1.0], [10.5, 20.0]
    assert reader.action == [0.25, -1.0] and reader.fault_times == [10.5, 20.0]
    block.action, block.fault_times = [1.0] * 208, ()
    assert reader.action == [1.0] * 208 and reader.fault_times == []
    block.fault_times = [7.0]
    block.action = [1.0] * 209   # more than there is room for
    assert reader.action is None and reader.fault_times == [7.0]


def test_two_processes_see_each_others_words(block, tmp_path):
    reader = Block.open(tmp_path)
    block["surprise"], block["ticks"] = 1.5, 7
    reader["stop"] = 1
    assert reader["surprise"] == 1.5 and reader["ticks"] == 7 and block["stop"] == 1
    status = (shared_block.folder_of(tmp_path) / "block").stat()
    assert status.st_size == 8 * shared_block.WORDS
    assert stat.S_IMODE(shared_block.folder_of(tmp_path).stat().st_mode) == 0o700


def test_bins_are_in_order_and_a_quarter_wide():
    ends = [bin_end_us(i) for i in range(BINS)]
    assert ends == sorted(set(ends)) and ends[-1] > 2_000_000
    for us in (*range(5000), 10 ** 6, 2 ** 21 - 1):
        index = bin_of(us)
        assert us < ends[index] <= max(us + 1, 1.25 * us + 1) and (not index
                                                                   or us >= ends[index - 1])
    assert bin_of(10 ** 9) == BINS - 1


def test_quantiles_bound_what_was_counted(block):
    for us in [10] * 990 + [500] * 9 + [9000]:
        block.count(FIRST_LATENESS, us)
    assert [quantile_us(block.lateness(), q) for q in (0.5, 0.99, 0.999, 1)] == [12, 12, 512, 10240]
    assert quantile_us([0] * BINS, 0.5) == 0


def test_slip_is_what_has_happened_since_the_last_look(block):
    block["ticks"], block["missed"], block["late"], block["heartbeat_ns"] = 100, 3, 2, 10 ** 9
    first = block.slip(3 * 10 ** 9)
    assert first[:3] == (100, 3, 2) and first.silent_s == 2 and first.fraction == 5 / 103
    block["ticks"] = 150
    block.count(FIRST_LATENESS, 700)
    second = block.slip(10 ** 9)
    assert second == (50, 0, 0, 768, 0.0, 0) and second.fraction == 0


def test_deadlines_that_pass_without_a_tick_are_told_before_the_next_one(block):
    assert block.slip(10 ** 9).overdue == 0   # no tick has begun yet
    block["heartbeat_ns"], block["period_ns"], block["ticks"] = 10 ** 9, 20_000_000, 4
    now_ns = [10 ** 9 + ms * 10 ** 6 for ms in (0, 39, 40, 61, 3000, 0)]
    slips = [block.slip(ns) for ns in now_ns]
    assert [slip.overdue for slip in slips] == [0, 0, 1, 2, 149, 0]
    assert slips[4].fraction == 1 and slips[5].fraction == 0


@pytest.mark.parametrize("data", [b"", b"short", bytes(4096), b"seedlive" + bytes(4088)])
def test_what_is_no_block_of_this_version_is_refused(tmp_path, data):
    (tmp_path / "block").write_bytes(data)
    with pytest.raises(ConfigError, match="start seed live"):
        Block.open(tmp_path)


def test_a_new_block_takes_the_place_of_what_was_left_behind(tmp_path):
    Block.create(tmp_path)["ticks"] = 9
    left = shared_block.folder_of(tmp_path)
    assert Block.create(tmp_path)["ticks"] == 0 and not left.exists()
    shared_block.remove(tmp_path)
    assert not os.path.lexists(tmp_path / "block")


def test_a_link_that_leads_elsewhere_is_replaced_and_its_target_stays(tmp_path):
    other_file = tmp_path / "photos" / "block"
    other_file.parent.mkdir()
    other_file.write_text("mine")
    (tmp_path / "block").symlink_to(other_file)
    Block.create(tmp_path)
    shared_block.remove(tmp_path)
    assert other_file.read_text() == "mine"


def test_what_loops_that_were_killed_have_left_in_memory_is_removed(tmp_path):
    memory, live = tmp_path / "memory", tmp_path / "live"
    for folder in (memory, live):
        folder.mkdir()
    used = Block.create(live)
    folders = [memory / f"{shared_block.PREFIX}{name}" for name in ("left", "new")]
    for folder in folders:
        folder.mkdir()
        (folder / "block").write_bytes(b"words" if folder.name[-3:] != "new" else b"")
    (memory / "seed-live-core-1").touch()
    shared_block.remove_abandoned(memory)
    assert not folders[0].exists() and folders[1].exists()
    assert (memory / "seed-live-core-1").exists()
    shared_block.remove_abandoned(shared_block.folder_of(live).parent)
    assert shared_block.folder_of(live).exists() and used["ticks"] == 0
    shared_block.remove(live)


def test_a_loop_in_a_copy_of_the_directory_leaves_that_of_the_first_alone(tmp_path):
    """As of a backup that was made while a brain lived."""
    for name in ("first", "copy"):
        (tmp_path / name).mkdir()
    first = Block.create(tmp_path / "first")
    os.symlink(os.readlink(tmp_path / "first/block"), tmp_path / "copy/block")
    second = Block.create(tmp_path / "copy")
    first["ticks"] = 3
    assert Block.open(tmp_path / "first")["ticks"] == 3 and second["ticks"] == 0
    for name in ("first", "copy"):
        shared_block.remove(tmp_path / name)


def test_a_fifo_in_place_of_a_block_is_not_waited_for(tmp_path):
    folder = tmp_path / f"{shared_block.PREFIX}{'0' * 16}"
    folder.mkdir()
    os.mkfifo(folder / "block")
    shared_block.remove_abandoned(tmp_path)
    assert (folder / "block").exists()
    (tmp_path / "block").symlink_to(folder / "block")
    with pytest.raises(ConfigError, match="it is not a regular file; start seed live"):
        Block.open(tmp_path)
