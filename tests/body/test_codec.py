"""Numbers of a body become levels, knots and choices, the same in trainer and file."""
import json

import numpy as np
import pytest

from seed.body.codec import LEVELS, Channel, Codec
from seed.body.open_body import make_codec, opener
from seed.errors import ConfigError

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
