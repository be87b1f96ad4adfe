"""Profiles: what they inherit, overrides, and mistakes that are refused by name with the nearest
valid choice."""
import dataclasses
import math
import os
import tomllib
from pathlib import Path

import pytest

from seed.config import LiveConfig, from_dict
from seed.curriculum.tasks import GRADE_OF
from seed.errors import ConfigError
from seed.profile_file import BASE, load_profile, profiles_dir, shipped_profiles, to_toml
from seed.wavecore import submodel
from seed.wavecore.layout import count_params

SHIPPED = shipped_profiles()
BASE_TABLES = tomllib.loads((profiles_dir() / BASE).read_text())


def test_a_profile_survives_the_trip_through_a_plain_dict():
    profile = load_profile("toy")
    assert from_dict(profile.to_dict()) == profile


def test_a_written_profile_is_read_as_itself(tmp_path):
    awkward = load_profile("toy", ['identity.a"b\\ü\x7f\n=x"y', "train.write_gb_per_day=1e-3",
                                   'selfplay.tasks={"a/b.py:C"=4}'])
    (tmp_path / "awkward.toml").write_text(to_toml(awkward))
    assert load_profile(str(tmp_path / "awkward.toml")) == awkward


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_inherits_its_tasks_and_identity(name):
    profile = load_profile(name)
    inherited = BASE_TABLES["curriculum"]["tasks"]
    if name in ("mid", "slow"):   # have weights of their own
        assert [*profile.curriculum.tasks] == [*inherited] and profile.curriculum.tasks != inherited
    else:
        assert profile.curriculum.tasks == inherited
    assert profile.identity == BASE_TABLES["identity"]


def test_the_profiles_of_loops_have_rates_and_each_what_its_loop_needs():
    fast, mid, slow, seed = (load_profile(name) for name in ("fast", "mid", "slow", "seed"))
    assert [(p.loop.rate_hz, p.loop.max_tick_ms) for p in (fast, mid, slow, seed)] == [
        (100, 5), (10, 50), (1, 500), (0, 0)]
    sizes = {name: count_params(load_profile(name).model) for name in SHIPPED}
    assert min(sizes[name] for name in ("toy", "mid", "seed")) > sizes["fast"]
    assert max(sizes, key=sizes.__getitem__) == "slow"
    assert mid.model.sliding_window > 2 * seed.model.sliding_window
    assert mid.train.seq_len > seed.train.seq_len and mid.model.d_state > seed.model.d_state
    weights = {grade: {slow.curriculum.tasks[task] for task in GRADE_OF if GRADE_OF[task] == grade}
               for grade in (1, 5, 6)}
    assert max(weights[1]) < min(weights[5]) <= max(weights[5]) < min(weights[6])
    submodel.check(fast.model, seed.model)   # `seed` shrinks to the one and grows into the other
    submodel.check(seed.model, slow.model)


def test_a_profile_without_a_loop_is_stored_as_before_there_were_loops():
    assert "loop" not in load_profile("toy").to_dict()
    stored = load_profile("fast").to_dict()
    assert stored["loop"] == {"rate_hz": 100.0, "max_tick_ms": 5.0}
    assert from_dict(stored) == load_profile("fast")


def test_a_model_whose_states_do_not_turn_is_stored_as_before_there_were_turns():
    """Checkpoints and files of before, and programs of before, know no such keys."""
    plain = load_profile("toy")
    assert not {"rotary_steps", "beta_bias_min"} & plain.to_dict()["model"].keys()
    assert from_dict(plain.to_dict()).model.rotary_steps == 0
    turning = load_profile("toy", ["model.rotary_steps=120"])
    assert turning.to_dict()["model"]["rotary_steps"] == 120
    assert from_dict(turning.to_dict()) == turning


