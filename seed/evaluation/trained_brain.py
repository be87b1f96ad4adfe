"""A checkpoint's brain, ready to run. Importing it does not import tinygrad: using a brain does."""
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seed.body.facts import Facts, facts_of
from seed.config import ModelConfig, Profile, from_dict
from seed.curriculum.asked import Asked
from seed.curriculum.consent import without_unnamed_tasks
from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Item
from seed.curriculum.vocab import END, decode, encode
from seed.errors import CheckpointError, ConfigError
from seed.evaluation.exact_match import AnswerFn, ForwardFn, Score, evaluate
from seed.rng import Stream, stream
from seed.runtime import Answer
from seed.runtime.answer import plain_question
from seed.settings import nearest
from seed.storage import RunDir
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import Log
from seed.task_names import is_user_task
from seed.wavecore.layout import BodyShape, blocks

if TYPE_CHECKING:
    from seed.body.results import Returns
    from seed.wavecore.decode import Decoder, Rollout, Rollouts
    from seed.wavecore.model import WaveCore

ROLLOUT_ROWS = 48   # prompts that are answered at once
MAX_BODIES = 16     # that act side by side


def stored_params(config: ModelConfig, tensors: dict[str, np.ndarray],
                  bodies: Sequence[BodyShape] = ()) -> dict[str, np.ndarray]:
    """The named weights of a model, which a checkpoint claims to have. Nothing is allocated.

    Raises CheckpointError if one is missing, misshaped, of another type or not finite.
    """
    params = {}
    for block in blocks(config, bodies):
        for array in block.arrays:
            key = block.key(array)
            tensor = tensors.get(key)
            if tensor is None or tensor.shape != array.shape or tensor.dtype != np.float32:
                raise CheckpointError(f"the checkpoint's {key} is missing or misshaped: train on, "
                                      f"or use another --run-dir")
            if not np.isfinite(tensor).all():
                raise CheckpointError(f"the checkpoint's {key} is not finite: use another "
                                      f"--run-dir")
            params[key] = tensor
    return params


