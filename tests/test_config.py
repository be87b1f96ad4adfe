"""A profile's mistakes are refused by name, with the nearest valid choice."""
import pytest

from seed.config import from_dict, load_profile
from seed.errors import ConfigError


def test_a_profile_survives_the_trip_through_a_plain_dict():
    profile = load_profile("toy")
    assert from_dict(profile.to_dict()) == profile


def test_an_override_replaces_one_value_and_nothing_else():
    plain = load_profile("toy").to_dict()
    changed = load_profile("toy", ["train.lr=0.001"]).to_dict()
    assert changed["train"].pop("lr") == 0.001
    assert plain["train"].pop("lr") != 0.001
    assert changed == plain


@pytest.mark.parametrize("override, names, fix", [
    ("train.lrr=1", "train.lrr", "nearest is lr"),
    ("model.d_model=70", "model.d_model", "nearest is 64"),
    ("model.pattern=SX", "model.pattern", "'SSA'"),
    ("train.lr=x", "train.lr", "use a float"),
    ("train.steps=true", "train.steps", "use an integer"),
    ("train.lr=nan", "train.lr", "use 0.0 to 1.0"),
    ("model.transition=rule", "model.transition", "'delta' or 'diagonal'"),
    ("modle.d_model=64", "modle", "nearest is model"),
    ("d_model", "d_model", "table.key=value"),
])
def test_a_mistake_is_one_line_that_names_the_key_and_the_fix(override, names, fix):
    with pytest.raises(ConfigError) as error:
        load_profile("toy", [override])
    message = str(error.value)
    assert names in message and fix in message and "\n" not in message


def test_a_missing_profile_names_the_shipped_ones():
    with pytest.raises(ConfigError, match="toy"):
        load_profile("tyo")
