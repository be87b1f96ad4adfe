"""A candidate passes if it is better in what was lived and as good in what was known."""
import shutil
from dataclasses import replace

import numpy as np
import pytest

from seed.body import dynamics, open_body
from seed.body.dynamics import Dynamics, Transitions, action_inputs
from seed.body.episodes import EpisodeFolder
from seed.body.model_play import EPISODE_TICKS
from seed.body.stored import load
from seed.evaluation import TrainedBrain
from seed.evaluation import in_model
from seed.evaluation.figure import Figure, has_lost
from seed.evaluation.in_model import MIN_EXPLAINED, explained_variance, horizon, recorded_reward
from seed.live import gate
from seed.live.gate import ANYTHING, NOTHING, doubt, has_gained, is_level, judge
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
    assert not verdict.reason and figure.after > figure.before + figure.margin + figure.bias
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
    assert recorded_reward(stored, 6)[0] == pytest.approx(recorded_reward(stored, 1)[0] * 6,
                                                          rel=0.5)
    n, half = len(stored.rewards), len(stored.rewards) // 2
    two = stored._replace(rewards=np.where(np.arange(n) < half, -1.0, 2.0))   # another brain before
    (mean, chance), own = recorded_reward(two, 2), recorded_reward(two, 2, own_ticks=half)
    assert mean == pytest.approx(1.0, abs=0.2) and own == (4.0, 0.0)
    assert chance == pytest.approx(1.96 * 3 / np.sqrt(n * 0.9 / 2), rel=0.05)
    assert recorded_reward(two, 2, own_ticks=20) == (mean, chance)   # too few to tell
    fallen = stored._replace(terminated=stored.ends)   # by the body: nothing is unknown
    assert horizon(fallen) == EPISODE_TICKS
    figure, = judge(parent, child, "point", data).figures
    assert figure.margin + figure.bias < 0.5 * (figure.after - figure.before)


def test_what_the_model_is_wrong_by_does_not_allow_a_loss():
    half = Figure("point", "reward in the model", 10.0, 5.0, 0.1, bias=5.0, chance=0.2)
    assert has_lost(half) and not has_gained(half)
    assert has_lost(half._replace(after=9.5)) and not has_lost(half._replace(after=9.65))
    assert "wrong by 5 about the brain before, which gets 10 in it" in doubt(half)
    level = half._replace(after=10.0)
    for changes, is_told in (({}, True), ({"bias": 1.29}, False), ({"bias": 1.4}, True),
                             ({"after": 14.5}, False), ({"chance": 4.7}, False)):
        assert bool(doubt(level._replace(**changes))) == is_told, changes
    assert not has_gained(level._replace(after=14.5))   # not more than it is wrong by
    assert is_level([level._replace(bias=0.1)]) and not is_level([level])
    for number in (np.nan, np.inf):
        assert has_lost(level._replace(after=-number)) and doubt(level._replace(bias=number))
    assert has_lost(Figure("curriculum", "accuracy", 0.9, np.nan))


def test_a_model_that_is_wrong_about_the_parent_lets_none_pass_that_need_not_be_better(
        lived, monkeypatch):
    parent, _, data = lived
    monkeypatch.setattr(gate, "curriculum",
                        lambda *brains: [Figure("curriculum", "accuracy", 0.5, 0.9)])
    seen = [0.0]   # rewards of the parent, as recorded
    monkeypatch.setattr(in_model, "recorded_reward", lambda *what: (seen[-1], 0.0))
    before = judge(parent, parent, "point", data).figures[-1].before
    for better_in, shift in ((ANYTHING, 0.0), (NOTHING, 0.0), (ANYTHING, 1.0), (NOTHING, -1.0)):
        seen.append(before + shift)
        reason = judge(parent, parent, "point", data, better_in=better_in).reason
        assert "the model is wrong by 1 about" in reason if shift else not reason


def test_ends_that_can_be_foretold_do_not_stand_for_rewards_that_cannot(lived, monkeypatch):
    monkeypatch.setattr(dynamics, "FIT_TICKS", 64 * 1500)
    codec, rng, n = lived[0].bodies["point"].codec, np.random.default_rng(0), 4000
    x, choice = rng.uniform(-1.3, 1.3, (n, 1)), rng.integers(0, 2, (n, 1))
    following = x + 0.2 * (2 * choice - 1)
    actions, goodness = action_inputs(codec, choice), 1 - abs(following.ravel())

    def explained(rewards) -> float:
        ticks = Transitions(*(np.asarray(array, np.float32) for array in (
            x, x, actions, 0 * actions, following, rewards)), goodness < 0, np.zeros(n, bool))
        model = Dynamics(ticks.at(np.arange(3000)), codec, 0, "")
        model.fit(bool)
        return explained_variance(model, ticks.at(np.arange(3000, n)))
    assert explained(np.ones(n)) > 0.5   # as of a pole that falls: its ends alone tell brains apart
    assert explained(goodness) > 0.5
    assert explained(rng.permutation(goodness)) < MIN_EXPLAINED
