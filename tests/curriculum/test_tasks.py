import os
import random
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from seed.config import CurriculumConfig
from seed.errors import ConfigError
from seed.curriculum.dataset import (IGNORE, Batch, Dataset, is_holdout, pack_one_per_row,
                                     samples)
from seed.curriculum.state import LAST, CurriculumState
from seed.curriculum.task import Item
from seed.curriculum.tasks import NAMES
from seed.curriculum.vocab import END, PAD, decode, encode

OPEN = CurriculumState(LAST, LAST)
TABLE = {"who are you": "I am Seed.", "what for": "To learn.", "where": "Here."}


def dataset(seed=0, parts=False, **tasks):
    config = CurriculumConfig(tasks=tasks or dict.fromkeys(NAMES, 1.0), intermediate_targets=parts)
    return Dataset(config, TABLE, seed)


def unpack(batch):
    """The (prompt, answer) pairs of a batch, read from tokens and targets alone."""
    pairs = []
    for tokens, targets in zip(batch.tokens, batch.targets):
        last = targets[-1] if targets[-1] != IGNORE else PAD
        row = [*map(int, tokens), int(last)]
        learnt = [False, *(targets != IGNORE)]
        prompt, answer = bytearray(), bytearray()
        for byte, is_answer in zip(row, learnt):
            if byte == PAD:
                assert not is_answer and not prompt
            elif byte == END:
                assert is_answer
                pairs.append((bytes(prompt), bytes(answer)))
                prompt, answer = bytearray(), bytearray()
            else:
                (answer if is_answer else prompt).append(byte)
        assert not prompt and not answer
    return pairs


def the_term(numbers):
    """What fits in the place of None: terms two places apart differ by one amount."""
    at = numbers.index(None)
    for value in range(2000):
        filled = [*numbers[:at], value, *numbers[at + 1:]]
        if len({b - a for a, b in zip(filled, filled[2:])}) == 1:
            return value


def the_next(numbers):
    ratios = {Fraction(b, a) for a, b in zip(numbers, numbers[1:])} if all(numbers) else {}
    if len(ratios) == 1 and ratios != {1}:
        return numbers[-1] * ratios.pop()
    own = numbers[len(numbers) % 2::2]  # the terms of the same turn
    return round(np.polyval(np.polyfit(range(len(own)), own, 1), len(own)))


def the_way(rows):
    """The first shortest way in alphabetical order: ways are lengthened in that order."""
    places = {mark: (r, c) for r, row in enumerate(rows) for c, mark in enumerate(row)}
    ways, seen = [("", places["R"])], {places["R"]}
    for way, (r, c) in ways:
        if (r, c) == places["G"]:
            return way
        for move, place in (("E", (r, c + 1)), ("N", (r - 1, c)), ("S", (r + 1, c)),
                            ("W", (r, c - 1))):
            inside = 0 <= place[0] < len(rows) and 0 <= place[1] < len(rows[0])
            if inside and rows[place[0]][place[1]] != "#" and place not in seen:
                seen.add(place)
                ways.append((way + move, place))


def the_count(sentences, who):
    owns = Counter()
    for sentence in sentences:
        name, deed, *rest = sentence.split()
        number = int(rest[-1])
        owns[name] = number + {"has": 0, "finds": owns[name]}.get(deed, owns[name] - 2 * number)
        if deed == "gives":
            owns[rest[0]] += number
    return owns[who]


