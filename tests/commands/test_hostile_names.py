"""Names of directories, profiles and brains come from anybody: they neither steer the terminal nor
add a line to what a command tells."""
import json
import os
import re
from pathlib import Path

import pytest

from seed.__main__ import main
from seed.profile_file import load_profile
from seed.storage import RunDir
from tests.support import brains
from tests.support.tflite import SMALL

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")   # but for tabs and ends of lines
FORGED = "sha256 of another brain"
NAME = f"\x1b]0;mine\x07\x9b2J\u202e\r\t\n{FORGED}\n"


@pytest.fixture
def run_dir(tmp_path, monkeypatch) -> RunDir:
    """A brain whose directory, profile and history have hostile names."""
    monkeypatch.chdir(tmp_path)
    path = Path("runs") / NAME.replace("/", "")
    profile = load_profile("toy", SMALL)
    object.__setattr__(profile, "name", NAME)
    brains.save(path, profile, brains.weights(profile))
    run_dir = RunDir(path)
    run_dir.status.write_text(json.dumps({"state": NAME, "profile": NAME}))
    run_dir.metrics.write_text(json.dumps({"kind": "step", "step": 1, "loss": 2.0}) + "\n" +
                               json.dumps({"kind": "step", "step": 7, "loss": 1.0}) + "\n")
    (path / "live").mkdir()
    (path / "live/lineage.jsonl").write_text(json.dumps(
        {"decision": "first", "brain": NAME, "generation": 1, "time": NAME, "reason": NAME,
         "parent": NAME}) + "\n")
    return run_dir


class Terminal:
    """Of a person who agrees to nothing."""

    def isatty(self) -> bool:
        return True

    def readline(self, *args) -> str:
        return "n\n"


@pytest.mark.parametrize("words", [
    "runs", "rm RUN", "rm RUN --yes", "info", "info RUN", "lineage RUN", "curves", "report",
    "report RUN --html=RUN", "pack --out=brain.seedpack", "pack --out=RUN", "adapt RUN --undo",
    "adapt RUN --data=NAME.jsonl", "generate RUN --prompt=a --task=NAME", "unpack NAME",
    "kernels --profile=NAME --out=RUN", "eval RUN --data=NAME", "export RUN --out=RUN",
    "grow RUN --to=NAME", "runs NAME", "run NAME --prompt=a", "chat NAME", "runs --NAME",
    "curves --what=NAME", "NAME"])
def test_a_hostile_name_reaches_no_terminal_and_adds_no_line(run_dir, capsys, monkeypatch, words):
    monkeypatch.setattr("sys.stdin", Terminal())
    try:
        main([word.replace("RUN", str(run_dir)).replace("NAME", NAME) for word in words.split()])
    except SystemExit:   # of a parser
        pass
    told = "".join(capsys.readouterr())
    assert told and not RAW.search(told)
    assert not any(line.startswith(FORGED) for line in told.splitlines())
    assert os.path.exists(run_dir.path) or "--yes" in words
