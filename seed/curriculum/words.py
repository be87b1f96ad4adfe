"""Copying letters, and answering who the robot is."""
import hashlib
import random
import re
from collections.abc import Callable

from seed.curriculum.task import Task, is_holdout, letters, pick
from seed.curriculum.vocab import decode, encode

MIN_TYPO_CHARS = 6        # of a question that may be written with a typo
N_COMMON_QUESTIONS = 4    # with one answer, that are always trained


class Copy(Task):
    """abc> is answered abc."""
    name, prompt_pattern, chance_levels = "copy", r"[a-z]+>", (0.003, 0.003, 0.003)
    lengths, closing, times = ((3, 4), (3, 8), (3, 12), (16, 24)), ">", 1
    stated_levels = (3,)

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        return letters(rng, *self.lengths[level - 1]) + self.closing

    def solve(self, prompt: str) -> str:
        return self.times * prompt[:-1]


class Repeat(Copy):
    """abc& is answered abcabc."""
    name, prompt_pattern = "repeat", r"[a-z]+&"
    lengths, closing, times = ((3, 3), (3, 4), (3, 6), (9, 12)), "&", 2


class Identity(Task):
    """who are you? is answered from the profile's [identity] table, in any wording.

    A wording is an opening, a question of the table, a letter case and a closing: at level 1 the
    first question that has an answer, at level 2 any, at level 3 with a typo. Some questions that
    have the answer of others are never trained on, in any wording.
    """
    name, prompt_pattern, extrapolates, stepwise = "identity", r"[^?]+\?+", False, True
    openings = ("", "please, ", "tell me, ", "hey, ", "robot, ", "seed, ", "hello, ", "now, ",
                "and ", "so, ", "say, ", "well, ")
    closings = ("?", "??", " ?", "", ".", "!")   # the first three of level 1
    cases: tuple[Callable[[str], str], ...] = (str, str.capitalize, str.upper)

    def __init__(self, table: dict[str, str]):
        self.table: dict[str, str] = {}   # by the words of the question
        for question, answer in table.items():
            self.table.setdefault(words_of(question), answer)
        self.questions: dict[str, list[str]] = {}   # by their answer
        for question, answer in self.table.items():
            self.questions.setdefault(answer, []).append(question)
        self.answers = tuple(map(encode, self.questions))
        self.chance_levels = (1 / len(self.answers),) * 3
        self.held_out = {question for questions in self.questions.values()
                         for question in _never_trained(questions)}
        self.meant = self._with_typos()   # the question of the table, by what is written
        self.typos = {   # that mean a question of the table; if none does, the question itself
            question: [text for text in typos(question) if text in self.meant] or [question]
            for question in self.table}
        self.opening_words = tuple(map(words_of, self.openings))

    def _with_typos(self) -> dict[str, str]:
        """Also of what is one typo away from a question, and from none with another answer."""
        meant: dict[str, str] = {}
        ambiguous = set[str]()
        for question in self.table:
            for text in typos(question):
                if self.table[meant.setdefault(text, question)] != self.table[question]:
                    ambiguous.add(text)
        return {**{text: question for text, question in meant.items() if text not in ambiguous},
                **{question: question for question in self.table}}

    def sample_prompt(self, rng: random.Random, level: int) -> str:
        questions = self.questions[pick(rng, list(self.questions))]
        text = questions[0] if level == 1 else pick(rng, questions)
        if level == 3:
            text = pick(rng, self.typos[text])
        words = pick(rng, self.cases)(pick(rng, self.openings) + text)
        return words + pick(rng, self.closings[:3] if level == 1 else self.closings)

    def question_of(self, prompt: str) -> str:
        """Of the table, that is asked in any wording; "" for none."""
        words = words_of(prompt)
        for opening in self.opening_words:
            question = words.removeprefix(f"{opening} " if opening else "")
            if words.startswith(opening) and question in self.meant:
                return self.meant[question]
        return ""

    def solve(self, prompt: str) -> str:
        return self.table.get(self.question_of(prompt), "")

    def answer_to(self, text: str) -> str:
        return self.solve(text)

    def is_held_out(self, prompt: bytes) -> bool:
        return is_holdout(prompt) or self.question_of(decode(prompt)) in self.held_out


def words_of(text: str) -> str:
    """The words of a question, without marks; the text itself where there are none."""
    words = re.sub(r"\W+", " ", text.casefold().replace("'", "")).strip()
    return words or text.strip(" ?").casefold()


def typos(question: str) -> list[str]:
    """A letter is dropped, doubled or exchanged with the next. Short questions have none."""
    if len(question) < MIN_TYPO_CHARS:
        return []
    texts: dict[str, None] = {}
    for i in range(len(question)):
        for text in (question[:i] + question[i + 1:], question[:i + 1] + question[i:],
                     question[:i] + question[i + 1:i + 2] + question[i] + question[i + 2:]):
            if text != question and words_of(text) == text:
                texts[text] = None
    return list(texts)


def _never_trained(questions: list[str]) -> list[str]:
    """Some of the questions with one answer, by their hashes; not of the first, the most common."""
    others = questions[N_COMMON_QUESTIONS:]
    return sorted(others, key=lambda text: hashlib.blake2b(encode(text), digest_size=8).digest()
                  )[:(len(others) + 3) // 4]
