"""A candidate passes if it is better in what was lived and as good in what was known."""
import shutil
from dataclasses import replace

import numpy as np
import pytest

from seed.body import dynamics, open_body
from seed.body.episodes import EpisodeFolder
from seed.body.model_play import EPISODE_TICKS
from seed.body.stored import load
from seed.evaluation import TrainedBrain
from seed.live.gate import horizon, judge, recorded_reward
from seed.storage import RunDir
from tests.support.changed_point import (
    Point, Reversed, adapt, brain, recorded, shuffle_rewards)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A brain, one that has adapted to the reversed body, and the episodes of that."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(open_body.BODIES, "point", Point)
        monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 300)
        folder = tmp_path_factory.mktemp("lived")
        parent = brain(folder / "parent", 60)
        data = recorded(parent, folder / "data", "point")
        shutil.copytree(parent.path, folder / "child")
        adapt(RunDir(folder / "child"), data, 60)
        yield *(TrainedBrain.load(RunDir(folder / name), 1, lambda line: None)
                for name in ("parent", "child")), data


def test_what_is_better_passes_and_what_is_worse_is_refused(lived):
    parent, child, data = lived
    verdict = judge(parent, child, "point", data)
    figure, = verdict.figures
    assert not verdict.reason and figure.after > figure.before + figure.margin
    assert "it is not better" in judge(child, parent, "point", data).reason
    assert "it is not better" in judge(parent, parent, "point", data).reason


def test_episodes_with_shuffled_rewards_prove_nothing(lived, tmp_path):
    parent, child, data = lived
    shutil.copytree(data, tmp_path / "data")
    shuffle_rewards(tmp_path / "data")
    assert "does not tell what is rewarded" in judge(parent, child, "point",
                                                     tmp_path / "data").reason


def test_who_has_lost_another_body_or_the_curriculum_is_refused(lived, monkeypatch):
    parent, child, data = lived
    monkeypatch.setitem(open_body.BODIES, "worn", Reversed)
    params = {key: array for key, array in child.params.items()}
    tables = {key.replace("point", "worn"): array for key, array in params.items()
              if key.startswith("bodies.")}
    codec = replace(child.bodies["point"].codec, name="worn")
    bodies = {**child.bodies, "worn": child.bodies["point"]._replace(codec=codec)}
    before = replace(parent, params={**parent.params, **tables}, bodies=bodies)
    old = {key.replace("point", "worn"): array for key, array in parent.params.items()
           if key.startswith("bodies.")}
    after = replace(child, params={**params, **old}, bodies=bodies)
    verdict = judge(before, after, "point", data)
    assert verdict.reason.startswith("worn: return falls from ")
    assert verdict.figures[0].before > verdict.figures[0].after + 3


def test_the_horizon_is_what_was_recorded_whole(lived):
    """Episodes of ten ticks are cut by a clock, which a model does not know."""
    parent, child, data = lived
    stored = load(EpisodeFolder(data), parent.bodies["point"].codec, 0.99)
    assert horizon(stored) == 6
    assert recorded_reward(stored, 6) == pytest.approx(recorded_reward(stored, 1) * 6, rel=0.5)
    n, half = len(stored.rewards), len(stored.rewards) // 2
    two = stored._replace(rewards=np.where(np.arange(n) < half, -1.0, 2.0))   # another brain before
    assert recorded_reward(two, 2) == pytest.approx(1.0, abs=0.2)
    assert recorded_reward(two, 2, own_ticks=half) == 4.0
    assert recorded_reward(two, 2, own_ticks=1) == recorded_reward(two, 2)   # none is whole
    fallen = stored._replace(terminated=stored.ends)   # by the body: nothing is unknown
    assert horizon(fallen) == EPISODE_TICKS
    figure, = judge(parent, child, "point", data).figures
    assert figure.margin < 0.5 * (figure.after - figure.before)
