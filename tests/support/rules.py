"""A small untrained brain, and files with rules that it does not know."""
import json
from pathlib import Path

from seed.storage import RunDir
from tests.support.small_run import untrained_run

TINY_MODEL = ["curriculum.holdout_items=8", "model.d_model=32", "model.d_ff=32",
              "model.n_layers=2", "model.pattern=SA"]


def small_brain(folder: Path, *overrides: str) -> RunDir:
    untrained_run(folder, *TINY_MODEL, *overrides)
    return RunDir(folder)


def lines(sign: str, numbers: range, answers: list[str] | None = None) -> str:
    """Of the rule that the answer is the number; or of other answers."""
    return "".join(json.dumps({"prompt": f"{i}{sign}", "answer": answer}) + "\n"
                   for i, answer in zip(numbers, answers or map(str, numbers)))


def rule(path: Path, sign: str, numbers: range = range(10, 50)) -> str:
    path.write_text(lines(sign, numbers))
    return str(path)


def append(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)
