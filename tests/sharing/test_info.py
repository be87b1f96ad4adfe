"""seed info: a profile, a run, a checkpoint, an exported file; and what is none of them."""
import hashlib
import json
from pathlib import Path

import pytest

from seed import errors
from seed.__main__ import main
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.c_source import MARK
from seed.profile_file import load_profile
from seed.runtime import describe, seal
from seed.storage import RunDir
from seed.wavecore.layout import count_params
from tests.support import acting_brains, brains
from tests.support.brains import exported
from tests.support.tflite import SMALL


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> RunDir:
    path = tmp_path_factory.mktemp("brain")
    brains.untrained(path, "toy", *SMALL, "loop.rate_hz=50", "loop.max_tick_ms=10")
    return RunDir(path)


@pytest.fixture
def info(capsys):
    """(exit code, standard output, lines of standard error)."""
    def run(*arguments) -> tuple[int, str, list[str]]:
        code = main(["info", *map(str, arguments)])
        output = capsys.readouterr()
        return code, output.out, output.err.splitlines()
    return run


def test_a_profile_that_is_named_is_described_and_not_the_run_directorys_brain(run_dir, info):
    """A bug report: `info --profile seed` showed the brain."""
    for name in ("seed", "fast"):
        code, text, _ = info("--profile", name, "--run-dir", run_dir, "--json")
        facts = json.loads(text)
        assert code == 0 and (facts["profile"], facts["step"]) == (name, None)
        assert facts["parameters"] == count_params(load_profile(name).model)


def test_a_profile_that_is_not_there_is_refused_whatever_brain_is(run_dir, info):
    """A bug report: `info --profile nope` ended with 0."""
    code, text, lines = info("--profile", "nope", "--run-dir", run_dir)
    assert (code, text, len(lines)) == (errors.BAD_INPUT, "", 1)
    assert lines[0].startswith("seed: profile 'nope' not found: use control, fast")


def test_a_run_and_its_checkpoint_are_described_alike(run_dir, info):
    facts = json.loads(info(run_dir, "--json")[1])
    assert facts == json.loads(info("--run-dir", run_dir, "--json")[1])
    of_file = json.loads(info(run_dir.checkpoint, "--json")[1])
    assert {**of_file, "run": str(run_dir)} == {**facts, "file": str(run_dir.checkpoint)}
    assert facts["sha256"] == hashlib.sha256(run_dir.checkpoint.read_bytes()).hexdigest()
    assert (facts["step"], facts["layers"], facts["loop"]["rate_hz"]) == (7, "SSA", 50)
    text = info(run_dir)[1]
    assert "\nsha256      " in text and "\nlayers      SSA\n" in text and "rate_hz" in text
    assert "\nmodel\n  d_model  " in text and "{" not in text


def test_an_exported_file_tells_its_origin_its_runtimes_and_its_scores(run_dir, info, tmp_path):
    path, brain = tmp_path / "f.tflite", brains.trained(run_dir.checkpoint)
    exported(brain, path, target="litert", weights="int8")
    facts = json.loads(info(path, "--json")[1])
    assert facts["checkpoint"] == hashlib.sha256(run_dir.checkpoint.read_bytes()).hexdigest()
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["blake2b"] == describe(path.read_bytes(), "f")["blake2b"]
    assert facts["runtimes"] == {"ai-edge-litert": "2.1.6"} and facts["verified"] == "not verified"
    assert (facts["weights"], facts["target"], facts["step"]) == ("int8", "litert", 7)
    assert facts["here"].startswith("ai-edge-litert 2.") and facts["bytes"] == path.stat().st_size
    rows = [{"task": "copy", "level": n, "correct": n, "count": 4 * n ** 2} for n in (1, 2)]
    path.write_bytes(BrainFile(brain, Options()).tobytes(rows))
    assert json.loads(info(path, "--json")[1])["scores"] == {"copy": 3 / 16}
    assert "\nscores, mean of levels\n  copy                    18.8 %\n" in info(path)[1]


