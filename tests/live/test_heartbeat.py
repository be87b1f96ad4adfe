"""A heartbeat goes into a FIFO or a device, and into nothing else."""
import os
import select

import pytest

from seed.live.heartbeat import Heartbeat


def read(descriptor: int) -> bytes:
    return os.read(descriptor, 100)


def test_a_fifo_is_opened_when_somebody_reads_and_again_after_that(tmp_path):
    path = tmp_path / "beats"
    os.mkfifo(path)
    heartbeat = Heartbeat(str(path))
    assert not heartbeat.note
    heartbeat.beat()   # nobody reads
    for _ in range(2):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        heartbeat.open()
        heartbeat.beat()
        assert read(reader) == b"\n"
        os.close(reader)
        heartbeat.beat()   # it has gone
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    heartbeat.open()
    heartbeat.end()
    assert read(reader) == b""   # no V: a reader counts beats


def test_a_reader_that_is_stuck_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "beats")
    reader = os.open(tmp_path / "beats", os.O_RDONLY | os.O_NONBLOCK)
    heartbeat = Heartbeat(str(tmp_path / "beats"))
    for _ in range(2 ** 17):
        heartbeat.beat()
    assert read(reader) == b"\n" * 100
    heartbeat.end()
    os.close(reader)


def test_a_device_is_disarmed_at_a_clean_end():
    master, slave = os.openpty()
    heartbeat = Heartbeat(os.ttyname(slave))
    heartbeat.beat(b"x")
    heartbeat.end()
    received = b""   # a terminal may hand over one after the other
    while len(received) < 2 and select.select([master], [], [], 10)[0]:
        received += read(master)
    assert received == b"xV"
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("make_fn, why", [
    (lambda path: None, "No such file or directory: make a FIFO there with mkfifo"),
    (lambda path: path.write_text("kept"), "it is neither a FIFO nor a device: make one"),
    (lambda path: path.mkdir(), "it is neither a FIFO nor a device: make one")])
def test_what_is_neither_is_told_and_left_as_it_is(tmp_path, make_fn, why):
    path = tmp_path / "beats"
    make_fn(path)
    was_there = path.exists()
    heartbeat = Heartbeat(str(path))
    heartbeat.open()
    heartbeat.beat()
    heartbeat.end()
    assert heartbeat.note.startswith(f"no heartbeat: {path}: {why}")
    assert path.exists() == was_there and (not path.is_file() or path.read_text() == "kept")


def test_without_a_path_there_is_none():
    heartbeat = Heartbeat("")
    heartbeat.open()
    heartbeat.beat()
    heartbeat.end()
    assert heartbeat.note == ""
