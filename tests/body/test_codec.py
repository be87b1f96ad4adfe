"""Numbers of a body become levels, knots and choices, the same in trainer and file."""
import json
from types import SimpleNamespace

import numpy as np
import pytest

from seed.body.codec import LEVELS, Channel, Codec
from seed.body.open_body import make_codec, opener
from seed.body.spaces import action_values, observation_ranges
from seed.errors import ConfigError
from seed.runtime.acting import BodyCodec, borders
from seed.wavecore.layout import VALUE_LEVELS

CODEC = Codec("robot", (Channel(-1, 1), Channel(-2, 2, True), Channel(0, 10, False, 8)),
              ((0.0, 1.0), (-1.0, 0.0, 1.0)), "numbers", (2,))


def test_levels_run_from_low_to_high_and_what_is_beyond_is_clipped_and_told():
    levels, clipped = CODEC.levels(np.array([[-1, -2, 0], [0, 0, 5], [1, 2, 10], [3, -9, 10.1]]))
    assert levels[[0, 2]].tolist() == [[0, 0, 0], [LEVELS - 1] * 3]
    assert np.abs(levels[1] - 127.5).max() <= 0.5
    assert clipped.tolist() == [[False] * 3] * 3 + [[True] * 3]


def test_a_logarithmic_channel_is_finest_in_its_middle():
    fine, coarse = (CODEC.levels(np.array([[0, at, 0], [0, at + 0.1, 0]]))[0][:, 1]
                    for at in (0.0, 1.8))
    assert np.diff(fine) > 5 * np.diff(coarse) > 0


def test_a_tick_is_a_mixture_of_two_knots_of_each_channel_and_a_row_for_each_choice():
    levels = np.array([[0, 255, 100], [128, 7, 254]])
    tokens, weights = CODEC.encode(levels, np.array([[1, 2], [-1, -1]]))
    dense = np.zeros((2, CODEC.body.input_rows))
    for row in range(2):
        np.add.at(dense[row], tokens[row], weights[row])
    knots = np.split(dense[:, :16], [4, 8], axis=1)
    for channel, values in enumerate(knots):
        assert np.allclose(values.sum(1), 1)
        place = values @ np.arange(values.shape[1]) / (values.shape[1] - 1) * (LEVELS - 1)
        assert np.allclose(place, levels[:, channel], atol=1e-3)
    assert dense[0, 16:].tolist() == [0, 1, 0, 0, 1, 0]   # the choices before it
    assert dense[1, 16:].tolist() == [0, 0, 0, 0, 0, 1]   # an episode begins


def runtime_codec(codec: Codec) -> tuple[BodyCodec, np.ndarray]:
    """What a robot has, and the part of a graph's input that it fills."""
    weights = np.full(codec.body.input_rows, np.nan, np.float32)
    return BodyCodec(codec.to_dict(), [0.0, 1.0], weights, slice(0, 0)), weights


def in_trainer(codec: Codec, seen: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """The same of the trainer."""
    dense = np.zeros(codec.body.input_rows, np.float32)
    np.add.at(dense, *codec.encode(codec.levels(seen)[0], previous))
    return dense


def codecs() -> list[Codec]:
    rng, made = np.random.default_rng(0), [CODEC]
    for n, parts, form in ((4, [2], "index"), (60, [9] * 14, "numbers"), (7, [3, 3, 2], "indices")):
        low = rng.uniform(-5, 5, n).round(2)
        made.append(Codec("robot", tuple(
            Channel(float(a), float(a + rng.uniform(0.1, 99)), bool(rng.integers(2)),
                    int(rng.integers(2, 9))) for a in low),
            tuple(tuple(map(float, range(size))) for size in parts), form,
            () if form == "index" else (len(parts),)))
    return made


@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: str(len(codec.channels)))
def test_a_robot_reads_bit_for_bit_what_the_trainer_reads(codec):
    (robot, weights), rng = runtime_codec(codec), np.random.default_rng(1)
    low, high = (np.array([getattr(c, end) for c in codec.channels]) for end in ("low", "high"))
    previous, clipped, absent = np.full(len(codec.actions), -1), 0, 0
    for _ in range(200):
        seen = rng.uniform(low - 0.1 * (high - low), high + 0.1 * (high - low))
        bad = rng.random(seen.size) < 0.1
        seen[bad] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
        given = [None if np.isnan(number) else number for number in seen]
        robot.read(given if rng.random() < 0.5 else seen)
        assert np.array_equal(weights, in_trainer(codec, seen, previous))
        clipped, absent = clipped + codec.levels(seen)[1].sum(), absent + bad.sum()
        assert (robot.clipped, robot.absent) == (clipped, absent)
        logits = rng.standard_normal((1, codec.body.control.rows)).astype(np.float32)
        columns = np.concatenate([np.arange(head.start, head.start + head.width)
                                  for head in codec.body.control.heads])
        action, previous = robot.choose(logits[0, columns]), codec.sample(logits)[1][0]
        assert np.array_equal(robot.choices, previous) and columns[VALUE_LEVELS - 1] < columns[-1]
        expected = codec.decode(previous)
        assert np.array_equal(action, expected) and type(action) is type(expected)


