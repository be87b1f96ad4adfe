"""Which brain acts is one file; every decision is a line; a cut leaves neither half."""
import errno
import json
import math
import os

import pytest

from seed.__main__ import main
from seed.errors import ConfigError
from seed.evaluation.figure import Figure, has_lost
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.live import brains as module
from seed.live.brains import Brains, Decision
from seed.live.watch import Bounds
from seed.storage import RunDir
from tests.support.acting_brains import untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[RunDir]:
    """Run directories with an exported file, each of another brain."""
    folder, trained, run_dirs = tmp_path_factory.mktemp("made"), untrained(), []
    for number in range(6):
        run_dirs.append(RunDir(folder / f"{number}"))
        run_dirs[-1].path.mkdir()
        trained.params["norm_f"][0] = 1 + number
        run_dirs[-1].checkpoint.write_bytes(b"%d" % number)
        run_dirs[-1].exported_brain.write_bytes(BrainFile(trained, Options()).tobytes())
    return run_dirs


def decisions(path) -> list[tuple[str, str, int]]:
    return [(row.decision, row.brain, row.generation) for row in Brains(path).lineage.rows]


def test_brains_are_promoted_rolled_back_and_removed_when_they_are_old(tmp_path, made):
    brains = Brains(tmp_path, clock=lambda: 0.0)
    names = [brains.add(run_dir) for run_dir in made]
    assert len(set(names)) == 6 and brains.promoted is None
    brains.promote(names[0], module.FIRST)
    figure = Figure("point", "return", 1.0, 2.0)._asdict()
    brains.promote(names[1], data="d", figures=(figure,))
    assert brains.roll_back("it falls").brain == names[0]
    again = Brains(tmp_path)
    assert again.promoted == brains.promoted == (names[0], 3, names[1])
    assert decisions(tmp_path) == [("first", names[0], 1), ("promoted", names[1], 2),
                                   ("rolled back", names[0], 3)]
    row = again.lineage.rows[1]
    assert row.parent == names[0] and row.figures == (figure,)
    assert row.time == "1970-01-01T00:00:00Z"
    assert again.file(names[0]).read_bytes() == made[0].exported_brain.read_bytes()
    assert {folder.name for folder in (tmp_path / "brains").iterdir()} == {names[0], *names[3:]}


def full(monkeypatch, n_writes: int):
    """From now on the disk is full, but for so many files."""
    write, left = module.atomic_file.write, [n_writes]

    def limited(path, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)
    monkeypatch.setattr(module.atomic_file, "write", limited)


def begun(path, made) -> tuple[Brains, str, str]:
    """A first brain acts, another one is there."""
    brains = Brains(path)
    first, second = (brains.add(run_dir) for run_dir in made[:2])
    brains.promote(first, module.FIRST)
    return brains, first, second


@pytest.mark.parametrize("n_writes, lines", [(0, []), (1, ["promoted", "not done"])])
def test_a_promotion_that_was_cut_off_is_told_and_not_done(tmp_path, made, monkeypatch, n_writes,
                                                           lines):
    brains, first, second = begun(tmp_path, made)
    full(monkeypatch, n_writes)
    with pytest.raises(OSError, match="No space"):
        brains.promote(second)
    monkeypatch.undo()
    again = Brains(tmp_path)
    again.settle()   # the process that had not promoted it has ended
    assert again.promoted == brains.promoted == (first, 1, "")
    assert [row.decision for row in again.lineage.rows[1:]] == lines
    again.promote(second)
    assert Brains(tmp_path).promoted == (second, 2, first)
    assert again.unconfirmed == again.lineage.rows[-1]
    again.tell(Decision(module.CONFIRMED, second, first, 2))
    assert Brains(tmp_path).unconfirmed is None


def test_the_same_process_tells_that_nothing_was_promoted(tmp_path, made, monkeypatch):
    brains, first, second = begun(tmp_path, made)
    full(monkeypatch, 1)
    with pytest.raises(OSError, match="No space"):
        brains.promote(second)
    assert not brains.is_written
    monkeypatch.undo()
    brains.flush()
    assert brains.is_written and Brains(tmp_path).promoted == (first, 1, "")
    assert decisions(tmp_path)[1:] == [("promoted", second, 2), ("not done", second, 1)]


