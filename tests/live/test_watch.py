"""A promoted brain stays, or is rolled back as soon as it does worse than its parent ever did."""
import numpy as np
import pytest

from seed.live.safety import Fault
from seed.live.watch import (
    LONG_WATCH, MAX_WINDOWS, WATCH_TICKS, WINDOW_TICKS, Bounds, Lived, Watch)


def lived_through(watch: Watch, returns: list[float], length: int, episodes: int = 0,
                  first: int = 0) -> tuple[str, int]:
    """The first reason to roll back, and the ticks until then; a look every ten ticks."""
    ticks = first
    for total in returns:
        for t in range(0, length, 10):
            reason = watch.look(Lived(ticks + t, episodes, 0.0, total * t / length))
            if reason:
                return reason, ticks + t - first
        episodes, ticks = episodes + 1, ticks + length
        reason = watch.look(Lived(ticks, episodes, total, 0.0))
        if reason:
            return reason, ticks - first
    return "", ticks - first


def watching(returns: list[float], length: int) -> Watch:
    watch = Watch()
    assert lived_through(watch, returns, length)[0] == ""
    watch.begin(length * len(returns))
    return watch


def test_a_brain_that_falls_at_once_is_rolled_back_within_200_ticks():
    watch = watching([500.0, 480.0, 490.0], 500)
    reason, tick = lived_through(watch, [12.0] * 20, 12, 3, 1500)
    assert "2 episodes ended below 478" in reason and tick <= 200


def test_a_return_that_falls_is_not_waited_for():
    watch = watching([-150.0, -200.0], 200)
    reason, tick = lived_through(watch, [-1600.0], 200, 2, 400)
    assert "has fallen to" in reason and tick <= 40


def test_one_bad_episode_or_one_like_the_parent_s_worst_is_borne():
    watch = watching([100.0, 300.0, 500.0], 500)
    assert lived_through(watch, [90.0, 20.0, *[400.0] * 5], 500, 3, 1500)[0] == ""
    assert watch.is_over(1500 + WATCH_TICKS) and not watch.is_over(1499 + WATCH_TICKS)
    watch.end()
    assert not watch.is_watching and not watch.is_over(10 ** 9)


def test_the_watch_goes_on_until_episodes_have_ended_well():
    watch = watching([100.0, 300.0], 500)
    watch.look(Lived(5000, 2, 300.0, 50.0))
    assert not watch.is_over(5000)
    assert Watch().is_watching is False
    first = Watch()
    first.begin(0)   # nothing is known of the parent: the ticks alone count
    assert not first.is_over(WATCH_TICKS - 1) and first.is_over(WATCH_TICKS)


def ticks_until_it_falls(watch: Watch, first: int, n_ticks: int, reward: float = -1.0,
                         surprise: float = 2.0, limited: float = 0.0, is_acting: bool = True,
                         seed: int = 0, total: float = 0.0) -> tuple[str, int]:
    """Of one long episode that never ends: means with noise, a look every ten ticks. The reason,
    and the ticks from `first` on."""
    rng, n_limited = np.random.default_rng(seed), 0.0
    for tick in range(first, first + n_ticks, 10):
        total += float(rng.normal(reward, 0.3, 10).sum())
        n_limited += 10 * limited
        reason = watch.look(Lived(tick, 0, 0.0, total, tick, total, float(
            rng.normal(surprise, 0.1)), int(n_limited), is_acting))
        if reason:
            return reason, tick - first
    return "", n_ticks


def long_lived() -> tuple[Watch, int]:
    """One whose parent has lived so for a while."""
    watch, n = Watch(), WINDOW_TICKS * MAX_WINDOWS
    assert ticks_until_it_falls(watch, 0, n)[0] == ""
    watch.begin(n)
    return watch, n


@pytest.mark.parametrize("lives, reason", [
    ({"reward": -2.0}, "mean reward of 50 ticks"), ({"surprise": 5.0}, "surprises it by"),
    ({"limited": 0.9}, "% of its actions are beyond the limits")])
def test_what_is_worse_than_ever_in_a_long_episode_is_rolled_back_within_200_ticks(lives, reason):
    for seed in range(20):
        for good_ticks in (0, 420):   # then it begins to fail
            watch, n = long_lived()
            assert ticks_until_it_falls(watch, n, good_ticks, seed=seed) == ("", good_ticks)
            told, ticks = ticks_until_it_falls(watch, n + good_ticks, 1000, seed=seed, **lives)
            assert reason in told and ticks <= 190