@pytest.mark.parametrize("codec", codecs()[:3], ids=lambda codec: str(len(codec.channels)))
def test_they_agree_at_the_border_of_every_level(codec):
    (robot, weights), previous = runtime_codec(codec), np.full(len(codec.actions), -1)
    rows = np.array(borders(codec.to_dict()["channels"]))
    for least in rows.T:
        for seen in (least, np.nextafter(least, -np.inf)):
            robot.begin()
            robot.read(seen)
            assert np.array_equal(weights, in_trainer(codec, seen, previous))
            assert robot.clipped == codec.levels(seen)[1].sum()
    assert (np.diff(rows) > 0).all()


def test_choices_are_drawn_by_their_probabilities_and_the_likeliest_without_dice():
    logits = np.zeros((4000, CODEC.body.control.rows), np.float32)
    first, second = CODEC.body.control.heads[1:]
    logits[:, first.start + 1] = np.log(3)
    logits[:, second.start + 2] = 1
    probabilities, drawn = CODEC.sample(logits, np.random.default_rng(0))
    assert np.allclose(probabilities[0, :2], [0.25, 0.75]) and abs(drawn[:, 0].mean() - .75) < .03
    assert CODEC.sample(logits)[1][0].tolist() == [1, 2]


def test_a_body_gets_what_its_space_asks_for():
    assert CODEC.decode(np.array([1, 0])).tolist() == [1, -1]
    assert CODEC.decode(np.array([1, 0])).dtype == np.float32
    codec, _ = make_codec("cartpole", opener("cartpole"), 0)
    assert codec.decode(np.array([1])) == 1 and codec.form == "index"
    codec, _ = make_codec("pendulum", opener("pendulum"), 0)
    assert codec.decode(np.array([0])).tolist() == [-2] and codec.shape == (1,)


@pytest.mark.parametrize("space, ranges, choices", [
    (SimpleNamespace(n=4, start=10), [(10, 13)], ([[10.0, 11.0, 12.0, 13.0]], "index", [])),
    (SimpleNamespace(n=2, shape=(2, 1)), [(0, 1)] * 2, ([[0.0, 1.0]] * 2, "indices", [2, 1])),
    (SimpleNamespace(nvec=[2, 3], start=[1, 0]), [(1, 2), (0, 2)],
     ([[1.0, 2.0], [0.0, 1.0, 2.0]], "indices", [2]))])
def test_discrete_spaces_of_gymnasium_have_their_own_numbers(space, ranges, choices):
    assert observation_ranges("robot", space) == ranges
    assert action_values("robot", space, 9) == choices


def test_ranges_are_declared_or_measured_and_the_same_each_time():
    first, second = (make_codec("cartpole", opener("cartpole"), 0)[0] for _ in range(2))
    assert first == second
    position, speed = first.channels[:2]
    assert (position.low, position.is_log) == (pytest.approx(-4.8), False)
    assert speed.is_log and 1 < speed.high == -speed.low < 20


def test_a_codec_survives_json():
    assert Codec.from_dict(json.loads(json.dumps(CODEC.to_dict()))) == CODEC


@pytest.mark.parametrize("damage", [
    {"channels": []}, {"channels": [{"low": 1, "high": 0}]}, {"channels": [{"low": 0}]},
    {"channels": [{"low": 0, "high": float("nan")}]}, {"channels": 5}, {"actions": [[1.0]]},
    {"channels": [{"low": 0, "high": 1, "knots": 10 ** 9}]}, {"form": "words"}, {"shape": [7]},
    {"actions": [[0.0] * 1000]}, {"actions": [["x", "y"]]}, {"shape": None}, {"name": None},
    {"channels": [{"low": 0, "high": 1, "knots": True}]}])
def test_a_damaged_codec_is_refused(damage):
    with pytest.raises(ConfigError, match="codec of a body is damaged"):
        Codec.from_dict({**json.loads(json.dumps(CODEC.to_dict())), **damage})