def test_a_roll_back_on_a_full_disk_holds_after_a_power_cut(tmp_path, made, monkeypatch):
    brains, first, second = begun(tmp_path, made)
    brains.promote(second)
    full(monkeypatch, 0)
    monkeypatch.setattr(brains.lineage, "append", lambda rows, objects: False)
    with pytest.raises(OSError, match="lineage.jsonl cannot be written"):
        brains.roll_back("it falls")
    assert brains.promoted == Brains(tmp_path).promoted == (first, 3, second)
    assert not brains.is_written
    with pytest.raises(OSError, match="lineage.jsonl cannot be written"):
        brains.promote(second)   # what was decided before comes first
    monkeypatch.undo()
    again = Brains(tmp_path)
    again.settle()   # by a process that knows the reason no more
    assert again.lineage.rows[-1][:4] == ("rolled back", first, second, 3)
    assert "is lost" in again.lineage.rows[-1].reason


def test_lines_that_a_full_disk_had_no_room_for_are_written_later_in_order(tmp_path, made,
                                                                           monkeypatch):
    brains, first, second = begun(tmp_path, made)
    brains.promote(second)
    append = brains.lineage.append
    monkeypatch.setattr(brains.lineage, "append", lambda rows, objects: False)
    for decision in (Decision(module.REFUSED, "bad", second, 2), None):
        with pytest.raises(OSError, match="lineage.jsonl cannot be written"):
            brains.tell(decision) if decision else brains.roll_back("it falls")
    monkeypatch.setattr(brains.lineage, "append", append)
    brains.flush()
    assert decisions(tmp_path)[2:] == [("refused", "bad", 2), ("rolled back", first, 3)]
    assert Brains(tmp_path).lineage.rows[-1].reason == "it falls"


