"""Problems of several steps: stories, brackets, and a robot's way over a grid."""
import random
import re
from collections.abc import Iterator

from seed.curriculum.task import Part, Task, integer
from seed.curriculum.tracking import MODULUS

PEOPLE = ("Ann", "Bob", "Cat")
CLOSES = {"(": ")", "[": "]", "{": "}"}
MOVES = {"E": (0, 1), "N": (-1, 0), "S": (1, 0), "W": (0, -1)}


class Story(Task):
    """Ann has 5. Bob has 3. Ann gives Bob 2. Bob: is answered 5.

    In half of the stories somebody's number is said again after the first deed.
    """
    name, chances = "story", (0.13, 0.13, 0.14)
    form = r"([A-Z][a-z]{2} (has|finds|loses|gives [A-Z][a-z]{2}) \d+\. )+[A-Z][a-z]{2}:"

    def ask(self, rng: random.Random, level: int) -> str:
        count = (1, 2, 2, 3)[level - 1]
        start = int(rng.random() * len(PEOPLE))
        owns = {PEOPLE[(start + i) % len(PEOPLE)]: integer(rng, 0, 20) for i in range(count)}
        people = list(owns)
        said = [f"{name} has {number}. " for name, number in owns.items()]
        deeds = integer(rng, *((1, 2), (1, 2), (2, 4), (6, 8))[level - 1])
        while len(said) < count + deeds:
            who = people[int(rng.random() * count)]
            other = people[(people.index(who) + 1) % count]
            deed = ("finds", "loses", "gives")[int(rng.random() * (3 if count > 1 else 2))]
            number = integer(rng, 1, 9)
            if deed != "finds":
                if not owns[who]:
                    continue
                number = min(number, owns[who])
            owns[who] += number if deed == "finds" else -number
            if deed == "gives":
                owns[other] += number
                deed = f"gives {other}"
            said.append(f"{who} {deed} {number}. ")
            if len(said) == count + 1 and rng.random() < 0.5:
                said[-1] += f"{who} has {owns[who]}. "
        return f"{''.join(said)}{people[int(rng.random() * count)]}:"

    def solve(self, prompt: str) -> str:
        owns: dict[str, int] = {}
        for who, deed, other, text in re.findall(
                r"(\w+) (has|finds|loses|gives ?)(\w*) (\d+)\.", prompt):
            number = int(text)
            if not {who, other or who} <= owns.keys() and deed != "has":
                return ""   # of somebody who was never told of
            owns[who] = (number if deed == "has" else
                         owns[who] + (number if deed == "finds" else -number))
            if other:
                owns[other] += number
        return str(owns.get(prompt.split(" ")[-1][:-1], ""))

    def parts(self, prompt: str) -> Iterator[Part]:
        """What somebody has, when it is said again."""
        for found in re.finditer(r"(\w+) has (\d+)\.", prompt):
            question = f"{prompt[:found.start()]}{found[1]}:"
            if self.solve(question) == found[2]:
                yield Part(found.start(2), question, found[2])


class Brackets(Task):
    """([]{(| is answered )}): what closes all that is open."""
    name, form, chances = "brackets", r"[()\[\]{}]+\|", (0.195, 0.1, 0.06)

    def ask(self, rng: random.Random, level: int) -> str:
        low, high, deepest = ((2, 5, 3), (4, 10, 5), (6, 20, 8), (24, 40, 12))[level - 1]
        said, is_open = "", ""
        while not is_open:
            said, is_open = "", ""
            for _ in range(integer(rng, low, high)):
                if is_open and (len(is_open) == deepest or rng.random() < 0.45):
                    said += CLOSES[is_open[-1]]
                    is_open = is_open[:-1]
                else:
                    is_open += "([{"[int(rng.random() * 3)]
                    said += is_open[-1]
        return said + "|"

    def solve(self, prompt: str) -> str:
        is_open: list[str] = []
        for mark in prompt[:-1]:
            if mark in CLOSES:
                is_open.append(CLOSES[mark])
            elif not is_open or is_open.pop() != mark:
                return ""
        return "".join(reversed(is_open))

    def parts(self, prompt: str) -> Iterator[Part]:
        is_open = ""
        for end, mark in enumerate(prompt[:-1], 1):
            is_open = is_open + CLOSES[mark] if mark in CLOSES else is_open[:-1]
            if is_open:
                yield Part(end, prompt[:end] + "|", is_open[::-1])


