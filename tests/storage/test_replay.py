"""What adaptations have taught: beside the checkpoint that names it, and replayed."""
import json

import numpy as np
import pytest

from seed.curriculum.task import Item, is_holdout
from seed.curriculum.user_items import item_tokens
from seed.profile_file import load_profile
from seed.storage import RunDir, replay
from seed.storage.replay import Replay
from tests.support.small_run import META

PROFILE = load_profile("toy", ["curriculum.tasks={copy=1.0}"]).to_dict()


def items(sign: str, n: int = 40, answer: str = "") -> list[Item]:
    return [Item("rule", 1, f"{i}{sign}".encode(), (answer or str(i)).encode()) for i in range(n)]


def save(run_dir: RunDir, **meta) -> None:
    run_dir.save({"norm_f": np.zeros(4, np.float32)}, {"profile": PROFILE, **META, **meta})


def files(run_dir: RunDir) -> set[str]:
    return {path.name for path in run_dir.path.glob("replay.*")}


def test_examples_come_back_as_they_were_written(tmp_path):
    run_dir = RunDir(tmp_path)
    rules = replay.with_rule(replay.with_rule({}, "a.jsonl", items("?")), "b.txt", items("ü"))
    digest = replay.write(run_dir, rules)
    read = Replay.read(run_dir, {"replay": digest}, print)
    assert read.digest == digest and list(read.rules) == ["a.jsonl", "b.txt"]
    assert {name: [item[2:] for item in each] for name, each in read.rules.items()} == {
        name: [item[2:] for item in each] for name, each in rules.items()}
    assert read.to_meta() == {"replay": digest} and Replay().to_meta() == {}
    assert Replay.read(run_dir, {}, print) == Replay()


def test_all_that_a_task_can_say_comes_back(tmp_path):
    taught = [Item("rule", 3, *item_tokens(*given), is_fact=is_fact) for given, is_fact in (
        (("abc", "", {"questions": [(1, "x")], "labels": [(2, "y")]}), False),
        ((b"\xff\xfe\x00", b"\xfd"), True), (("who?", "Seed"), True), (("ö", "ü"), False))]
    run_dir = RunDir(tmp_path)
    digest = replay.write(run_dir, replay.with_rule({}, "a.jsonl", taught))
    rules = Replay.read(run_dir, {"replay": digest}, pytest.fail).rules
    assert [item[1:] for item in rules["a.jsonl"]] == [(1, *item[2:]) for item in taught]


def test_facts_are_replayed_in_full():
    facts = [item._replace(is_fact=True) for item in items("?")]
    assert any(is_holdout(item.prompt) for item in facts)
    pool, = Replay(replay.with_rule({}, "a.jsonl", facts)).pools()
    assert [item.prompt for item in pool.items] == [item.prompt for item in facts]


def test_training_items_of_all_rules_share_a_fraction_and_none_is_held_out():
    rules = replay.with_rule(replay.with_rule({}, "a.jsonl", items("?")), "b.jsonl",
                             items("!", 400))
    a, b = Replay(rules).pools()
    assert a.data_fraction == b.data_fraction == pytest.approx(replay.DATA_FRACTION / 2)
    assert not any(is_holdout(item.prompt) for pool in (a, b) for item in pool.items)
    assert {task.name for task in Replay(rules).tasks()} == {
        "a.jsonl (taught before)", "b.jsonl (taught before)"}


def test_a_prompt_that_is_taught_anew_has_its_newest_answer():
    rules = replay.with_rule({}, "a.jsonl", items("?"))
    rules = replay.with_rule(rules, "b.jsonl", items("?", 30, "new"))
    assert len(rules["a.jsonl"]) == 10 and len(rules["b.jsonl"]) == 30
    rules = replay.with_rule(rules, "a.jsonl", items("!", 5))   # more of the same file
    assert list(rules) == ["b.jsonl", "a.jsonl"] and len(rules["a.jsonl"]) == 15
    assert list(replay.with_rule(rules, "c.jsonl", items("?"))) == ["a.jsonl", "c.jsonl"]


def test_a_rule_of_which_too_few_examples_are_left_is_not_replayed():
    assert Replay(replay.with_rule({}, "a.jsonl", items("?", 2))).tasks() == []


def test_examples_and_rules_are_bounded():
    rules = replay.with_rule({}, "a.jsonl", items("?", 5000))
    assert len(rules["a.jsonl"]) == replay.MAX_EXAMPLES
    assert rules["a.jsonl"][-1].prompt == b"4995?"   # of all of the file
    for number in range(20):
        rules = replay.with_rule(rules, f"{number}.jsonl", items(f"{chr(97 + number)}"))
    assert len(rules) == replay.MAX_RULES and "a.jsonl" not in rules and "19.jsonl" in rules


@pytest.mark.parametrize("damage", ["missing", "changed", "no hash", "no example", "a list"])
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_replayed(tmp_path, damage):
    run_dir, logged = RunDir(tmp_path), list[str]()
    digest = replay.write(run_dir, {"a.jsonl": items("?")})
    path = run_dir.replay(digest)
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "no hash":
        digest = "../../etc/passwd"
    elif damage == "no example":
        data = json.dumps({"rule": "a", "prompt": 1, "answer": "x"}).encode()
        digest = replay._digest(data)
        run_dir.replay(digest).write_bytes(data)
    read = Replay.read(run_dir, {"replay": [digest] if damage == "a list" else digest},
                       logged.append)
    assert not read.rules and len(logged) == 1 and "are not replayed" in logged[0]
    if damage in ("missing", "changed"):
        assert read.digest == digest   # restored, it counts again


def test_a_copied_brain_keeps_what_it_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run_dir, other = RunDir(tmp_path / "a"), RunDir(tmp_path / "b")
    digest = replay.write(run_dir, {"a.jsonl": items("?")})
    save(run_dir, replay=digest)
    replay.copy(run_dir, run_dir.checkpoint, other)
    assert Replay.read(other, {"replay": digest}, pytest.fail).digest == digest
    for name in ("../checkpoint", "0" * 32, 5, ""):   # none, a missing one, no name
        save(run_dir, replay=name)
        replay.copy(run_dir, run_dir.checkpoint, other)
    run_dir.checkpoint.write_bytes(b"damaged")
    replay.copy(run_dir, run_dir.checkpoint, other)
    assert files(other) == {run_dir.replay(digest).name} and len(list(tmp_path.iterdir())) == 2


def test_files_that_no_checkpoint_names_are_removed(tmp_path):
    run_dir = RunDir(tmp_path)
    first, second, third = (replay.write(run_dir, {"a.jsonl": items(sign)}) for sign in "?!&")
    save(run_dir, replay=first)
    save(run_dir, replay=second)   # the one before stays the previous generation
    replay.remove_unnamed(run_dir)
    assert files(run_dir) == {run_dir.replay(digest).name for digest in (first, second)}
    before_growth = run_dir.checkpoint.rename(run_dir.checkpoint_before_growth)
    replay.remove_unnamed(run_dir)
    assert run_dir.replay(second).exists()
    before_growth.rename(run_dir.undo_levels[2])
    run_dir.previous_checkpoint.unlink()
    save(run_dir)
    replay.remove_unnamed(run_dir)
    assert files(run_dir) == {run_dir.replay(second).name}
    run_dir.checkpoint.write_bytes(b"damaged")
    replay.write(run_dir, {"a.jsonl": items("&")})
    replay.remove_unnamed(run_dir)   # nobody knows what it named
    assert run_dir.replay(third).exists()
