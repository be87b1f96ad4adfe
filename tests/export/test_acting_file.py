"""An exported file acts as the trainer does, and reads bad sensors by a stated rule."""
import itertools
from dataclasses import replace

import numpy as np
import pytest

from seed.body.player import Player
from seed.body.codec import LEVELS, Codec
from seed.config import LoopConfig
from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.verify_acting import verify_acting
from seed.runtime import Brain, BrainError, describe
from seed.runtime import acting
from seed.runtime.rate import TICKS
from seed.runtime.structure import check_structure
from seed.wavecore.layout import VALUE_LEVELS, WORLD_LEVELS
from tests.support.acting_brains import KINDS, NAMES, file_of, untrained


@pytest.fixture(scope="module")
def trained() -> TrainedBrain:
    return untrained()


def columns_of(codec: Codec) -> np.ndarray:
    """Of a player's logits, those that a file has."""
    return np.concatenate([np.arange(head.start, head.start + head.width)
                           for head in codec.body.control.heads])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_acts_as_the_trainer_does(trained, tmp_path, kind):
    brain, tolerance = file_of(trained, tmp_path, KINDS[kind]), 0.1 if kind == "int8" else 1e-4
    for name in NAMES:
        codec, rng = trained.bodies[name].codec, np.random.default_rng(0)
        player, previous = Player(trained.model, codec, 1), np.full((1, len(codec.actions)), -1)
        columns = columns_of(codec)
        low, high = (np.array([getattr(c, end) for c in codec.channels]) for end in ("low", "high"))
        brain.begin(name)
        for _ in range(40):
            seen = rng.uniform(low, high) * 1.1
            action = brain.act(seen)
            logits = player.tick(*codec.encode(codec.levels(seen)[0][None], previous))[:, columns]
            assert np.abs(brain.control_logits - logits[0]).max() < tolerance * np.ptp(logits)
            assert brain.value == pytest.approx(
                trained.bodies[name].values.mean(logits[0, :VALUE_LEVELS]), rel=tolerance, abs=0.5)
            previous = brain.bodies[name].choices[None]
            assert np.array_equal(action, codec.decode(previous[0]))
        assert 0 < brain.bodies[name].clipped < 40 * len(codec.channels)


@pytest.mark.parametrize("kind", ["portable", "explicit"])
def test_a_second_episode_may_begin_with_what_is_remembered(trained, tmp_path, kind):
    brain, codec = file_of(trained, tmp_path, KINDS[kind]), trained.bodies["cartpole"].codec
    player, logits = Player(trained.model, codec, 1), []
    for keep_state in (True, False):
        brain.begin("cartpole")
        brain.act([0.5, 1, 0, -1])
        brain.begin("cartpole", keep_state)
        brain.save_state(tmp_path / "state")   # is whole, though nothing was chosen since
        brain.load_state(tmp_path / "state")
        assert np.isnan(brain.act([0, 0, 0.1, 0], surprise=True)[1])
        logits.append(brain.control_logits)
    for seen in ([0.5, 1, 0, -1], [0, 0, 0.1, 0]):
        ticks = codec.encode(codec.levels(np.array([seen]))[0], np.full((1, 1), -1))
        expected = player.tick(*ticks)[0, columns_of(codec)]
    assert np.abs(logits[0] - expected).max() < 1e-4 * np.ptp(expected)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.ptp(expected)


def test_text_is_answered_as_by_the_trainer(trained, tmp_path):
    brain = file_of(trained, tmp_path)
    brain.begin("rover")
    brain.act(np.zeros(13))
    trained.decoder.reset()
    expected = list(trained.decoder.generate(b"12+30=", 20, 0xFE, 0.0, 0))
    brain.reset()
    assert list(brain.generate_bytes(b"12+30=", 20)) == expected


def test_a_file_that_acts_checks_its_rate_in_its_widest_body_and_begins_anew(trained, tmp_path):
    profile = replace(trained.profile, loop=LoopConfig(100.0, 5.0))
    brain, fresh = file_of(replace(trained, profile=profile), tmp_path), file_of(trained, tmp_path)
    assert brain.loop == {"rate_hz": 100.0, "max_tick_ms": 5.0}
    assert fresh.loop == {"rate_hz": pytest.approx(50), "max_tick_ms": pytest.approx(14)}
    observed, codec = [], brain.bodies["rover"]
    codec.read = lambda seen: observed.append(seen) or type(codec).read(codec, seen)
    for file in (brain, fresh):
        file.begin("cartpole")
    brain.act([9.9, 1, 0, np.nan])
    assert brain.check_rate(lambda: 0.0, lambda pause_s: None).is_kept
    assert {len(seen) for seen in observed} == {13} and len(observed) > TICKS
    assert brain.act([0.1, 1, 0, 0]) == fresh.act([0.1, 1, 0, 0])
    assert np.array_equal(brain.control_logits, fresh.control_logits)
    assert (brain.bodies["cartpole"].absent, brain.bodies["cartpole"].clipped) == (0, 0)


