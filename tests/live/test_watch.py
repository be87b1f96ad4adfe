"""A promoted brain stays, or is rolled back as soon as it does worse than its parent ever did."""
from seed.live.watch import WATCH_TICKS, Lived, Watch


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
