"""A task of a user's own: what add_long asks, in plain order. It shows what the order is worth."""


class PlainTen:
    levels = 3

    def chance(self, level):
        return 0.01

    def generate(self, rng, level):
        low, high = ((1, 4), (1, 10), (10, 10))[level - 1]
        one, two = (self._number(rng, low + int(rng.random() * (high - low + 1))) for _ in "ab")
        prompt = f"{one}+{two}="
        return prompt, self._sum(prompt)

    def verify(self, prompt, answer):
        return answer == self._sum(prompt)

    @staticmethod
    def _number(rng, count):
        return str(1 + int(rng.random() * 9)) + "".join(
            str(int(rng.random() * 10)) for _ in range(count - 1))

    @staticmethod
    def _sum(prompt):
        """One digit more than the longer number, so that its length tells nothing."""
        one, two = prompt[:-1].split("+")
        return f"{int(one) + int(two):0{max(len(one), len(two)) + 1}d}"