def test_a_profile_s_own_tasks_and_identity_replace_the_inherited_ones(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[curriculum.tasks]\nadd = 3\n[identity]\n")
    profile = load_profile(str(path))
    assert profile.curriculum.tasks == {"add": 3.0} and profile.identity == {}
    path.write_text("[curriculum]\neval_items = 2\n")
    assert load_profile(str(path)).curriculum.tasks == BASE_TABLES["curriculum"]["tasks"]


def test_tasks_are_replaced_changed_and_added_by_options():
    tasks = load_profile("toy", ["curriculum.tasks={add_long=1.0}"]).curriculum.tasks
    assert tasks == {"add_long": 1.0}
    tasks = load_profile("toy", ["curriculum.tasks.copy=0"], ["my.jsonl", "b.txt=2"])
    inherited = BASE_TABLES["curriculum"]["tasks"]
    assert tasks.curriculum.tasks == {
        **inherited, "copy": 0.0, os.path.abspath("my.jsonl"): 1.0, os.path.abspath("b.txt"): 2.0}


def test_an_override_replaces_one_value_and_nothing_else():
    plain = load_profile("toy").to_dict()
    changed = load_profile("toy", ["train.lr=0.001"]).to_dict()
    assert changed["train"].pop("lr") == 0.001
    assert plain["train"].pop("lr") != 0.001
    assert changed == plain


def test_every_number_has_a_range_and_a_value_outside_it_is_refused_by_name():
    toy, numbers = load_profile("toy"), 0
    for table, config in vars(toy).items():
        for key in dataclasses.fields(config) if dataclasses.is_dataclass(config) else ():
            if type(getattr(config, key.name)) not in (int, float):
                continue
            low, high = key.metadata["low"], key.metadata["high"]
            for value, nearest in ((high + 1, high), (low - 1, low), (math.nan, low)):
                if math.isnan(value) and type(low) is int:
                    continue   # refused as no integer
                changed = dataclasses.replace(config, **{key.name: value})
                with pytest.raises(ConfigError) as error:
                    dataclasses.replace(toy, **{table: changed}).check()
                assert str(error.value).startswith(f"{table}.{key.name} is {value}: use {low} to ")
                assert str(error.value).endswith(f"nearest is {nearest}")
            numbers += 1
    assert numbers > 50


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
    ("train=3", "train is 3", "use a table"),
    ("train.seed.x=3", "train.seed", "use an integer"),
    ("model.vocab_size=16", "model.vocab_size", "is unknown"),
    ("model.head_dim=48", "model.head_dim is 48", "use a multiple of 32; nearest is 64"),
    ("model.d_model=48", "model.d_model is 48", "use a multiple of 32; nearest is 64"),
    ("model.rotary_steps=1", "model.rotary_steps is 1", "use 0 for states that do not turn, or at"),
    ("model.dt_bias_min=0", "model.dt_bias_min is 0.0", "use at most dt_bias_max (-4.0)"),
    ("train.optimizer=sparse", "train.optimizer", "'muon' or 'adamw'"),
    ("train.trainable=none", "train.trainable", "'all' or 'no-matrices'"),
    ("governor.slow_c=200", "governor.slow_c is 200.0", "use 0.0 to 120.0 C; nearest is 120.0"),
    ("governor.slow_c=81", "governor.slow_c is 81.0", "less than pause_c (80.0)"),
    ("curriculum.tasks={}", "curriculum.tasks", "use a weight above 0, such as copy = 1.0"),
    ("curriculum.tasks.add=-1", "curriculum.tasks.add is -1.0", "nearest is 0.0"),
    ("curriculum.keep_mark=1", "curriculum.keep_mark", "use at most pass_mark (0.9)"),
    ("selfplay.verify=false", "selfplay.verify", "at least 2 votes and a temperature above 0"),
    ("selfplay.data_fraction=0.9", "selfplay.data_fraction", "use at most 0.95 for both together"),
    ("train.lr=1" + 400 * "0", "train.lr is out of range", "use 64 bits at most"),
    ("train.seed=0x1" + 9999 * "0", "train.seed is out of range", "use 64 bits at most"),
    ("train.lr=1" + 9999 * "0", "train.lr", "use a float"),
    ("teacher.kind=mock", "teacher.tasks", "such as add = 1.0"),
    ("loop.rate_hz=-1", "loop.rate_hz is -1.0", "use 0.0 to 1000.0 Hz; nearest is 0.0"),
    ("loop.rate_hz=50", "loop.max_tick_ms is 0.0", "more than 0 and at most the period at 50.0 Hz"),
    ("loop.max_tick_ms=5", "loop.max_tick_ms is 5.0", "use 0, or a loop.rate_hz above 0 too"),
    ("loop={rate_hz=50, max_tick_ms=20.1}", "loop.max_tick_ms is 20.1", "at most the period"),
    ("loop.rate=50", "loop.rate is unknown", "nearest is rate_hz"),
    ("governor.only_idle=true", "governor.only_idle", "report_file or governor.report_command too"),
    ("governor.report_command='echo", "governor.report_command", "quoted as for a shell"),
    ("governor={report_file='a', report_command='b'}", "governor.report_command", "not both"),
    ("governor.min_battery=1", "governor.min_battery is", "nearest is min_battery_percent"),
])
def test_a_mistake_is_one_line_that_names_the_key_and_the_fix(override, names, fix):
    with pytest.raises(ConfigError) as error:
        load_profile("toy", [override])
    message = str(error.value)
    assert names in message and fix in message and "\n" not in message


def test_a_missing_profile_names_the_shipped_ones():
    with pytest.raises(ConfigError, match="toy"):
        load_profile("tyo")


@pytest.mark.parametrize("task", ["add=x", "add="])
def test_a_task_s_weight_that_is_no_number_is_refused(task):
    with pytest.raises(ConfigError, match="--task .*use a number after =, such as add=2"):
        load_profile("toy", tasks=[task])


def test_a_task_that_no_table_can_take_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "flat.toml"
    path.write_text("curriculum = 3\n")
    with pytest.raises(ConfigError, match="^curriculum is 3: use a table$"):
        load_profile(str(path), tasks=["copy"])


def test_a_report_is_the_same_file_from_anywhere_and_a_profile_without_one_stores_nothing(tmp_path):
    (tmp_path / "robot.toml").write_text('[governor]\nreport_file = "health.json"\n')
    (tmp_path / "health.json").touch()
    profile = load_profile(str(tmp_path / "robot.toml"))
    assert profile.governor.report_file == str(tmp_path / "health.json")
    assert from_dict(profile.to_dict()) == profile
    assert not [key for key in load_profile("toy").to_dict()["governor"] if "report" in key]


def test_the_page_of_a_life_has_each_of_its_keys_with_its_default():
    text = (Path(__file__).parents[1] / "docs" / "learning.md").read_text()
    page = tomllib.loads(text.split("```toml\n")[1].split("```")[0])
    assert page == {"live": dataclasses.asdict(LiveConfig())}
    assert "live" not in load_profile("toy").to_dict()
    with pytest.raises(ConfigError, match="live.slow_late is 0.02: use at most pause_late"):
        load_profile("toy", ["live.slow_late=0.02"])
