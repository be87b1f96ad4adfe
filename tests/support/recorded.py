"""Episodes of the body Target, written by hand as a robot's owner would."""
import json
from pathlib import Path

import numpy as np

METADATA = {"format": 1, "body": "target", "rate_hz": 10, "recorded_by": "a test",
            "observation": {"low": [-1], "high": [1]}, "action": {"n": 2}}


def step(observation, action=None, reward=0.0, **flags) -> dict:
    return {"observation": observation, "action": action, "reward": reward, "is_first": False,
            "is_last": False, "is_terminal": False, **flags}


def steps_of(rng: np.random.Generator, n_ticks: int, is_terminal: bool = False,
             reward: float = 1.0) -> list[dict]:
    """An episode in which the action is the sign of what is seen."""
    seen = rng.uniform(-1, 1, n_ticks + 1)
    rows = [step([x], int(x > 0), reward) for x in seen[:-1]]
    rows.append(step([seen[-1]], is_last=True, is_terminal=is_terminal))
    rows[0]["is_first"] = True
    return rows


def write(folder: Path, rows: list[dict], name: str = "episodes-0.jsonl", **metadata) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps({**METADATA, **metadata}))
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recorded(folder: Path, episodes: int = 16, n_ticks: int = 10, seed: int = 0,
             reward: float = 1.0) -> Path:
    rng = np.random.default_rng(seed)
    return write(folder, [row for _ in range(episodes)
                          for row in steps_of(rng, n_ticks, reward=reward)])


def drawn(folder: Path, episodes: int, n_ticks: int = 10) -> Path:
    """Actions at random, of which every second one is right and pays 1."""
    rng, rows = np.random.default_rng(0), list[dict]()
    for _ in range(episodes):
        episode = steps_of(rng, n_ticks)
        for row in episode[:-1]:
            action = int(rng.integers(2))
            row |= {"action": action, "reward": float(action == row["action"])}
        rows += episode
    return write(folder, rows)