def recompute(task, prompt):
    text = prompt.decode()
    body = text[:-1]
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if task in ("copy", "repeat"):
        return body if task == "copy" else body + body
    if task == "count":
        return "%d,%d,%d" % tuple(np.polyval(np.polyfit([0, 1], numbers[1:], 1), [2, 3, 4]).round())
    if task == "next":
        return str(the_next(numbers)) if numbers else next(body[-p] for p in (2, 3) if all(
            body[i] == body[i - p] for i in range(p, len(body))))
    if task == "missing":
        return str(the_term([None if n == "_" else int(n) for n in body.split(",")]))
    if task in ("add", "subtract"):
        return str(numbers[0] + numbers[1] * (1 if task == "add" else -1))
    if task in ("add_long", "multiply"):
        left, mark, right = re.findall(r"\d+|[+*]", body)
        value = str(eval(left[::-1].lstrip("0") + mark + right[::-1].lstrip("0")
                         if left.strip("0") and right.strip("0") else
                         f"{int(left[::-1])}{mark}{int(right[::-1])}"))
        return value[::-1].ljust(max(len(left), len(right)) + 1 if mark == "+" else 0, "0")
    if task == "compare":
        return "FT"[numbers[0] < numbers[1]]
    if task == "sort":
        return ",".join(map(str, np.sort(numbers)))
    if task == "parity":
        return str(int(body, 2).bit_count() & 1)
    if task == "cycle":
        place = 0
        for move in body:
            place = (place + {"L": 4, "R": 1, "S": 0}[move]) % 5
        return str(place)
    if task in ("nested", "modular"):
        return str(eval(body) % 5)
    if task == "boolean":
        body = body.replace("!T", "0").replace("!F", "1").replace("T", "1").replace("F", "0")
        first, *rest = re.findall(r"[-+*&|^]?\d+", body)
        value = int(first)
        for part in rest:
            value = eval(f"({value}){part[0]}{int(part[1:])}")
        return "FT"[value]
    if task == "assign":
        *said, asked = body.split(",")
        values = {}
        for statement in said:
            exec(statement, {}, values)
        return str(values[asked])
    if task == "recall":
        return next(pair[2:] for pair in body.split(",")[:-1] if pair[0] == body[-1])
    if task == "story":
        *said, asked = body.split(". ")
        return str(the_count(said, asked))
    if task == "brackets":
        while body != (body := re.sub(r"\(\)|\[\]|{}", "", body)):
            pass
        return body[::-1].translate(str.maketrans("([{", ")]}"))
    if task == "grid":
        return the_way(body.split("/"))
    return next(a for q, a in TABLE.items() if q in text.lower())


def every_item(n=40):
    c = dataset()
    return c, samples(c, n) + c.holdout(n) + c.extrapolation(n)


def task_of(c, prompt):
    return next(n for n, t in c.tasks.items() if re.fullmatch(t.form, prompt.decode()))


def test_verifiers_accept_every_item_and_refuse_a_corrupted_answer():
    c, items = every_item()
    for task, _, prompt, answer in items:
        assert c.tasks[task].verify(prompt, answer)
        for wrong in (answer[:-1], answer + b"1", bytes([answer[0] ^ 1]) + answer[1:]):
            assert not c.tasks[task].verify(prompt, wrong), (prompt, wrong)


def test_questions_of_others_never_raise_and_without_an_answer_none_is_right():
    """As a brain or a teacher may ask them: right in form, and else anything."""
    c, items = every_item(20)
    letters = {name: "".join(sorted({chr(byte) for item in items if item.task == name
                                     for byte in item.prompt})) for name in c.tasks}
    rng, asked = random.Random(1), Counter[str]()
    for task, _, prompt, _ in items:
        asks, text, own = c.tasks[task], prompt.decode(), letters[task]
        for _ in range(80):
            at = rng.randrange(len(text))
            other = text[:at] + rng.choice(("", *own, *own)) + text[at + rng.randrange(2):]
            if re.fullmatch(asks.form, other, re.ASCII):
                text, answer = other, asks.solve(other)
                asked[task] += 1
                assert asks.verify(text.encode(), encode(answer)) == (answer != ""), text
    assert min(asked[task] for task in c.tasks) > 1000


@pytest.mark.parametrize("task, prompt, tempting", [
    ("count", "1,5,2:", "-1,-4,-7"), ("next", "5,0,0;", "0"), ("next", "4,6,9;", "13"),
    ("next", "1,7,3,50,4,9;", "5"), ("missing", "1,2,_,3,9;", "2"), ("assign", "a=b,a=", "0"),
    ("assign", "a=b3,a=", "3"), ("nested", "(1)2+)%", "3"), ("nested", "(3)%", "3"),
    ("story", "Ann finds 3. Ann:", "3"), ("story", "Ann has 3. Ann gives Bob 2. Bob:", "2"),
    ("recall", "k:ab,f:", ""), ("brackets", "()|", ""), ("grid", "RR./.G.@", "S"),
    ("add", "\u0661+2=", "3")])
def test_a_question_that_has_no_answer_has_no_right_one(task, prompt, tempting):
    asked = dataset().tasks[task]
    assert not asked.verify(prompt.encode(), tempting.encode())
    assert not asked.verify(prompt.encode(), b"")


def test_numbers_that_python_does_not_read_have_no_right_answer():
    asked = dataset().tasks["add"]
    assert not asked.verify(b"1" * 4301 + b"+1=", b"1" * 4300 + b"2")
    assert asked.verify(b"1" * 4300 + b"+1=", b"1" * 4299 + b"2")


def test_answers_equal_an_independent_recomputation():
    for item in every_item()[1]:
        assert item.answer == encode(recompute(item.task, item.prompt)), item


def test_a_prompt_belongs_to_exactly_one_task():
    c, items = every_item()
    for item in items:
        fits = [n for n, t in c.tasks.items() if re.fullmatch(t.form, item.prompt.decode())]
        assert fits == [item.task]