def test_a_run_tells_whether_its_exported_file_is_of_its_brain(run_dir, info, tmp_path):
    brains.untrained(tmp_path, "toy", *SMALL)
    here = RunDir(tmp_path)
    exported(brains.trained(here.checkpoint), here.exported_brain)
    assert "brain.tflite, of this checkpoint" in info(here)[1]
    rows = [{"task": "copy", "level": 1, "correct": 1, "count": 4}]
    here.exported_brain.write_bytes(
        BrainFile(brains.trained(here.checkpoint), Options()).tobytes(rows))
    assert json.loads(info(here, "--json")[1])["scores"] == {"copy": 0.25}
    exported(brains.trained(run_dir.checkpoint), here.exported_brain)
    assert "brain.tflite, of another checkpoint: export it again" in info(here)[1]
    here.exported_brain.write_bytes(here.exported_brain.read_bytes()[:-9])
    code, text, _ = info(here)   # the run itself is whole
    assert code == 0 and "brain.tflite is damaged: its checksum is wrong" in text


def test_the_spaces_of_bodies_are_told(info, tmp_path):
    acting_brains.file_of(acting_brains.untrained(), tmp_path)
    facts = json.loads(info(tmp_path / "brain.tflite", "--json")[1])
    cartpole = facts["bodies"]["cartpole"]
    assert len(cartpole["observation"]) == 4 and list(map(len, cartpole["action"])) == [2]
    assert cartpole["form"] == "index" and cartpole["returns"][0] <= 0 < cartpole["returns"][1]
    text = info(tmp_path / "brain.tflite")[1]
    assert "cartpole" in text and "out index of 2 choices" in text


def test_the_decisions_of_a_life_are_told(run_dir, info):
    live = run_dir.path / "live"
    live.mkdir()
    rows = [{"decision": "first", "brain": "aa", "generation": 1, "time": "T1"},
            {"decision": "promoted", "brain": "bb", "parent": "aa", "generation": 2, "time": "T2"}]
    (live / "lineage.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = json.loads(info(run_dir, "--json")[1])
    assert facts["lineage"] == {"T1": "first aa", "T2": "promoted bb from aa"}
    assert not (live / "brains").exists()   # nothing is made by looking


def hostile(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_is_no_brain_is_one_line_and_exit_code_2(run_dir, info, tmp_path):
    good = exported(brains.trained(run_dir.checkpoint), tmp_path / "good").read_bytes()
    wrong = [(tmp_path / "none", "is not there: name"), (tmp_path, "has no brain: train one"),
             (hostile(tmp_path / "a", b"PK\3\4" + b"x" * 99), "make a run of it with seed unpack"),
             (hostile(tmp_path / "brain.c", MARK + b"x" * 99), "is a C source of a brain: the com"),
             (hostile(tmp_path / "p.toml", b"[model]\n" * 9), "describe it with --profile"),
             (hostile(tmp_path / "e", b"x" * 99), "is not a whole safetensors file"),
             (hostile(tmp_path / "b", good[:-5]), "its checksum is wrong"),
             (hostile(tmp_path / "c", seal(good.replace(b'"holdout":null', b'"holdout":1234'))),
              "c has a wrong description: export it again"),
             (hostile(tmp_path / "d", seal(good.replace(b'"n_layers":3', b'"n_layers":{', 1))),
              "no JSON")]
    for path, message in wrong:
        code, text, lines = info(path)
        assert (code, text, len(lines)) == (errors.BAD_INPUT, "", 1) and message in lines[0], lines
    code, _, lines = info(run_dir, "--profile", "toy")
    assert code == errors.BAD_INPUT and "are two things: describe one" in lines[0]


def test_a_run_directory_without_a_brain_is_not_told_as_a_profile(info, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, reason in (("empty", "has no brain"), ("typo", "is not there")):
        code, text, lines = info("--run-dir", tmp_path / name)
        assert (code, text) == (2, "") and f"{tmp_path / name} {reason}" in lines[-1]
