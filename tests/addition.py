"""A task of a user's own: addition, units first; the longer number has `level` digits.

The other has any number of digits up to that. Where both are always of one length, a level is
learnt by the places of its digits alone, which are others at the next.
"""
from itertools import zip_longest


class Addition:
    levels = 6

    def chance(self, level):
        return 10.0 ** -level

    def generate(self, rng, level):
        pair = [self.digits(rng, level), self.digits(rng, 1 + int(rng.random() * level))]
        left, right = pair if rng.random() < 0.5 else pair[::-1]
        return f"{left}+{right}:", self.total(left, right)

    def verify(self, prompt, answer):
        return answer == self.total(*prompt[:-1].split("+"))

    @staticmethod
    def digits(rng, count):
        return "".join(str(int(rng.random() * 10)) for _ in range(count))

    @staticmethod
    def total(left, right):
        carry, digits = 0, ""
        for a, b in zip_longest(left, right, fillvalue="0"):
            carry, digit = divmod(int(a) + int(b) + carry, 10)
            digits += str(digit)
        return digits + str(carry)


class PlainAddition(Addition):
    """The same with the units last, as people write: every digit needs all carries behind it."""

    def generate(self, rng, level):
        left, right = super().generate(rng, level)[0][:-1].split("+")
        return f"{left}+{right}:", self.total(left, right)

    @staticmethod
    def total(left, right):
        return Addition.total(left[::-1], right[::-1])[::-1]
