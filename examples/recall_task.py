"""A task of your own: recall with several questions in a prompt, as in MAD's grid (2403.17844).

    seed train --run-dir runs/recall --set curriculum.tasks={} --minutes 10 \\
        --task examples/recall_task.py:MultiQueryRecall

aQbXaQcD|bXaQc is answered D: pairs of a key and its value, then keys that are asked for. What
follows each of these is a question too; a pair that is said again has a label, which only helps.
"""
import random

KEYS = "abcdefghijklmnopqrstuvwxyz"


class MultiQueryRecall:
    levels = 4
    extrapolation_levels = 2         # with more pairs than any that is trained on
    stepwise = True                  # more pairs are trained on as far as fewer are known
    n_pairs = 2, 4, 8, 16, 20, 24    # of each level
    n_questions = 4

    def chance(self, level):
        return 0.01                  # no answer that ignores the prompt is right more often

    def generate(self, rng: random.Random, level: int):
        keys = sorted(KEYS, key=lambda key: rng.random())[:self.n_pairs[level - 1]]
        values = {key: KEYS[int(rng.random() * 26)].upper() for key in keys}
        pairs, labels = "", []
        for i, key in enumerate(keys):
            pairs += key + values[key]
            if rng.random() < 0.25:
                again = keys[int(rng.random() * (i + 1))]
                pairs += again
                labels.append((len(pairs), values[again]))
                pairs += values[again]
        prompt, questions = pairs + "|", []
        for _ in range(self.n_questions - 1):
            prompt += keys[int(rng.random() * len(keys))]
            questions.append((len(prompt), values[prompt[-1]]))
            prompt += values[prompt[-1]]
        last = keys[int(rng.random() * len(keys))]
        return prompt + last, values[last], {"questions": questions, "labels": labels}

    def verify(self, prompt: str, answer: str) -> bool:
        pairs = prompt[:prompt.index("|")]
        return answer == dict(zip(pairs[::2], pairs[1::2]))[prompt[-1]]
