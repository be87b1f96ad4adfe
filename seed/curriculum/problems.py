"""Problems of several steps: stories, brackets, and a robot's path over a grid."""
import operator
import random
import re
from collections import deque
from collections.abc import Iterator

from seed.curriculum.task import Subquestion, Task, integer, pick
from seed.curriculum.tracking import MODULUS

PEOPLE = ("Ann", "Bob", "Cat")
CLOSES = {"(": ")", "[": "]", "{": "}"}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
MOVES = {"E": (0, 1), "N": (-1, 0), "S": (1, 0), "W": (0, -1)}


class Story(Task):
    """Ann has 5. Bob has 3. Ann gives Bob 2. Bob: is answered 5.

    In half of the stories somebody's number is restated after the first event.
    """
    name, chance_levels, fact_pattern = "story", (0.13, 0.13, 0.14), r"(\w+) has (\d+)\."
    chance_stated = 0.115
    prompt_pattern = r"([A-Z][a-z]{2} (has|finds|loses|gives [A-Z][a-z]{2}) \d+\. )+[A-Z][a-z]{2}:"

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        return self._story(rng, (1, 2, 2, 3)[level - 1],
                           *((1, 2), (1, 2), (2, 4), (6, 8))[level - 1])

    def sample_stated(self, rng: random.Random) -> str:
        return self._story(rng, integer(rng, 1, 2), 1, 4)

    def _story(self, rng: random.Random, count: int, low: int, high: int) -> str:
        """Of so many people, in low..high events."""
        start = int(rng.random() * len(PEOPLE))
        counts = {PEOPLE[(start + i) % len(PEOPLE)]: integer(rng, 0, 20) for i in range(count)}
        people = list(counts)
        story = [f"{name} has {number}. " for name, number in counts.items()]
        events = integer(rng, low, high)
        while len(story) < count + events:
            who = pick(rng, people)
            receiver = people[(people.index(who) + 1) % count]
            verb = pick(rng, ("finds", "loses", "gives") if count > 1 else ("finds", "loses"))
            number = integer(rng, 1, 9)
            if verb != "finds":
                if not counts[who]:
                    continue
                number = min(number, counts[who])
            counts[who] += number if verb == "finds" else -number
            if verb == "gives":
                counts[receiver] += number
                verb = f"gives {receiver}"
            story.append(f"{who} {verb} {number}. ")
            if len(story) == count + 1 and rng.random() < 0.5:
                story[-1] += f"{who} has {counts[who]}. "
        return f"{''.join(story)}{pick(rng, people)}:"

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        """Also what somebody has after an event of theirs."""
        yield from super().intermediate_targets(prompt)
        for match in re.finditer(r"(\w+) (?:finds|loses|gives)[^.]+\.", prompt):
            question = f"{prompt[:match.end()]} {match[1]}:"
            yield Subquestion(match.end(), question, self.solve(question))

    def solve(self, prompt: str) -> str:
        counts: dict[str, int] = {}
        for who, verb, receiver, text in re.findall(
                r"(\w+) (has|finds|loses|gives ?)(\w*) (\d+)\.", prompt):
            number = int(text)
            if not {who, receiver or who} <= counts.keys() and verb != "has":
                return ""   # somebody who was never introduced
            counts[who] = (number if verb == "has" else
                           counts[who] + (number if verb == "finds" else -number))
            if receiver:
                counts[receiver] += number
        return str(counts.get(prompt.split(" ")[-1][:-1], ""))


class Brackets(Task):
    """([]{(| is answered )}): the brackets that close all open ones."""
    name, prompt_pattern, chance_levels = "brackets", r"[()\[\]{}]+\|", (0.195, 0.1, 0.06)
    term_pattern, chance_stated = r"[()\[\]{}]", 0.075

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        low, high, max_depth = ((2, 5, 3), (4, 10, 5), (6, 20, 8), (24, 40, 12))[level - 1]
        while True:
            prompt = self._marks(rng, integer(rng, low, high), max_depth)
            if prompt:
                return prompt

    def sample_stated(self, rng: random.Random) -> str:
        count, prompt = integer(rng, 2, 20), ""
        while not prompt:
            prompt = self._marks(rng, count, 8)
        return prompt

    def _marks(self, rng: random.Random, count: int, max_depth: int) -> str:
        """So many; "" if none is left open."""
        marks, unclosed = "", ""
        for _ in range(count):
            if unclosed and (len(unclosed) == max_depth or rng.random() < 0.45):
                marks += CLOSES[unclosed[-1]]
                unclosed = unclosed[:-1]
            else:
                unclosed += pick(rng, "([{")
                marks += unclosed[-1]
        return marks + "|" if unclosed else ""

    def solve(self, prompt: str) -> str:
        unclosed: list[str] = []
        for mark in prompt[:-1]:
            if mark in CLOSES:
                unclosed.append(CLOSES[mark])
            elif not unclosed or unclosed.pop() != mark:
                return ""
        return "".join(reversed(unclosed))


