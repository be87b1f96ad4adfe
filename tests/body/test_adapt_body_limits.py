"""A body that has changed has to be acted in better, else the brain stays as it was."""
import shutil

import pytest

from seed.__main__ import main
from seed.body import dynamics, open_body
from seed.errors import REFUSED, StopReason
from seed.evaluation import in_model
from seed.evaluation.acceptance import Limits
from seed.storage import RunDir, checkpoint
from seed.training import pipeline
from seed.training.stop_signals import StopSignals
from tests.support.changed_point import Point, Reversed, adapt, brain, recorded, shuffle_rewards


@pytest.fixture(autouse=True)
def bodies(monkeypatch):
    monkeypatch.setitem(open_body.BODIES, "point", Point)
    monkeypatch.setitem(open_body.BODIES, "worn", Reversed)
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 300)
    monkeypatch.setattr(in_model, "PAIRS", 128)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A brain that acts well, and episodes of the body that has changed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(open_body.BODIES, "point", Point)
        folder = tmp_path_factory.mktemp("known")
        run_dir = brain(folder / "run", 60)
        yield run_dir, recorded(run_dir, folder / "data")


@pytest.fixture
def run_dir(known, tmp_path) -> RunDir:
    return RunDir(shutil.copytree(known[0].path, tmp_path / "run"))


def test_what_is_better_in_another_model_passes(run_dir, known):
    result = adapt(run_dir, known[1], 60, limits=Limits())
    assert not result.refusal and "worn" in checkpoint.read_meta(run_dir.checkpoint)["bodies"]


def test_what_is_not_better_is_refused_and_the_brain_keeps_every_bit(run_dir, known, capsys):
    before = run_dir.checkpoint.read_bytes()
    result = adapt(run_dir, known[1], 2, lr=1e-9, limits=Limits())
    assert result.refusal.startswith("worn is not learnt: its reward in the model is ")
    assert run_dir.checkpoint.read_bytes() == before and not run_dir.adaptation.path.exists()
    assert main(["adapt", f"--run-dir={run_dir}", f"--data={known[1]}", "--steps=1", "--lr=1e-9",
                 "--threads=1"]) == REFUSED
    assert "the brain stays as it was" in capsys.readouterr().err.splitlines()[-1]
    assert run_dir.checkpoint.read_bytes() == before
    assert adapt(run_dir, known[1], 2, lr=1e-9, limits=Limits(0, 100)).refusal == ""


def test_shuffled_rewards_are_refused(run_dir, known, tmp_path):
    data = shutil.copytree(known[1], tmp_path / "data")
    shuffle_rewards(data)
    before = run_dir.checkpoint.read_bytes()
    assert "data does not tell what is rewarded" in adapt(run_dir, data, 4,
                                                          limits=Limits()).refusal
    assert run_dir.checkpoint.read_bytes() == before


def test_a_body_that_is_played_has_to_have_a_better_return(run_dir):
    before = run_dir.checkpoint.read_bytes()
    result = adapt(run_dir, "", 1, lr=1e-9, body="worn", limits=Limits())
    assert result.refusal.startswith("worn is not learnt: its return is ")
    assert run_dir.checkpoint.read_bytes() == before


def test_episodes_that_grow_while_they_are_learnt_are_learnt_in_a_second_run(
        run_dir, known, tmp_path, capsys):
    data = shutil.copytree(known[1], tmp_path / "data")
    whole = RunDir(shutil.copytree(run_dir.path, tmp_path / "whole"))
    adapt(whole, data, 6)
    file, signals = next(data.glob("*.jsonl")), StopSignals()
    lines, take_step = file.read_text().splitlines(True), pipeline.loop.Session.take_step
    with pytest.MonkeyPatch.context() as patch:
        def recording(session, *args):
            with open(file, "a", encoding="utf-8") as more:
                more.writelines(lines[:11])
            (data / "episodes-99999.jsonl").write_text("".join(lines[:22]) + lines[22][:20])
            signals.stop.set()
            return take_step(session, *args)
        patch.setattr(pipeline.loop.Session, "take_step", recording)
        assert adapt(run_dir, data, 6, signals=signals).train.reason is StopReason.STOPPED
    capsys.readouterr()
    logged = []
    assert adapt(run_dir, data, 6, log=logged.append).train.finished
    assert "resuming from step 1" in capsys.readouterr().err
    assert "has grown since this adaptation began" in logged[-1]
    assert run_dir.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    assert adapt(run_dir, data, 6).train.finished   # the rest
    assert adapt(run_dir, data, 6).train is None
