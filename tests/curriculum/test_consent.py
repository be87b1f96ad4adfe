"""What only a brain names, of code, files and addresses, is not used."""
from dataclasses import replace
from os.path import abspath

import pytest

from seed.config import GovernorConfig
from seed.curriculum.consent import (check_named, leave_out_unnamed, named_bodies,
                                     without_unnamed_tasks)
from seed.errors import ConfigError
from seed.profile_file import applied, load_profile
from seed.task_names import with_named_bodies

URL = "http://127.0.0.1:1/v1"


@pytest.fixture
def profile():
    return load_profile("toy", ["curriculum.tasks={copy=1.0}", "selfplay.tasks={parity=4}"],
                        ["a.py:T", "b.jsonl=2"])


def taught(profile):
    return replace(profile, teacher=replace(profile.teacher, kind="endpoint", url=URL,
                                            tasks={"copy": 1.0, abspath("b.jsonl"): 1.0}))


def test_unnamed_files_are_left_out_everywhere_and_told_in_one_line(profile):
    messages = []
    rest = without_unnamed_tasks(taught(profile), ["a.py:T"], messages.append)
    assert list(rest.curriculum.tasks) == ["copy", abspath("a.py:T")]
    assert rest.teacher.tasks == {"copy": 1.0}
    assert len(messages) == 1 and messages[0].startswith(
        f"left out: {abspath('b.jsonl')}, which only the brain")
    assert without_unnamed_tasks(profile, ["a.py:T", "b.jsonl"], messages.append) is profile
    with pytest.raises(ConfigError, match="--task c.py:T: the brain was not trained on it"):
        without_unnamed_tasks(profile, ["c.py:T"], print)


def test_a_training_needs_every_name_again(profile):
    for tasks, missing in (([], "a.py:T"), (["a.py:T"], "b.jsonl")):
        with pytest.raises(ConfigError, match=f"names the task .*/{missing}: to let it run"):
            check_named(profile, applied({}, [], tasks))
    named = applied({}, ["curriculum.tasks={\"a.py:T\"=1}"], ["b.jsonl=3"])
    assert check_named(profile, named) is profile
    assert check_named(profile, profile.to_dict()) is profile
    named = applied({}, [], ["a.py:T", "b.jsonl"])
    with pytest.raises(ConfigError, match=f"the teacher at {URL}: to let it ask there"):
        check_named(taught(profile), named)
    assert check_named(taught(profile), applied(named, [f"teacher.url={URL}"]))


def test_a_teacher_that_only_the_brain_names_is_left_out(profile):
    messages = []
    rest = leave_out_unnamed(taught(profile), applied({}, [], ["a.py:T", "b.jsonl"]),
                             messages.append)
    assert not rest.teacher.kind and messages == [
        f"left out: the teacher at {URL}, which only the brain itself names"]


def with_bodies(**rounds):
    table = ", ".join(f"'{name}' = {n}" for name, n in rounds.items())
    return load_profile("toy", [f"body.rounds={{{table}}}"])


def test_a_body_that_is_a_file_is_used_only_if_it_is_named_again():
    profile, messages = with_bodies(**{"robot.py:R": 2, "cartpole": 1}), []
    file = abspath("robot.py:R")
    assert profile.body.rounds == {file: 2, "cartpole": 1}
    for named in ({}, {"body": {"rounds": {"other.py:R": 1}}}):
        with pytest.raises(ConfigError, match=f"names the body {file}: to let .*say --body {file}"):
            check_named(profile, named)
        rest = leave_out_unnamed(profile, named, messages.append)
        assert rest.body.rounds == {"cartpole": 1}
    assert messages == [f"left out: {file}, which only the brain itself names; use --body to let "
                        f"it run"] * 2
    assert check_named(profile, {"body": {"rounds": {"robot.py:R": 1}}}) is profile
    assert named_bodies(["robot.py:R", "cartpole"], ["robot.py:R"], print) == {
        "robot.py:R": file, "cartpole": "cartpole"}
    assert named_bodies(["robot.py:R", "cartpole"], ["other.py:B"], messages.append) == {
        "cartpole": "cartpole"} and "robot.py:R" in messages[-1]


def test_naming_a_brain_s_bodies_again_keeps_their_rounds():
    stored = {abspath("robot.py:R"): 3, "cartpole": 2}
    assert with_named_bodies(stored, ["robot.py:R"]) == stored
    moved = with_named_bodies(stored, ["elsewhere/robot.py:R", "cartpole"])
    assert moved == {abspath("elsewhere/robot.py:R"): 3, "cartpole": 2}
    assert with_named_bodies(stored, ["pendulum"]) == {**stored, "pendulum": 1}
    assert with_named_bodies({}, ["robot.py:R"]) == {abspath("robot.py:R"): 1}


@pytest.mark.parametrize("key, value", [
    ("report_command", "python3 health.py --json"), ("report_file", "/run/robot/health.json")])
def test_a_health_report_that_only_the_brain_names_is_neither_run_nor_read(key, value):
    overrides, messages = [f"governor.{key}={value}", "governor.only_idle=true"], []
    profile = load_profile("toy", ["curriculum.tasks={copy=1.0}", *overrides])
    with pytest.raises(ConfigError, match=f"the health report {value}: .* --set governor.{key}="):
        check_named(profile, {})
    rest = leave_out_unnamed(profile, {}, messages.append)
    assert rest.governor == GovernorConfig() and messages == [
        f"left out: the health report {value}, which only the brain itself names"]
    named = applied({}, overrides, [])
    assert check_named(profile, named) is profile
    assert leave_out_unnamed(profile, named, messages.append).governor == profile.governor
    with pytest.raises(ConfigError, match="only the brain itself names"):
        check_named(profile, applied({}, [f"governor.{key}={value}x"], []))