def test_holdout_and_training_share_no_prompt_for_any_seed():
    held = {i.prompt for seed in (0, 1) for i in dataset(seed).holdout(33)}
    held |= {i.prompt for i in dataset().extrapolation(33)}
    for seed in (0, 1, 42, 43):
        seen = {p for s in range(40) for p, _ in unpack(dataset(seed).batch(OPEN, s, 5, 127))}
        assert not seen & held and not any(map(is_holdout, seen))


def test_examinations_do_not_depend_on_the_run_seed_or_the_other_tasks():
    assert dataset(1).holdout(7) == dataset(2).holdout(7)
    alone = dataset(3, parity=1.0, copy=0.0)
    assert list(alone.tasks) == ["parity"]
    for name in ("holdout", "extrapolation"):
        mixed = getattr(dataset(), name)(7)
        assert getattr(alone, name)(7) == [i for i in mixed if i.task == "parity"]


def test_extrapolation_prompts_are_longer_than_any_trained_one():
    c = dataset()
    longest = Counter()
    for item in samples(c, 400):
        longest[item.task] = max(longest[item.task], len(item.prompt))
    items = c.extrapolation(100)
    assert {i.task for i in items} == set(NAMES) - {"identity"}
    assert all(len(i.prompt) > longest[i.task] for i in items)


def test_a_batch_is_a_pure_function_of_seed_and_step():
    c = dataset(5)
    first = c.batch(OPEN, 3, 4, 128)
    c.batch(OPEN, 9, 4, 128)
    again = dataset(5).batch(OPEN, 3, 4, 128)
    assert all(np.array_equal(a, b) and a.dtype == np.int32 for a, b in zip(first, again))
    for other in (c.batch(OPEN, 4, 4, 128), dataset(6).batch(OPEN, 3, 4, 128)):
        assert not np.array_equal(first.tokens, other.tokens)


@pytest.mark.parametrize("rows, seq_len", [(1, 113), (3, 129), (16, 128)])
def test_rows_hold_whole_items_whose_answers_are_the_targets(rows, seq_len):
    c = dataset()
    batch = c.batch(OPEN, 0, rows, seq_len)
    assert batch.tokens.shape == batch.targets.shape == (rows, seq_len)
    pairs = unpack(batch)
    assert len(pairs) > rows
    assert all(any(t.verify(*pair) for t in c.tasks.values()) for pair in pairs)
    inside = batch.targets[:, :-1]
    assert np.array_equal(inside[inside >= 0], batch.tokens[:, 1:][inside >= 0])


def test_rows_are_full_and_hold_the_tasks_in_their_shares():
    c = Dataset(CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0), eval_every_steps=0, intermediate_targets=False),
                TABLE, 0)
    batches, drawn = [c.batch(OPEN, s, 16, 128) for s in range(40)], Counter()
    assert np.mean([batch.tokens == PAD for batch in batches]) < 0.02
    for prompt, _ in (pair for batch in batches for pair in unpack(batch)):
        drawn[task_of(c, prompt)] += 1
    n = drawn.total()
    for name in NAMES:
        assert abs(drawn[name] - n / len(NAMES)) < 4 * (n / len(NAMES)) ** 0.5, (name, drawn)


def test_parts_of_prompts_are_answered_where_they_end_but_for_those_of_the_holdout():
    whole, with_parts = dataset(), dataset(parts=True)
    taught = Counter()
    for step in range(20):
        plain, batch = (c.batch(OPEN, step, 16, 128) for c in (whole, with_parts))
        assert np.array_equal(plain.tokens, batch.tokens)
        own = plain.targets != IGNORE
        assert np.array_equal(plain.targets[own], batch.targets[own])
        for tokens, is_user_task, targets in zip(batch.tokens, own, batch.targets):
            expected, at = np.where(is_user_task, targets, IGNORE), 0
            for prompt, answer in unpack(Batch(tokens[None], expected[None].copy())):
                task = task_of(whole, prompt)
                for end, question, part in whole.tasks[task].parts(prompt.decode()):
                    assert part == recompute(task, encode(question))
                    if not is_holdout(encode(question)):
                        ahead = os.path.commonprefix([prompt[end:], encode(part)])
                        learnt = list(encode(part)[:len(ahead) + 1])
                        expected[at + end - 1:at + end - 1 + len(learnt)] = learnt
                        taught[task] += 1
                at += len(prompt) + len(answer) + 1
            assert np.array_equal(targets, expected)
    assert set(taught) == {"parity", "modular", "cycle", "boolean", "assign", "recall", "story",
                           "brackets", "nested"}


