"""A task of a user's own: sums of two digits, which a small language model nearly knows."""


class SingleDigits:
    levels = 1

    def chance(self, level):
        return 0.1

    def generate(self, rng, level):
        left, right = int(rng.random() * 10), int(rng.random() * 10)
        return f"{left}+{right}=", str(left + right)

    def verify(self, prompt, answer):
        left, right = prompt[:-1].split("+")
        return answer == str(int(left) + int(right))
