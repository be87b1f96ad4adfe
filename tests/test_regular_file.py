"""Files are opened in one place, and JSON of others is read by one reader."""
import json
import os

import pytest

from seed import regular_file
from seed.regular_file import parse_json, read_bytes
from seed.storage import atomic_file
from seed.terminal_text import escaped, one_line


@pytest.mark.parametrize("text", [
    "[" * 10 ** 5, '{"a":' * 10 ** 5, "NaN", "-Infinity", "1e999", "1" + "0" * 400, "9" * 10 ** 5,
    '"\\ud800"', '{"\\udc00": 1}', b"\xff", b"\xed\xa0\x80", "", "{", "\0"], ids=lambda text: str(
        text)[:12].replace("\0", "NUL"))
def test_json_that_is_no_json_is_one_kind_of_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("value", [
    {"a": [1, -2.5, None, True]}, "\U0001f600", "\udcff", 2 ** 63 - 1], ids=ascii)
def test_what_a_run_writes_is_read(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


def test_a_fifo_a_device_and_a_directory_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        with pytest.raises(OSError) as error:
            read_bytes(path)
        assert error.value.filename == str(path)
    (tmp_path / "large").write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="larger than 99 bytes"):
        read_bytes(tmp_path / "large", 99)
    assert b"".join(regular_file.blocks(tmp_path / "large")) == read_bytes(tmp_path / "large")


def test_a_write_replaces_a_link_and_never_its_target(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"mine")
    link.symlink_to(target)
    atomic_file.write(link, b"new")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"mine", b"new", False)
    atomic_file.copy(target, tmp_path / "copy")
    atomic_file.keep_beginning(target, 2, b"!")
    atomic_file.move(link, tmp_path / "moved")
    assert target.read_bytes() == b"mi!" and (tmp_path / "copy").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "moved", "target"]


def test_text_of_others_cannot_steer_a_terminal():
    assert escaped("a\tb\nc é ☃") == "a\tb\nc é ☃"
    assert escaped("\x1b[31m\x07\x9b\u202e\ud800\r") == r"\x1b[31m\x07\x9b\u202e\ud800\r"
    assert one_line("a\nb\x85c") == "a b c"
    assert len(one_line("x" * 10 ** 6)) < 1100