def calculate(left: int, operator: str, right: int) -> int:
    return (left * right if operator == "*" else
            left - right if operator == "-" else left + right) % MODULUS


class Nested(Task):
    """((3*4)+2)% is answered 4: the value modulo 5 of an expression in brackets."""
    name, form, chances = "nested", r"\([\d()+*-]+\)%", (0.2, 0.2, 0.2)
    answers, stepwise = (b"0", b"1", b"2", b"3", b"4"), True

    def ask(self, rng: random.Random, level: int) -> str:
        low, high = ((0, 1), (1, 2), (1, 3), (6, 7))[level - 1]
        inner, digit = self._expression(rng, integer(rng, low, high)), str(integer(rng, 0, 9))
        # A sum with a uniform digit outside keeps the five answers equally likely.
        left, right = (inner, digit) if rng.random() < 0.5 else (digit, inner)
        return f"({left}{'+-'[rng.random() < 0.5]}{right})%"

    def _expression(self, rng: random.Random, depth: int) -> str:
        """Brackets exactly `depth` deep, on one side or on both."""
        if depth == 0:
            return str(integer(rng, 0, 9))
        shallow = int(rng.random() * depth) if rng.random() < 0.5 else 0
        parts = [self._expression(rng, depth - 1), self._expression(rng, min(shallow, 1))]
        if rng.random() < 0.5:
            parts.reverse()
        return f"({parts[0]}{'+-*'[int(rng.random() * 3)]}{parts[1]})"

    def solve(self, prompt: str) -> str:
        """Innermost brackets first, until one digit is left."""
        said, pairs = prompt[:-1], 1
        while pairs:
            said, pairs = re.subn(r"\((\d)([+*-])(\d)\)", lambda found: str(
                calculate(int(found[1]), found[2], int(found[3]))), said)
        return said if len(said) == 1 else ""

    def parts(self, prompt: str) -> Iterator[Part]:
        starts: list[int] = []
        for end, mark in enumerate(prompt[:-2], 1):
            if mark == "(":
                starts.append(end - 1)
            elif mark == ")":
                question = prompt[starts.pop():end] + "%"
                yield Part(end, question, self.solve(question))


class Grid(Task):
    """R../.#./..G@ is answered EESS: the robot's shortest way to the goal, around the walls.

    Of several shortest ways it is the first in the order of the alphabet.
    """
    name, form, chances = "grid", r"[RG.#]+(/[RG.#]+)+@", (0.13, 0.075, 0.042)

    def ask(self, rng: random.Random, level: int) -> str:
        side, most = ((3, 1), (4, 3), (5, 6), (7, 12))[level - 1]
        while True:
            cells = ["."] * (side * side)
            for mark in "RG" + "#" * integer(rng, 0, most):
                cells[int(rng.random() * len(cells))] = mark
            prompt = "/".join(["".join(cells[i:i + side])
                               for i in range(0, len(cells), side)]) + "@"
            if "R" in prompt and "G" in prompt and self.solve(prompt):
                return prompt

    def solve(self, prompt: str) -> str:
        cells = {(r, c): mark for r, row in enumerate(prompt[:-1].split("/"))
                 for c, mark in enumerate(row)}
        places = {mark: place for place, mark in cells.items()}
        if prompt.count("R") != 1 or prompt.count("G") != 1:
            return ""
        distance, edge = {places["G"]: 0}, [places["G"]]
        while edge and places["R"] not in distance:
            reached = []
            for r, c in edge:
                for down, right in MOVES.values():
                    place = (r + down, c + right)
                    if cells.get(place, "#") != "#" and place not in distance:
                        distance[place] = distance[r, c] + 1
                        reached.append(place)
            edge = reached
        way, (r, c) = "", places["R"]
        for left in range(distance.get((r, c), 0) - 1, -1, -1):
            way += next(move for move, (down, right) in MOVES.items()
                        if distance.get((r + down, c + right), -1) == left)
            r, c = r + MOVES[way[-1]][0], c + MOVES[way[-1]][1]
        return way
