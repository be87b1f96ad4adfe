"""A user's body class that may misbehave, as the text of a file with a class B: it rewards the
action that is the sign of what it sees; an episode has 10 ticks."""
from pathlib import Path

TEXT = """
import os, random, sys, time
{top}
class B:
    observation_space = {observations}
    action_space = {actions}
    n = 0
    def reset(self, seed=None):
        self.rng, self.ticks = random.Random(seed), 0
        {reset}
        return self.look(), {{}}
    def look(self):
        self.seen = 2 * self.rng.random() - 1
        return [self.seen]
    def step(self, action):
        B.n += 1
        self.ticks += 1
        observation, reward, end = None, float(action == (self.seen > 0)), self.ticks >= 10
        {step}
        return self.look() if observation is None else observation, reward, False, end, {{}}
    {more}
"""


def hostile(folder: Path, step: str = "pass", reset: str = "pass", top: str = "", more: str = "",
            observations: str = "[(-1, 1)]", actions: str = "2", after: int = 0) -> str:
    """The name of a body whose class does that, in a new file; `step` from the tick `after` of all
    rows of its process on."""
    path = folder / "hostile.py"
    path.write_text(TEXT.format(top=top, reset=reset, more=more, observations=observations,
                                actions=actions, step=f"if B.n > {after}: {step}"))
    return f"{path}:B"