def test_verification_closes_the_loop_in_every_body(trained, tmp_path):
    brain = file_of(trained, tmp_path)
    for report in verify_acting(brain, trained):
        assert report.agreement.steps == report.same_actions > 0
        assert report.mean_return == pytest.approx(report.checkpoint_return) and not report.has_lost


def test_a_number_that_is_missing_or_not_finite_is_absent_as_in_the_trainer(trained, tmp_path):
    brain, codec = file_of(trained, tmp_path), trained.bodies["cartpole"].codec
    player, previous = Player(trained.model, codec, 1), np.full((1, 1), -1)
    columns = columns_of(codec)
    brain.begin("cartpole")
    for seen in ([0.5, None, 0, 0], [np.nan, 1, np.inf, 0], [-np.inf] * 4, [9e9, 0, 0, -1e308]):
        brain.act(seen)
        levels, _ = codec.levels(np.array([seen], float))
        logits = player.tick(*codec.encode(levels, previous))[0, columns]
        assert np.abs(brain.control_logits - logits).max() < 1e-4 * np.ptp(logits)
        previous = brain.bodies["cartpole"].choices[None]
    assert (brain.bodies["cartpole"].absent, brain.bodies["cartpole"].clipped) == (7, 2)


@pytest.mark.parametrize("observation", [[0, 0, 0], np.zeros(5), "text", None, [], [[1, 2], [3]],
                                         {"x": 1}, [0, 0, 0, "x"], [10 ** 400, 0, 0, 0]])
def test_an_observation_of_another_shape_is_refused(trained, tmp_path, observation):
    brain = file_of(trained, tmp_path)
    brain.begin("cartpole")
    with pytest.raises(BrainError, match="the observation of cartpole .*: give 4 num") as error:
        brain.act(observation)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200
    with pytest.raises(BrainError, match=r"has shape \(5, 1\): give 4 numbers"):
        brain.act(np.zeros((5, 1)))
    assert brain.act([0, 0, 0, 0]) in (0, 1)


def test_a_body_has_to_be_named_if_there_are_several(trained, tmp_path):
    brain = file_of(trained, tmp_path)
    for name in (None, "walker", 5, ["rover"]):
        with pytest.raises(BrainError, match="name one of cartpole, rover"):
            brain.begin(name)
    with pytest.raises(BrainError, match="call act first"):
        brain.value


def test_a_brain_without_a_body_says_so(trained, tmp_path):
    params = {key: array for key, array in trained.params.items() if key[:7] != "bodies."}
    brain = file_of(TrainedBrain(trained.profile, 0, params), tmp_path)
    for call in (brain.begin, lambda: brain.act([0])):
        with pytest.raises(BrainError, match="--body"):
            call()


@pytest.mark.parametrize("options", [Options(*values) for values in itertools.product(
    ("portable", "litert"), ("float32", "float16", "int8"), (False, True), (0, 3))],
    ids=lambda o: "-".join(map(str, vars(o).values())))
def test_every_kind_has_the_right_structure(trained, options):
    data = BrainFile(trained, options).tobytes()
    check_structure(data, describe(data, "f"))


def without_the_last_operator(file: BrainFile) -> None:
    graph, = [graph for graph in file.model.graphs if graph.name == "load"]
    graph.operators.pop()


def of_another_width(file: BrainFile) -> None:
    for body in file.description["bodies"].values():
        body["hidden"] = 64


def without_prediction(file: BrainFile) -> None:
    file.model.graphs.pop()


@pytest.mark.parametrize("damage_fn, message", [
    (without_the_last_operator, "load.* leaves tensors or states without a value"),
    (of_another_width, "has other tensors"), (without_prediction, "signatures are not .*predict"),
    (lambda file: file.description["bodies"]["rover"].update(hidden=0), "description of its bod"),
    (lambda file: file.description["bodies"]["rover"].pop("hidden"), "description of its bodies")])
def test_a_file_that_would_crash_as_it_loads_a_state_or_predicts_is_refused(trained, tmp_path,
                                                                            damage_fn, message):
    file = BrainFile(trained, Options())
    damage_fn(file)
    (tmp_path / "f").write_bytes(file.tobytes())
    with pytest.raises(BrainError, match=message):
        Brain(tmp_path / "f")


def test_trainer_and_runtime_have_the_same_constants():
    assert (acting.LEVELS, acting.VALUE_LEVELS, acting.WORLD_LEVELS) == (LEVELS, VALUE_LEVELS,
                                                                         WORLD_LEVELS)
