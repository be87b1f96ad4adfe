"""User tasks: a class in a Python file, or a recorded corpus.

Named in a profile's [curriculum.tasks] or with --task: `path.py:ClassName`, `items.jsonl` or
`notes.txt` (corpus.py). A file that raises, returns garbage, takes too long or ends its process is
a UserTaskError that names it. A class runs in its own process: user_class_process.py is the run's
side of it, user_task_worker.py the other one, user_class_supervisor.py ends all that it starts.
"""
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import ConfigError, UserTaskError, UserTaskKilled
from seed.curriculum.corpus import Corpus
from seed.curriculum.task import Item, Task
from seed.curriculum.user_class_process import ClassProcess, Kind
from seed.curriculum.user_items import MAX_TEXT_BYTES, Tokens
from seed.curriculum.user_task_worker import FLAGS, MAX_LEVELS
from seed.curriculum.vocab import END, PAD
from seed.task_names import is_class_name

MAX_LOAD_S = 30.0         # to load a class with what it imports
MAX_CALL_S = 5.0          # for one call of its methods
MAX_MEAN_CALL_S = 0.05    # for all calls so far on average, after a grace
CALLS_GRACE_S = 20.0
PROBE_LEVELS, PROBES_PER_LEVEL = 8, 2   # questions that are put more than once: of the training
#                                         levels, and of those that extrapolate
PROBE_EVERY_DRAWS = 512
TASK = Kind("seed.curriculum.user_task_worker", UserTaskError, UserTaskKilled,
            max_frame_bytes=2 ** 17)   # JSON needs up to six bytes for one


def load(name: str) -> Task:
    """The task of a name such as `path.py:ClassName` or `items.jsonl`. Raises UserTaskError."""
    if name.lower().endswith(".py"):
        raise UserTaskError(f"{name}: name its class too, as in {Path(name).name}:ClassName")
    if "\0" in name:
        raise UserTaskError(f"{name!r} is no file name")
    return UserTask(name) if is_class_name(name) else Corpus(name)


def require_prompt_pattern(tasks: Iterable[Task], key: str, tasks_key: str) -> None:
    """Raises ConfigError unless each task can tell its prompts from other texts, as `key` needs."""
    for task in tasks:
        if isinstance(task, (UserTask, Corpus)):
            raise ConfigError(f"{key} needs tasks with a prompt pattern, {task.name} has none: "
                              f"remove it from {tasks_key}, or set {key}=0")


class ClassFacts(NamedTuple):
    """What a class says of itself."""
    chance_levels: tuple[float, ...]
    extrapolation_levels: int
    stepwise: bool
    holdout: bool