class Nested(Task):
    """((3*4)+2)% is answered 4: the value modulo 5 of an expression in brackets."""
    name, prompt_pattern, chance_levels = "nested", r"\([\d()+*-]+\)%", (0.2, 0.2, 0.2)
    answers, stepwise = (b"0", b"1", b"2", b"3", b"4"), True
    chance_stated = 0.2

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        return self._sum(rng, integer(rng, *((0, 1), (1, 2), (1, 3), (6, 7))[level - 1]))

    def sample_stated(self, rng: random.Random) -> str:
        return self._sum(rng, integer(rng, 0, 3))

    def _sum(self, rng: random.Random, depth: int) -> str:
        """Brackets around an expression with some that are exactly `depth` deep."""
        inner, digit = self._expression(rng, depth), str(integer(rng, 0, 9))
        # A sum with a uniform digit outside keeps the five answers equally likely.
        left, right = (inner, digit) if rng.random() < 0.5 else (digit, inner)
        return f"({left}{pick(rng, '-+')}{right})%"

    def _expression(self, rng: random.Random, depth: int) -> str:
        """Brackets exactly `depth` deep, on one side or on both."""
        if depth == 0:
            return str(integer(rng, 0, 9))
        shallow = int(rng.random() * depth) if rng.random() < 0.5 else 0
        operands = [self._expression(rng, depth - 1), self._expression(rng, min(shallow, 1))]
        if rng.random() < 0.5:
            operands.reverse()
        return f"({operands[0]}{pick(rng, '+-*')}{operands[1]})"

    def solve(self, prompt: str) -> str:
        """Innermost brackets first, until one digit is left."""
        text, pairs = prompt[:-1], 1
        while pairs:
            text, pairs = re.subn(r"\((\d)([+*-])(\d)\)", lambda match: str(
                OPERATORS[match[2]](int(match[1]), int(match[3])) % MODULUS), text)
        return text if len(text) == 1 else ""

    def intermediate_targets(self, prompt: str) -> Iterator[Subquestion]:
        starts: list[int] = []
        for end, mark in enumerate(prompt[:-2], 1):
            if mark == "(":
                starts.append(end - 1)
            elif mark == ")":
                question = prompt[starts.pop():end] + "%"
                yield Subquestion(end, question, self.solve(question))


class Grid(Task):
    """R../.#./..G@ is answered EESS: the robot's shortest path to the goal, around the walls.

    Of several shortest paths it is the first in alphabetical order.
    """
    name, prompt_pattern, chance_levels = "grid", r"[RG.#]+(/[RG.#]+)+@", (0.13, 0.075, 0.042)
    chance_stated = 0.042

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        side, max_walls = ((3, 1), (4, 3), (5, 6), (7, 12))[level - 1]
        while True:
            cells = ["."] * (side * side)
            for mark in "RG" + "#" * integer(rng, 0, max_walls):
                cells[int(rng.random() * len(cells))] = mark
            prompt = self._rows(cells, side)
            if "R" in prompt and "G" in prompt and self.solve(prompt):
                return prompt

    def sample_stated(self, rng: random.Random) -> str:
        n_walls = integer(rng, 0, 6)
        while True:
            cells, free = ["."] * 25, list(range(25))
            for mark in "RG" + n_walls * "#":
                cells[free.pop(int(rng.random() * len(free)))] = mark
            prompt = self._rows(cells, 5)
            if self.solve(prompt):
                return prompt

    def _rows(self, cells: list[str], side: int) -> str:
        rows = ["".join(cells[i:i + side]) for i in range(0, len(cells), side)]
        return "/".join(rows) + "@"

    def solve(self, prompt: str) -> str:
        """Breadth first, moves in alphabetical order: the first path to a place is its answer."""
        if prompt.count("R") != 1 or prompt.count("G") != 1:
            return ""
        cells = {(r, c): mark for r, row in enumerate(prompt[:-1].split("/"))
                 for c, mark in enumerate(row)}
        places = {mark: place for place, mark in cells.items()}
        paths, unvisited = {places["R"]: ""}, deque([places["R"]])
        while unvisited and places["G"] not in paths:
            r, c = unvisited.popleft()
            for move, (down, right) in MOVES.items():
                place = (r + down, c + right)
                if cells.get(place, "#") != "#" and place not in paths:
                    paths[place] = paths[r, c] + move
                    unvisited.append(place)
        return paths.get(places["G"], "")