def test_a_brain_whose_file_was_damaged_is_rolled_back_at_the_start(tmp_path, made):
    brains, first, second = begun(tmp_path, made)
    brains.promote(second)
    data = bytearray(brains.file(second).read_bytes())
    data[len(data) // 2] ^= 1
    brains.file(second).write_bytes(data)
    again = Brains(tmp_path)
    again.settle()
    assert again.promoted.brain == first
    assert "checksum is wrong" in again.lineage.rows[-1].reason


def test_who_only_reads_changes_nothing(tmp_path, made):
    brains, first, second = begun(tmp_path, made)
    brains._write(Decision(module.PROMOTED, second, first, 2))
    data = (tmp_path / "lineage.jsonl").read_bytes()
    assert Brains(tmp_path).promoted.brain == first
    assert (tmp_path / "lineage.jsonl").read_bytes() == data


def test_a_line_that_cannot_be_written_decides_nothing(tmp_path, made, monkeypatch):
    brains = Brains(tmp_path)
    name = brains.add(made[0])
    monkeypatch.setattr(brains.lineage, "append", lambda rows, objects: False)
    with pytest.raises(OSError, match="lineage.jsonl cannot be written"):
        brains.promote(name, module.FIRST)
    assert brains.promoted is None and not (tmp_path / "promoted.json").exists()
    with pytest.raises(ConfigError, match="nothing to roll back to"):
        brains.roll_back("it falls")


@pytest.mark.parametrize("is_missing", [False, True])
def test_two_damaged_brains_are_not_exchanged_at_each_start(tmp_path, made, is_missing):
    brains, first, second = begun(tmp_path, made)
    brains.promote(second)
    for name in (first, second):
        path = brains.file(name)
        path.write_bytes(path.read_bytes()[:-9])
    if is_missing:
        brains.file(first).unlink()
    data = (tmp_path / "lineage.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(ConfigError, match="and so is the brain before it.* remove .*promoted"):
            Brains(tmp_path).settle()
    assert (tmp_path / "lineage.jsonl").read_bytes() == data
    assert Brains(tmp_path).promoted.brain == second


@pytest.mark.parametrize("text", ["", "[]", '{"brain": "a"}', '{"brain": "..", "generation": "1"}',
                                  '{"brain": "none", "generation": 1}',
                                  '{"brain": "../elsewhere", "generation": 1}',
                                  '{"brain": "0123456789abcdef", "generation": 1, "parent": 5}'])
def test_a_damaged_pointer_is_one_line(tmp_path, text):
    for name in ("0123456789abcdef", "../elsewhere"):
        Brains(tmp_path).run_dir(name).path.mkdir()
        Brains(tmp_path).file(name).touch()
    (tmp_path / "promoted.json").write_text(text)
    with pytest.raises(ConfigError, match="promoted.json is damaged"):
        Brains(tmp_path)


def test_a_damaged_line_of_the_lineage_costs_no_other(tmp_path, made, capsys):
    """A flipped bit, a hand, or a key of a newer version: what is behind it was decided too."""
    live_dir = tmp_path / "live"
    brains, path = Brains(live_dir), live_dir / "lineage.jsonl"
    brains.promote(brains.add(made[0]), module.FIRST)
    brains.tell(Decision(module.REFUSED, "a", reason="no"))
    first, second = path.read_bytes().splitlines(keepends=True)
    for line in (b'{"decision": 1, "brain": "x"}\n', b'{"decision": "promoted"}\n', b"?\n",
                 second.replace(b'"reason"', b'"whim"'), bytes([second[0] ^ 1]) + second[1:]):
        path.write_bytes(first + line + second)
        again = Brains(live_dir)
        assert again.lineage.rows == brains.lineage.rows
        assert main(["lineage", f"--run-dir={tmp_path}"]) == 0
        assert "line 2 is no row of this version" in capsys.readouterr().out
        again.settle()
        again.tell(Decision(module.CONFIRMED, "x"))
        assert [row.decision for row in Brains(live_dir).lineage.rows] == [
            "first", "refused", "confirmed"]
        assert path.read_bytes().startswith(first + line + second)


def test_bounds_and_figures_that_are_no_numbers_cost_no_decision(tmp_path, made):
    """As of a body whose reward was NaN once."""
    brains, first, second = begun(tmp_path, made)
    figure = {"name": "point", "unit": "reward in the model", "before": 1.0, "after": math.nan}
    brains.promote(second, figures=(figure,), bounds={"least_reward": math.nan, "max_limited": 0.2})
    brains.tell(Decision(module.CONFIRMED, second, first, 2))
    again = Brains(tmp_path)
    assert [row.decision for row in again.lineage.rows] == ["first", "promoted", "confirmed"]
    promoted = again.lineage.rows[1]
    assert Bounds.from_dict(promoted.bounds) == Bounds(max_limited=0.2)
    assert not again.lineage.damage and has_lost(Figure(**promoted.figures[0]))


def test_candidates_that_were_refused_do_not_stay_for_ever(tmp_path, made):
    brains, first, _ = begun(tmp_path, made)
    names = [first, *map(brains.add, made[1:])]
    for number, name in enumerate(names):
        os.utime(tmp_path / "brains" / name, (number, number))
    brains.remove_old()
    assert {folder.name for folder in (tmp_path / "brains").iterdir()} == {first, *names[3:]}


FIGURE = {"name": "point", "unit": "return", "before": 1.0, "after": 2.0}


@pytest.mark.parametrize("fields", [
    {"figures": [{"name": "point"}]}, {"figures": [{**FIGURE, "before": "1"}]},
    {"figures": [{**FIGURE, "name": None}]}, {"figures": [{**FIGURE, "luck": 1}]},
    {"figures": ["x"]}, {"figures": 5}, {"bounds": []}, {"reason": 5}, {"time": None},
    {"brain": ["a"]}])
def test_a_line_whose_fields_are_of_other_kinds_is_no_row(tmp_path, capsys, fields):
    """Who reads it later would stumble: the life, or the command that shows it."""
    (tmp_path / "live").mkdir()
    lines = [{"decision": "refused", "brain": "a", **more} for more in ({}, fields, {})]
    (tmp_path / "live/lineage.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert main(["lineage", f"--run-dir={tmp_path}"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 3 and "line 2 is no row of this version" in output[0]


def test_the_lineage_is_shown_whatever_else_is_damaged_and_nothing_is_made(tmp_path, capsys):
    (tmp_path / "live").mkdir()
    (tmp_path / "live/promoted.json").write_text("?")
    assert main(["lineage", f"--run-dir={tmp_path}"]) == 0 and capsys.readouterr().out == "\n"
    assert os.listdir(tmp_path / "live") == ["promoted.json"]