def test_evaluation_rows_hold_one_item_each():
    items = dataset().holdout(2)
    assert unpack(pack_one_per_row(items, 129)) == [(i.prompt, i.answer) for i in items]
    with pytest.raises(ConfigError, match="train.seq_len is 3: an item of copy needs 7"):
        pack_one_per_row([Item("copy", 1, b"abc>", b"abc")], 3)


@pytest.mark.parametrize("n", [16, 64, 400])
def test_no_constant_answer_beats_the_chance_level(n):
    c = dataset()
    groups = {}
    for item in c.holdout(n) + samples(c, n):
        groups.setdefault((item.task, item.level, is_holdout(item.prompt)), []).append(item.answer)
    for (task, level, held), answers in groups.items():
        chance = c.tasks[task].chance(level)
        best = Counter(answers).most_common(1)[0][1] / len(answers)
        if held and c.tasks[task].answers:
            assert best == chance
        # Training items lean the other way where the holdout of a small space was uneven.
        noise = (chance * (1 - chance) / len(answers)) ** 0.5
        assert best <= chance + 4 * noise + 2 / len(answers), (task, level, best)


def test_examinations_ask_distinct_items_and_every_answer_of_few():
    table = {f"question {i}": f"answer {i}" for i in range(40)}
    c = Dataset(CurriculumConfig(tasks=dict.fromkeys(NAMES, 1.0)), table, 0)
    for items in (c.holdout(16), c.evaluation_items(OPEN), c.extrapolation(16)):
        assert len(set(items)) == len(items)
    asked = {item.answer for item in c.evaluation_items(OPEN) if item.task == "identity"}
    assert asked == set(c.tasks["identity"].answers)


def test_long_strings_change_up_to_their_end():
    for item in dataset().extrapolation(100):
        if item.task in ("parity", "cycle", "modular"):
            assert len(set(item.prompt[-16:])) > 2, item


def test_the_readme_answers_its_own_prompts():
    c = dataset()
    text = (Path(__file__).parents[2] / "README.md").read_text()
    rows = re.findall(r"^\| *\d* *\| ([a-z_, ]+) \| (`.*?`) \| ", text[text.index("## Lessons"):],
                      re.MULTILINE)
    seen = set()
    for names, cell in rows:
        tasks = [c.tasks[name] for name in names.split(", ") if name != "identity"]
        examples = re.findall("`(.+?)`", cell.replace("\\|", "|"))
        for i, example in enumerate(examples if tasks else ()):
            task = tasks[min(i, len(tasks) - 1)]
            seen.add(task.name)
            assert any(task.verify(example[:at].encode(), example[at:].encode())
                       for at in range(1, len(example))), example
    assert seen == set(NAMES) - {"identity"}


def test_an_item_that_outgrows_a_row_is_not_drawn_and_a_row_for_none_is_refused_at_once():
    c = dataset(recall=1.0)
    assert max(len(p + a) for p, a in unpack(c.batch(OPEN, 0, 8, 40))) <= 40
    with pytest.raises(ConfigError, match="train.seq_len is 12: an item of recall needs"):
        c.check(12)
    with pytest.raises(ConfigError, match="nothing of grade 4 or below"):
        c.batch(CurriculumState(4, 4), 0, 1, 128)


def test_wrong_configs_are_refused_with_the_fix():
    with pytest.raises(ConfigError, match="curriculum.tasks.substract is unknown; .* subtract"):
        dataset(substract=1.0)
    with pytest.raises(ConfigError, match="identity is empty"):
        Dataset(CurriculumConfig(tasks={"identity": 1.0}), {}, 0)
    with pytest.raises(ConfigError, match="train.seq_len is 2: .* use at least"):
        dataset(copy=1.0).batch(OPEN, 0, 1, 2)


def test_text_survives_the_vocabulary():
    assert decode([*encode("añ✓"), END, 65]) == "añ✓"


def test_the_curriculum_never_imports_tinygrad():
    code = "import sys, seed.curriculum.dataset; sys.exit('tinygrad' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.long
def test_ten_million_training_items_of_five_seeds_hold_none_that_is_examined():
    lessons = dataset()
    kept = {item.prompt for n in (16, 64, 1000) for item in (
        *lessons.holdout(n), *lessons.extrapolation(n))} | {i.prompt for i in lessons.evaluation_items(OPEN)}
    assert len(kept) > 50_000 and all(map(is_holdout, kept))
    for seed in range(5):
        lessons, seen, step = dataset(seed), 0, 0
        while seen < 2_000_000:
            prompts = [prompt for prompt, _ in unpack(lessons.batch(OPEN, step, 512, 128))]
            assert not kept.intersection(prompts) and not any(map(is_holdout, prompts))
            seen, step = seen + len(prompts), step + 1
