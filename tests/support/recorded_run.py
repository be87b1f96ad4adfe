"""Metrics of a run that has done everything there is, as a training writes them."""
import json
from pathlib import Path
from typing import Any

from seed.evaluation.exact_match import Score
from seed.storage import RunDir

BEGAN_S = 1_790_000_000.0
STEPS = 2000
SCORES = [Score("copy", 1, 40, 64, 0.25), Score("copy", 2, 31, 64, 0.125),
          Score("add", 1, 20, 64, 0.05), Score("/home/me/items.jsonl", 1, 1, 2, 0.5)]
UNIFORM = [Score("copy", 0, 32, 128, 0.125), Score("add", 0, 1, 64, 0.002),
           Score("/home/me/items.jsonl", 0, 1, 2, 0.5)]
EXAMPLES = [{"task": "copy", "level": 1, "prompt": "ab>", "answer": "ab", "right": "ab"},
            {"task": "add", "level": 1, "prompt": "17+17=", "answer": "36…", "right": "34"}]
ANSWERS = [{"prompt": "12<39!", "answer": "T", "right": "T"}]
RETURNS = [{"body": "cartpole", "episodes": 50, "mean": 480.5, "half_interval": 12.0,
            "least": 200.0, "success": 0.75}]
CHOICES = [{"body": "rover", "data": "/data/drive", "accuracy": 0.875, "ticks": 1200}]


def rows() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        lines.append({"kind": "step", "step": step, "time": BEGAN_S + step / 10,
                      "loss": 4 / (1 + step / 200), "grad_norm": 1.0, "lr": 0.01,
                      "tokens_per_s": 30_000})
        if step % 50 == 1:
            lines[-1] |= {"temp_c": 50 + step / 100, "memory_mb": 100 + step // 50, "grade": 1,
                          "duty": 1.0}
        if step % 250 == 0:
            unlocked = min(6, 1 + step // 250)
            lines.append({
                "kind": "curriculum", "step": step, "events": "", "answers": ANSWERS,
                "unlocked": unlocked, "grade": 1, "passed": ["copy"],
                "evals_since_unlock": 0 if unlocked < 6 else step // 250 - 5,
                "accuracy": {"copy": [0.5, step / STEPS], "add": [step / STEPS / 2],
                             "/home/me/items.jsonl": [0.5]}})
        if step % 20 == 0:
            lines.append({"kind": "body", "step": step, "body": "cartpole", "round": step // 20,
                          "loss": 1.0, "entropy": 0.5, "episodes": 3,
                          "mean_return": None if step < 100 else step / 4})
    return [*lines,
            {"kind": "selfplay", "step": 1500, "task": "add_long", "level": 4, "accept_rate": 0.25},
            {"kind": "selfplay", "step": 1800, "task": "add_long", "level": 5, "accept_rate": 0.75},
            {"kind": "teacher", "step": 1900, "accepted": 3, "replies": {"accepted": 3,
                                                                         "wrong": 1}},
            {"kind": "grow", "step": 1000, "parameters": [234_680, 334_816], "size": [1, 2, 3, 4]},
            {"kind": "eval", "step": STEPS, "time": BEGAN_S + STEPS / 10 + 5,
             "board": "Raspberry Pi 5 Model B Rev 1.0", "elapsed_s": 187.5,
             "scores": [s.to_dict() for s in SCORES],
             "uniform": [s.to_dict() for s in UNIFORM],
             "examples": EXAMPLES, "returns": RETURNS, "choices": CHOICES}]


def write(folder: Path, lines: list[dict[str, Any]] | None = None) -> RunDir:
    """A run directory with these metrics alone."""
    folder.mkdir(parents=True, exist_ok=True)
    run_dir = RunDir(folder)
    run_dir.metrics.write_text("".join(
        json.dumps(line) + "\n" for line in (rows() if lines is None else lines)))
    return run_dir
