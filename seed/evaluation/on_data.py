"""How well a brain, of a run directory or an exported file, does on recorded data: exact match on
prompts and answers, or how often it would have chosen as was recorded."""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from seed.body.codec import Codec
from seed.body.episodes import EpisodeFolder
from seed.body.stored import matching
from seed.curriculum.corpus import read_recorded
from seed.curriculum.prompt_questions import questions_are_right
from seed.curriculum.task import is_holdout
from seed.errors import ConfigError
from seed.evaluation.exact_match import Score
from seed.evaluation.trained_brain import TrainedBrain
from seed.settings import nearest
from seed.task_names import is_class_name, is_user_task

if TYPE_CHECKING:
    from seed.runtime import Brain

ALL, HELD_OUT = "all", "held out"


class Row(NamedTuple):
    """Of all that was recorded, or of what `adapt` and `train` never train on."""
    what: str
    correct: int
    n: int

    def to_dict(self) -> dict[str, Any]:
        score = Score(self.what, 1, self.correct, self.n, 0.0)
        return {**self._asdict(), "accuracy": score.accuracy, "interval": score.interval}


class Chooser(Protocol):
    """Acts as a brain would, and is told what was done."""

    def begin(self) -> None: ...

    def choose(self, observation: Sequence[float]) -> Sequence[int]: ...

    def take(self, choices: Sequence[int]) -> None: ...


def on_items(name: str, answer_fn: Callable[[list[bytes], int], Sequence[bytes]],
             prompt_fn: Callable[[bytes], np.ndarray]) -> list[Row]:
    """Of a file. `answer_fn`: answers to prompts, of so many bytes at most; `prompt_fn`: (n, v)
    logits after each byte of a prompt, for what is asked inside it. Raises ConfigError."""
    if not is_user_task(name) or is_class_name(name):
        raise ConfigError(f"--data is {name!r}: use items.jsonl, notes.txt or a directory of "
                          f"episodes")
    items = list(dict.fromkeys(read_recorded(name).items))
    if not items:
        raise ConfigError(f"{name} has no example: record some")
    max_bytes = max(len(item.answer) for item in items) + 1   # what does not end is wrong
    answers = answer_fn([item.prompt for item in items], max_bytes)
    hits = [answer == item.answer and (
        not item.questions or questions_are_right(item, prompt_fn(item.prompt)))
        for item, answer in zip(items, answers, strict=True)]
    held_out = [hit for hit, item in zip(hits, items)
                if is_holdout(item.prompt) and not item.is_fact]
    return [Row(what, sum(rows), len(rows)) for what, rows in (
        (ALL, hits), (HELD_OUT, held_out)) if rows]


def on_episodes(path: Path, codecs: dict[str, Codec],
                chooser_fn: Callable[[str], Chooser]) -> list[Row]:
    """Of the parts of all actions in a directory. `codecs`: of the brain's bodies. Raises
    ConfigError."""
    folder = EpisodeFolder(path)
    name = folder.body if folder.body in codecs or len(codecs) != 1 else next(iter(codecs))
    if name not in codecs:
        raise ConfigError(f"this brain has no body {name}{nearest(name, codecs)}: it cannot be "
                          f"evaluated on {path}")
    matching(folder, codecs[name])
    chooser, correct, count = chooser_fn(name), 0, 0
    for step in folder.steps():
        if step.is_first:
            chooser.begin()
        if step.choices is None:
            continue
        correct += sum(map(int.__eq__, map(int, chooser.choose(step.observation)), step.choices))
        count += len(step.choices)
        chooser.take(step.choices)
    if not count:
        raise folder.no_episode()
    return [Row("choices as recorded", correct, count)]


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'recorded':<22}{'right %':>9}{'95 % interval':>16}{'n':>8}"]
    for row in map(Row.to_dict, rows):
        low, high = (100 * x for x in row["interval"])
        lines.append(f"{row['what']:<22}{100 * row['accuracy']:>9.1f}"
                     f"{f'{low:.1f} - {high:.1f}':>16}{row['n']:>8}")
    return "\n".join(lines)


class _Trained:
    """A checkpoint's brain in one of its bodies."""

    def __init__(self, brain: TrainedBrain, codec: Codec):
        from seed.body.player import Player
        self._codec, self._player = codec, Player(brain.model, codec, 1)

    def begin(self) -> None:
        self._player.begin()
        self._before = np.full((1, len(self._codec.actions)), -1, np.int64)

    def choose(self, observation: Sequence[float]) -> Sequence[int]:
        levels = self._codec.levels(np.array([observation], float))[0].astype(np.int64)
        logits = self._player.tick(*self._codec.encode(levels, self._before))
        choices: list[int] = self._codec.sample(logits)[1][0].tolist()
        return choices

    def take(self, choices: Sequence[int]) -> None:
        self._before[0] = choices


class _Exported:
    """An exported file in one of its bodies."""

    def __init__(self, brain: "Brain", name: str):
        self._brain, self._name = brain, name

    def begin(self) -> None:
        self._brain.begin(self._name)

    def choose(self, observation: Sequence[float]) -> Sequence[int]:
        self._brain.act(observation)
        chosen = self._brain.bodies[self._name].choices
        assert chosen is not None
        choices: list[int] = chosen.tolist()
        return choices

    def take(self, choices: Sequence[int]) -> None:
        codec = self._brain.bodies[self._name]
        codec.take([part[choice] for part, choice in zip(codec.actions, choices)])


def trained_on_data(brain: TrainedBrain, data: str) -> list[Row]:
    if Path(data).is_dir():
        codecs = {name: facts.codec for name, facts in brain.bodies.items()}
        return on_episodes(Path(data), codecs, lambda name: _Trained(brain, codecs[name]))
    return on_items(data, brain.greedy_answers, lambda prompt: brain.forward(
        np.frombuffer(prompt, np.uint8), np.array([0, len(prompt)])))


def exported_on_data(brain: "Brain", data: str) -> list[Row]:
    """Raises BrainError too."""
    if Path(data).is_dir():
        codecs = {name: Codec.from_dict(body["codec"])
                  for name, body in brain.description["bodies"].items()}
        return on_episodes(Path(data), codecs, lambda name: _Exported(brain, name))

    def answer(prompt: bytes, max_bytes: int) -> bytes:
        brain.reset()
        return bytes(brain.generate_bytes(prompt, max_bytes))

    def logits_of(prompt: bytes) -> np.ndarray:
        brain.reset()
        return np.array([brain.step(byte) for byte in prompt])
    return on_items(data, lambda prompts, max_bytes: [
        answer(prompt, max_bytes) for prompt in prompts], logits_of)
