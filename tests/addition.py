"""A task of a user's own: addition of two numbers of `level` digits each, units first."""


class Addition:
    levels = 6

    def chance(self, level):
        return 10.0 ** -level

    def generate(self, rng, level):
        left, right = ("".join(str(int(rng.random() * 10)) for _ in range(level)) for _ in "ab")
        return f"{left}+{right}:", self.total(left, right)

    def verify(self, prompt, answer):
        return answer == self.total(*prompt[:-1].split("+"))

    @staticmethod
    def total(left, right):
        carry, digits = 0, ""
        for a, b in zip(left, right, strict=True):
            carry, digit = divmod(int(a) + int(b) + carry, 10)
            digits += str(digit)
        return digits + str(carry)