@dataclass(frozen=True)
class TrainedBrain:
    """A profile and weights; the properties below are made when they are first used."""
    profile: Profile
    step: int
    params: dict[str, np.ndarray]   # named float32 arrays
    threads: int = 1
    sha256: str = ""                # of the checkpoint file
    bodies: Mapping[str, Facts] = field(default_factory=dict)   # by name
    tasks: Collection[str] = ()     # user tasks that it may run or read: the user has named them
    log: Log = print

    @classmethod
    def load(cls, run_dir: RunDir, threads: int = 1, log: Log = print,
             tasks: Collection[str] = ()) -> "TrainedBrain":
        """A run directory's newest. Raises ConfigError if it has none, else as `of`."""
        return replace(cls.of(run_dir.load_brain(log), threads), tasks=tasks, log=log)

    @classmethod
    def of(cls, checkpoint: Checkpoint, threads: int = 1) -> "TrainedBrain":
        """The brain of a checkpoint. Raises CheckpointError as `stored_params`."""
        profile = from_dict(checkpoint.meta["profile"])
        try:
            bodies = facts_of(checkpoint.meta)
        except ConfigError as error:
            raise CheckpointError(f"the checkpoint cannot be used: {error}") from None
        params = stored_params(profile.model, checkpoint.tensors,
                               [facts.codec.body for facts in bodies.values()])
        return cls(profile, checkpoint.meta["step"], params, threads, checkpoint.sha256, bodies)

    @property
    def plain_questions(self) -> bool:
        """Whether it was taught other words, in which a mark at the end of a question means
        nothing, and no user's task, in which it may mean something."""
        taught = [name for name, weight in self.profile.curriculum.tasks.items() if weight > 0]
        return Asked.name in taught and not any(map(is_user_task, taught))

    @property
    def has_rate(self) -> bool:
        """Whether it is for a loop, which its profile or a body gives the rate of."""
        return bool(self.profile.loop.rate_hz) or any(
            facts.rate_hz for facts in self.bodies.values())

    @cached_property
    def model(self) -> "WaveCore":
        """With these weights, in tinygrad."""
        from seed.wavecore.model import WaveCore
        return WaveCore(self.profile.model, self.params, self.threads,
                        bodies=[facts.codec.body for facts in self.bodies.values()])

    @cached_property
    def forward(self) -> ForwardFn:
        """A forward pass over sequences of bytes, as evaluations call it."""
        from seed.evaluation.forward_pass import varlen_forward
        return varlen_forward(self.model)

    @cached_property
    def decoder(self) -> "Decoder":
        """Reads and writes byte by byte."""
        from seed.wavecore.decode import Decoder
        return Decoder(self.model)

    @cached_property
    def rollouts(self) -> "Rollouts":
        """Answers many prompts side by side."""
        from seed.wavecore.decode import Rollouts
        return Rollouts(self.model, ROLLOUT_ROWS)

    def generate(self, prompt: str, max_bytes: int = 128, temperature: float = 0.0,
                 seed: int = 0) -> str:
        """The answer to a prompt, from a fresh state; temperature 0 is greedy."""
        return self.answer(prompt, max_bytes, temperature, seed).text or ""

    def answer(self, prompt: str, max_bytes: int = 128, temperature: float = 0.0, seed: int = 0,
               min_confidence: float = 0.0) -> Answer:
        """As `generate`, with the confidence; the text is None if that is below min_confidence. Of
        a brain of `plain_questions` a `plain_question` is asked."""
        self.decoder.reset()
        prompt = plain_question(prompt) if self.plain_questions else prompt
        return Answer.of(self.decoder.drawn(encode(prompt), max_bytes, END, temperature, seed),
                         END, decode, min_confidence)

    def rollouts_of(self, prompts: Sequence[bytes], max_bytes: int) -> "list[Rollout]":
        """Greedy answers of at most `max_bytes`, each from a fresh state."""
        rng = stream(0, Stream.ROLLOUT, 0)   # temperature 0 draws nothing
        return [answer for i in range(0, len(prompts), ROLLOUT_ROWS)
                for answer in self.rollouts.answer(prompts[i:i + ROLLOUT_ROWS], max_bytes, END,
                                                   0.0, rng)]

    def greedy_answers(self, prompts: Sequence[bytes], max_bytes: int) -> list[bytes]:
        """As `rollouts_of`: the texts, without END."""
        return [answer.text for answer in self.rollouts_of(prompts, max_bytes)]

    def returns(self, body: str, episodes: int, seed: int, greedy: bool = True,
                rows: int = MAX_BODIES, record: Path | None = None,
                show_fn: Callable[[str], object] | None = None) -> "Returns":
        """Of unseen episodes of one of its bodies, which are written to the directory `record`;
        `show_fn` gets a text each tick, of one episode after the other. A class's name says where
        its file is. Raises ConfigError, BodyError, OSError."""
        from seed.body.closed_loop import act
        from seed.body.episodes import EpisodeWriter, Recorder
        from seed.body.open_body import body_name, can_be_opened, opener
        from seed.body.player import Player
        from seed.body.render import Screen
        from seed.body.results import Returns
        name = body_name(body)
        if name not in self.bodies:
            raise ConfigError(f"this brain has no body {name}{nearest(name, self.bodies)}")
        if not can_be_opened(body):
            raise ConfigError(f"{name} was only recorded, so it cannot be opened here: export the "
                              f"brain with seed export, and let it act on its robot")
        facts, codec = self.bodies[name], self.bodies[name].codec
        screen = Screen(show_fn, facts.rate_hz) if show_fn else None
        open_fn = opener(body, self.profile.body, screen)
        # One row or all: a kernel set has the kernels of no other number.
        player = Player(self.model, codec, 1 if screen or episodes < rows else rows)
        recorder = None
        if record:
            open_fn()   # a class tells its rate
            rate_hz = getattr(open_fn, "rate_hz", None)
            recorder = Recorder(EpisodeWriter(
                record, codec, rate_hz, f"seed play --seed {seed}{'' if greedy else ' --sample'}, "
                f"brain {self.sha256[:16]}"), player.rows)
        played = act(player, open_fn, seed, episodes, greedy=greedy, recorder=recorder)
        if recorder:
            recorder.writer.close()
        return Returns.of(name, played or [])

    @cached_property
    def dataset(self) -> Dataset:
        """Of the tasks that may be used; logs which are left out."""
        profile = without_unnamed_tasks(self.profile, self.tasks, self.log)
        return Dataset(profile.curriculum, profile.identity, profile.train.seed)

    def holdout(self) -> list[Item]:
        """As many items of each task and level as the profile says."""
        return self.dataset.holdout(self.profile.curriculum.holdout_items)

    def scores(self, items: Sequence[Item], dataset: Dataset | None = None,
               answer_fn: AnswerFn = lambda *_: None) -> list[Score]:
        """Exact match. `dataset`: of the items, if it is not the brain's own; `answer_fn` as that
        of `evaluate`."""
        return evaluate(items, dataset or self.dataset, self.forward, answer_fn=answer_fn) or []