class UserTask(Task):
    """A user's class, as task_interface.py has it.

    generate draws only from rng.random(); verify returns whether an answer is right. Both have to
    give the same whenever they are asked the same, so that a run that is resumed continues with the
    same bits: a few questions are put to two processes in another order, and again during the run.
    """
    def __init__(self, name: str):
        self.name = name
        self._path, _, self._class_name = name.rpartition(":")
        self._calls, self._calls_s, self._draws = 0, 0.0, 0
        self._process, self._facts = self._start()
        self.chance_levels, self.stepwise = self._facts.chance_levels, self._facts.stepwise
        probes = [(level, seed) for levels in (self.levels, self.extrapolation_levels)
                  for level in levels[:PROBE_LEVELS] for seed in range(PROBES_PER_LEVEL)]
        self._probes = [(probe, self._probe(self._process, *probe)) for probe in probes]
        second, facts = self._start()
        if facts != self._facts:
            raise self._unsteady("levels, chance or another attribute")
        for probe, reply in reversed(self._probes):
            if self._probe(second, *probe) != reply:
                raise self._unsteady(f"generate or verify of level {probe[0]}")
        second.close()

    def _start(self) -> tuple[ClassProcess, ClassFacts]:
        process = ClassProcess(TASK, self.name, self._path, self._class_name)
        reply, _ = process.ask("loading", MAX_LOAD_S, do="load")
        try:
            facts = ClassFacts(tuple(map(float, reply["chance_levels"])),
                               reply["extrapolation_levels"], *(reply[name] for name in FLAGS))
            process.watch(reply["pid"])
            if (not 1 <= len(facts.chance_levels) <= MAX_LEVELS
                    or not all(0 <= chance <= 1 for chance in facts.chance_levels)
                    or [*map(type, facts[1:])] != [int, bool, bool]
                    or not 0 <= facts.extrapolation_levels <= MAX_LEVELS):
                raise ValueError
        except (ValueError, TypeError, KeyError, OverflowError):
            raise process.damaged("loading") from None
        return process, facts

    @property
    def extrapolation_levels(self) -> range:
        first = self.levels.stop
        return range(first, first + self._facts.extrapolation_levels)

    def _probe(self, process: ClassProcess, level: int, seed: int) -> list[Any]:
        """What the class says to fixed random numbers."""
        tokens = self._generate(process, level, seed)
        return [*tokens, self._verify(process, tokens.prompt, tokens.answer + b"?")]

    def _unsteady(self, what: str) -> UserTaskError:
        return UserTaskError(f"{self.name}: {what} gives another result for the same question: "
                             f"draw only from rng.random() and keep nothing between calls")

    def _ask(self, process: ClassProcess, call: str, **request: Any) -> Any:
        value, call_s = process.ask(call, MAX_CALL_S, **request)
        self._calls, self._calls_s = self._calls + 1, self._calls_s + call_s
        if self._calls_s > CALLS_GRACE_S + MAX_MEAN_CALL_S * self._calls:
            raise UserTaskError(f"{self.name}: a call takes {self._calls_s / self._calls:.2f} s on "
                                f"average: make it faster than {MAX_MEAN_CALL_S} s")
        return value

    def _generate(self, process: ClassProcess, level: int, seed: int) -> Tokens:
        call = f"generate at level {level}"
        value = self._ask(process, call, do="generate", level=level, seed=seed)
        try:
            if not isinstance(value, list):
                raise TypeError
            tokens = Tokens(*(text.encode("latin-1") for text in value))
            prompt, answer, *inside = tokens
            targets = [{i for i, byte in enumerate(text) if byte != PAD} for text in inside]
            if (not 0 < len(prompt) <= MAX_TEXT_BYTES or len(answer) > MAX_TEXT_BYTES
                    or {END, PAD} & set(prompt + answer) or END in b"".join(inside)
                    or targets[0] & targets[1]
                    or max(map(len, inside)) >= len(prompt)):
                raise ValueError
        except (ValueError, TypeError, AttributeError):
            raise process.damaged(call) from None
        return tokens

    def _verify(self, process: ClassProcess, prompt: bytes, answer: bytes) -> bool:
        return self._ask(process, "verify", do="verify", prompt=prompt.decode("latin-1"),
                         answer=answer.decode("latin-1")) is True

    def stop_when(self, stop_fn: Callable[[], bool]) -> None:
        """Calls end with StopRequested when `stop_fn` is true."""
        self._process.stop_fn = stop_fn

    def generate(self, rng: random.Random, level: int) -> Item:
        """The class gets its own generator, so that it cannot disturb other draws."""
        self._draws += 1
        if self._draws % PROBE_EVERY_DRAWS == 0:
            probe, reply = self._probes[self._draws // PROBE_EVERY_DRAWS % len(self._probes)]
            if self._probe(self._process, *probe) != reply:
                raise self._unsteady(f"generate or verify of level {probe[0]}")
        tokens = self._generate(self._process, level, int(rng.random() * 2 ** 53))
        return Item(self.name, level, *tokens,
                    is_fact=not self._facts.holdout and level in self.levels)

    def verify(self, prompt: bytes, answer: bytes) -> bool:
        return self._verify(self._process, prompt, answer)