def test_as_good_as_the_parent_is_not_rolled_back():
    for seed in range(100):
        watch, n = long_lived()
        assert ticks_until_it_falls(watch, n, WATCH_TICKS, seed=seed + 100)[0] == ""
        assert watch.is_over(n + WATCH_TICKS)


def test_while_the_brain_is_held_back_nothing_is_its_fault():
    watch, n = long_lived()
    assert ticks_until_it_falls(watch, n, 2000, reward=-9.0, is_acting=False)[0] == ""


def test_a_brain_that_raises_or_ends_fails_at_once_and_one_that_is_late_the_second_time():
    watch, n = long_lived()
    assert watch.look_at_fault(Fault.BODY_STALLED, "hangs") == ""
    assert watch.look_at_fault(Fault.BRAIN_ERROR, "NaN") == "NaN"
    assert watch.look_at_fault(Fault.BRAIN_ENDED, "ended") == "ended"
    assert watch.look_at_fault(Fault.BRAIN_LATE, "late") == ""
    assert watch.look_at_fault(Fault.BRAIN_LATE, "late") == "late"


def test_an_episode_of_the_parent_is_none_of_its_child():
    watch = watching([500.0, 480.0], 500)
    watch.look(Lived(1010, 3, 1.0, 0.0))   # it ended before the child acted
    assert lived_through(watch, [1.0, 490.0], 200, 3, 1200)[0] == ""


def test_bounds_outlive_the_process():
    watch, _ = long_lived()
    fields = watch.bounds._asdict()
    assert Bounds.from_dict(fields) == watch.bounds and None not in list(fields.values())[1:]
    assert Bounds.from_dict({"least_reward": "x"}) == Bounds()


@pytest.mark.parametrize("held", [{"is_acting": False}, {"faults": 1}])
def test_an_episode_in_which_the_brain_was_held_back_does_not_tell_of_it(held):
    """A robot falls while a person holds it, or while its body fails."""
    watch = watching([-100.0, -120.0], 500)
    for episode in range(2, 6):
        now = Lived(500 * episode, episode, -110.0, -50.0, faults=held.get("faults", 0) * episode)
        assert watch.look(now) == ""
        for fields in (held, {"is_acting": True}):   # for a moment
            now = now._replace(episode_return=-900.0, **{
                **fields, "faults": held.get("faults", 0) * (episode + 1)})
            assert watch.look(now) == ""
        assert watch.look(now._replace(episodes=episode + 1, last_return=-900.0,
                                       episode_return=0.0)) == ""
    assert list(watch.returns) == [] and not watch.is_over(10 ** 9)
    n_faults = now.faults
    for episode in (7, 8):
        reason = watch.look(Lived(3000, episode, -900.0, 0.0, faults=n_faults))
    assert "2 episodes ended below -122" in reason


def test_windows_tell_where_no_episode_of_the_new_brain_ends():
    watch, n = Watch(), WINDOW_TICKS * MAX_WINDOWS
    assert ticks_until_it_falls(watch, 0, n)[0] == ""
    watch.returns.append(-50.0)   # that of the parent ended
    watch.begin(n)
    watch.bounds = watch.bounds._replace(least_return=-1e9)
    n_ticks = LONG_WATCH * WATCH_TICKS
    assert ticks_until_it_falls(watch, n, n_ticks - 50, seed=1)[0] == ""
    assert not watch.is_over(10 ** 9)
    ticks_until_it_falls(watch, n + n_ticks - 50, 200, seed=2, is_acting=False)
    assert not watch.is_over(10 ** 9)   # what it does not do does not count
    assert ticks_until_it_falls(watch, n + n_ticks + 150, 200, seed=3)[0] == ""
    assert watch.is_over(n + n_ticks + 350)


def test_what_follows_two_delays_is_no_delay():
    watch, _ = long_lived()
    for fault, reason in ((Fault.BRAIN_LATE, ""), (Fault.BRAIN_LATE, "it"), (Fault.BODY_ERROR, "")):
        assert watch.look_at_fault(fault, "it") == reason
