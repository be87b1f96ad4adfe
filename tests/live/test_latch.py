"""What is latched stays so until a person clears it, also with a command, also if it is damaged."""
import os

import pytest

from seed.__main__ import main
from seed.live import latch, shared_block
from seed.live.safety import Fault
from seed.live.shared_block import Block


def test_it_says_which_fault_and_when(tmp_path):
    assert latch.read(tmp_path) is None and not latch.clear(tmp_path)
    latch.write(tmp_path, Fault.BODY_ERROR, "body error: bus")
    latched = latch.read(tmp_path)
    assert latched.fault == Fault.BODY_ERROR and latched.text.endswith("Z: body error: bus")
    assert latch.clear(tmp_path) and latch.read(tmp_path) is None


@pytest.mark.parametrize("data", [b"", b"\0" * 50, b"[]", b'{"fault": 99, "text": "", "time": ""}'])
def test_a_damaged_one_latches_too(tmp_path, data):
    (tmp_path / latch.NAME).write_bytes(data)
    assert latch.read(tmp_path).text == f"{tmp_path / latch.NAME} is damaged"


def test_the_command_clears_what_runs_and_what_does_not(tmp_path, capsys):
    (tmp_path / "live").mkdir()
    latch.write(tmp_path / "live", Fault.BODY_ERROR, "body error: bus")
    assert main(["live", f"--run-dir={tmp_path}", "--clear"]) == 0
    assert capsys.readouterr().out == "cleared: the brain may act again\n"
    block = Block.create(tmp_path / "live")
    assert main(["live", f"--run-dir={tmp_path}", "--clear"]) == 0
    assert capsys.readouterr().out == "nothing is latched\n"
    block["latched"] = 1   # on a full disk there is no file
    assert main(["live", f"--run-dir={tmp_path}", "--clear", "--json"]) == 0
    assert capsys.readouterr().out == '{"cleared": true}\n' and block["clear"] == 2
    assert not block["latched"]   # for a tick loop that starts now
    shared_block.remove(tmp_path / "live")


def test_a_life_needs_a_body(tmp_path, capsys):
    assert main(["live", f"--run-dir={tmp_path}"]) == 2
    assert "--body is missing: name the body" in capsys.readouterr().err


def test_whatever_is_there_latches_it(tmp_path):
    path = tmp_path / latch.NAME
    for make_fn in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("nowhere")):
        make_fn()
        assert latch.read(tmp_path).text == f"{path} is damaged"
        path.rmdir() if path.is_dir() else path.unlink()


def test_where_nothing_has_lived_nothing_is_cleared(tmp_path, capsys):
    assert main(["live", f"--run-dir={tmp_path}", "--clear"]) == 2
    assert f"{tmp_path} has no brain that lives: start one" in capsys.readouterr().err
