"""The cost model: fitted rates, the memory factor, the size of a checkpoint."""
import pytest

from seed.resize.cost_model import Cost, checkpoint_bytes, work
from seed.resize.size_search import LADDER
from seed.resize.trial import Size, Trial
from seed.resize.trial_watch import Outcome
from seed.storage import RunDir
from seed.training.step import Learner
from seed.training.memory_estimate import estimate_mb
from tests.support.trials import TOY, stable_trial


def timed(size: Size, **changes) -> Trial:
    """A trial with known rates and a known memory factor."""
    gflop, scan = work(size.apply_to(TOY))
    return stable_trial(size, **{
        "step_s": 0.012 * gflop + 0.002 * scan,
        "peak_mb": 1.1 * sum(estimate_mb(size.apply_to(TOY), 2).values()), **changes})


def test_the_cost_model_recovers_the_rates_behind_the_times():
    cost = Cost(TOY, 2, [timed(size) for size in LADDER[:4]])
    assert cost.rates == pytest.approx([0.012, 0.002])
    far = LADDER[12]
    assert cost.step_s(far.apply_to(TOY)) == pytest.approx(timed(far).step_s)
    assert cost.memory_mb(far.apply_to(TOY)) == pytest.approx(timed(far).peak_mb)
    one_trial = Cost(TOY, 2, [timed(LADDER[0])])
    assert one_trial.step_s(LADDER[3].apply_to(TOY)) == pytest.approx(timed(LADDER[3]).step_s,
                                                                      rel=0.25)


def test_only_finished_trials_with_the_same_threads_count():
    assert Cost(TOY, 2, []).step_s(TOY) is None
    assert Cost(TOY, 1, [timed(LADDER[0])]).step_s(TOY) is None
    killed = timed(LADDER[1], outcome=Outcome.KILLED, peak_mb=9.0)
    assert Cost(TOY, 2, [killed]).memory_factor == 1.0


def test_a_checkpoint_has_the_predicted_size(tmp_path):
    size = RunDir(tmp_path).save(Learner(TOY, 1).state_dict(), {})
    assert checkpoint_bytes(TOY) == pytest.approx(size, rel=0.02)
