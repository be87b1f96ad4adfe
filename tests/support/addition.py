"""A task of a user's own: addition, units first, each digit behind the letter of its place.

    k5l4+k8l7m6:  k3l2m7n0     45 + 678 = 723

The letters begin anywhere in the alphabet. So a brain adds what stands behind one letter and goes
on to the next, and does not count: what it learns of few digits holds for more (index hints, Zhou
et al. 2310.16028, section 5). The longer number has `level` digits, the other any number up to
that.
"""
from itertools import zip_longest

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Addition:
    levels = 6

    def chance(self, level):
        return 10.0 ** -level

    def generate(self, rng, level):
        pair = [self.digits(rng, level), self.digits(rng, 1 + int(rng.random() * level))]
        left, right = pair if rng.random() < 0.5 else pair[::-1]
        prompt = self.ask(left, right, int(rng.random() * len(LETTERS)))
        return prompt, self.solve(prompt)

    def ask(self, left, right, first):
        return f"{placed(left, first)}+{placed(right, first)}:"

    def solve(self, prompt):
        left, right = prompt[:-1].split("+")
        return placed(total(left[1::2], right[1::2]), LETTERS.index(left[0]))

    def verify(self, prompt, answer):
        return answer == self.solve(prompt)

    @staticmethod
    def digits(rng, count):
        return "".join(str(int(rng.random() * 10)) for _ in range(count))


class UnplacedAddition(Addition):
    """The same without letters."""

    def ask(self, left, right, first):
        return f"{left}+{right}:"

    def solve(self, prompt):
        return total(*prompt[:-1].split("+"))


class PlainAddition(UnplacedAddition):
    """With the units last, as people write: every digit needs all carries behind it."""

    def solve(self, prompt):
        return total(*(number[::-1] for number in prompt[:-1].split("+")))[::-1]


def total(left, right):
    """Sum of two numbers, units first, with a digit for the last carry."""
    carry, digits = 0, ""
    for a, b in zip_longest(left, right, fillvalue="0"):
        carry, digit = divmod(int(a) + int(b) + carry, 10)
        digits += str(digit)
    return digits + str(carry)


def placed(number, first):
    return "".join(LETTERS[(first + i) % len(LETTERS)] + digit for i, digit in enumerate(number))
