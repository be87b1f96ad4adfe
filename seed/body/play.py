"""A body in training: it plays rounds with the brain as it is, and the brain learns from each."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from seed.body import round as rounds
from seed.body.closed_loop import evaluation, later_episodes
from seed.body.facts import Facts
from seed.body.novelty import Novelty
from seed.body.open_body import body_name
from seed.body.player import Player
from seed.body.results import Acting, ChoiceAccuracy, Returns
from seed.body.round import Examples, Played, Round, Targets
from seed.body.tensor_names import play_of, row_name
from seed.body.tick_step import TickStep, rows_of
from seed.body.value_range import moved_rows
from seed.body.world import Episode, World
from seed.config import BodyConfig
from seed.errors import CheckpointError, SeedError
from seed.rng import Stream, name_index, stream
from seed.wavecore.carried import Hearing
from seed.wavecore.layout import VALUE_LEVELS
from seed.wavecore.model import WaveCore
from seed.wavecore.optim import Optimizer

NEW_EPISODE_FRACTION = 0.1   # of the rows, at each round: a brain also has to begin from nothing
NEW_BODY_FRACTION = 0.2      # the same, where a row that begins anew draws another body
HEARING_FRACTION = 0.25      # of the rows of a batch of the curriculum
SHOWN_EPISODES = 50          # whose mean return is shown


class RoundResult(NamedTuple):
    """What learning from a round gives; the first three as of any step."""
    loss: float
    grad_norm: float           # of the last optimizer step
    skipped: bool              # an optimizer step was not finite, and changed nothing
    entropy: float | None      # of the policy, nats a part of an action; None if it did not play
    mean_return: float | None  # of the last episodes; None before any has ended
    episodes: int              # that ended in the round


class BodyPlay:
    """One body's rows, state and graphs. Nothing is compiled before its use. `name`: of the body,
    if it has the tables of another one, whose facts these are. `turn`: its rounds in a row, before
    the layers learn other things."""

    def __init__(self, model: WaveCore, optim: Optimizer | None, facts: Facts,
                 open_fn: Callable[[], Any], config: BodyConfig, seed: int, name: str = "",
                 turn: int = 1):
        self.model, self.optim, self.config, self.seed = model, optim, config, seed
        self.codec, self.values, self.name = facts.codec, facts.values, name or facts.codec.name
        self.facts, self.open_fn, self._turn = facts, open_fn, turn
        self.world = World(open_fn, replace(self.codec, name=self.name), config.rows, seed,
                           randomize=config.randomize, keeps_body=True)
        self.player = Player(model, self.codec, config.rows)
        self.novelty = Novelty(len(self.codec.channels)) if config.novelty else None
        self._step: TickStep | None = None
        self.recent: list[Episode] = []
        self._before = self.world.snapshot(), self._state()   # the present round

    def _state(self) -> list[np.ndarray]:
        return [array.copy() for array in self.player.state_arrays()]

    def play(self, number: int, should_stop_fn: Callable[[], bool]) -> Played | None:
        """Round `number`: config.ticks of each row; None if the run has to stop."""
        self._number = number
        self._before = self.world.snapshot(), self._state()
        rng = stream(self.seed, Stream.BODY_ACTION,
                     name_index(f"{self.world.codec.name} {number}"))
        rows, n_ticks = self.config.rows, self.config.ticks
        anew = np.flatnonzero(rng.random(rows) < (
            NEW_BODY_FRACTION if self.config.randomize else NEW_EPISODE_FRACTION))
        for row in anew:
            self.world.begin(int(row))
        self.player.begin(anew)
        played = Played.empty(self.codec, n_ticks, rows, self._state())
        for t in range(n_ticks):
            if should_stop_fn():
                return None
            self._tick(played, t, rng)
        played.levels[n_ticks] = self.codec.levels(self.world.observations)[0]
        return played

    def _tick(self, played: Played, t: int, rng: np.random.Generator) -> None:
        played.levels[t] = self.codec.levels(self.world.observations)[0]
        played.tokens[t], played.weights[t] = self.codec.encode(played.levels[t],
                                                                self.world.previous)
        logits = self.player.tick(played.tokens[t], played.weights[t])
        played.values[t] = self.values.mean(logits[:, :VALUE_LEVELS])
        played.policy[t], played.choices[t] = self.codec.sample(logits, rng)
        outcome = self.world.step(played.choices[t])
        played.rewards[t], played.terminated[t], played.truncated[t] = outcome

    def learn(self, played: Played, lr: float) -> RoundResult:
        """config.passes over the round, each in order from the state in which it began."""
        config = self.config
        assert self.optim, "it is to be trained"
        if self._step is None:
            self._step = TickStep(self.model, self.optim, self.codec, config.rows, config.chunk,
                                  config.world_weight > 0)
        self._widen(rounds.advantages(played, config.discount)[1])
        if self.novelty:   # known by its own rewards alone are the value's range and the returns
            played = rounds.with_novelty(played, self.novelty, config.novelty, self.values)
        examples = Examples(
            played.tokens, played.weights, played.choices,
            rounds.control_targets(self.codec, played, self.values, config.discount,
                                   0.0 if self._keeps_policy else rounds.ETA),
            rounds.world_targets(self.codec, played, config.world_weight), played.state)
        loss, skipped = take_steps(self._step, examples, config.ticks, config.passes, lr)
        self._before = self.world.snapshot(), self._state()
        return self._result(played, loss, skipped)

    @property
    def _keeps_policy(self) -> bool:
        """Whether only the value learns in the present round: body.value_rounds at first, else in
        the first of several in a turn. As long as the value does not know what the layers have
        become meanwhile, advantages are noise, in which the policy loses its entropy."""
        if self.config.value_rounds:
            return self._number < self.config.value_rounds
        return self._turn > 1 and self._number % self._turn == 0

    def _widen(self, returns: np.ndarray) -> None:
        """So that the value can be these returns."""
        at = self.values.widen(returns)
        if at is not None:
            table, values = f"bodies.{self.codec.name}.control", slice(VALUE_LEVELS)
            rows = self.model.state_dict()[table][values]
            self.model.set_rows(table, values, moved_rows(rows, at))

    def _result(self, played: Played, loss: float, skipped: bool) -> RoundResult:
        ended, self.world.ended = self.world.ended, []
        self.recent = [*self.recent, *ended][-SHOWN_EPISODES:]
        entropy = -(played.policy * np.log(played.policy + 1e-30)).sum(-1).mean()
        mean = float(np.mean([e.total for e in self.recent])) if self.recent else None
        assert self.optim
        return RoundResult(loss, self.optim.grad_norm(), skipped,
                           float(entropy) / len(self.codec.actions), mean, len(ended))

    def hearing(self, rows: np.ndarray, remembers: bool) -> Hearing:
        """Of these rows, which then go on with what they have heard, or without."""
        def take(after: Sequence[np.ndarray]) -> None:
            if remembers and all(np.isfinite(array).all() for array in after):
                for array, heard in zip(self.player.state_arrays(), after):
                    array[rows] = heard
                self._before = self._before[0], self._state()
        return Hearing([array[rows] for array in self.player.state_arrays()], take)

    def evaluate(self, should_stop_fn: Callable[[], bool]) -> list[Returns | ChoiceAccuracy] | None:
        """Greedily, in unseen episodes; the carried state stays. None if the run has to stop."""
        state = self._state()
        episodes = evaluation(self.player, self.open_fn, self.seed, should_stop_fn,
                              self.config.randomize)
        for array, before in zip(self.player.state_arrays(), state):
            array[...] = before
        return None if episodes is None else [Returns.of(self.name, episodes)]

    def evaluate_in_context(self, should_stop_fn: Callable[[], bool]) -> float | None:
        """Mean return of episodes in which it remembers those before, before any training; None if
        there are none, or the run has to stop."""
        episodes = later_episodes(self.player, self.open_fn, self.seed, should_stop_fn)
        self.player.begin()
        return float(np.mean([e.total for e in episodes])) if episodes else None

    def state_dict(self) -> dict[str, np.ndarray]:
        """float32: the carried state and the observations, as the present round began, and what it
        has seen before."""
        world, state = self._before
        counts = {row_name(self.name, "novelty"): self.novelty.counts} if self.novelty else {}
        return {**{row_name(self.name, i): np.asarray(array, np.float32)
                   for i, array in enumerate([*state, world.observations])}, **counts}

    def to_meta(self) -> dict[str, Any]:
        """As the present round began."""
        record = {"episodes": self._before[0].to_dict(),
                  "recent": [episode.total for episode in self.recent]}
        is_changed = self.name != self.codec.name
        return {**self.facts.to_dict(), **({"changed": {self.name: record}} if is_changed else
                                           record)}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Raises CheckpointError if the body does not do the same again."""
        self.values.low, self.values.high = map(float, meta["returns"])
        if self.name != self.codec.name:
            meta = meta["changed"][self.name]
        state = self.player.state_arrays()
        for i, array in enumerate(state):
            array[...] = tensors[row_name(self.name, i)]
        self.world.restore(meta["episodes"], tensors[row_name(self.name, len(state))])
        if self.novelty:
            self.novelty.counts[...] = tensors[row_name(self.name, "novelty")]
        self.recent = [Episode(0, float(total), 0, None)
                       for total in meta["recent"][-SHOWN_EPISODES:]]
        self._before = self.world.snapshot(), self._state()


class Play(Protocol):
    """What takes turns in Bodies: a body in training, or recorded episodes of one."""
    name: str
    facts: Facts
    optim: Optimizer | None

    def play(self, number: int, should_stop_fn: Callable[[], bool]) -> Any: ...

    def learn(self, played: Any, lr: float) -> RoundResult: ...

    def evaluate(self, should_stop_fn: Callable[[], bool]
                 ) -> list[Returns | ChoiceAccuracy] | None: ...

    def state_dict(self) -> dict[str, np.ndarray]: ...

    def to_meta(self) -> dict[str, Any]: ...

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None: ...


class Bodies:
    """All bodies of a brain in training, and recorded episodes. In a cycle of steps each has its
    rounds, one a step, before the curriculum has its own."""

    def __init__(self, plays: Sequence[Play], config: BodyConfig,
                 facts: Mapping[str, Facts] | None = None, own_moments: bool = False):
        """`facts`: of all bodies that the brain has, also of those that have no rounds.
        `own_moments`: each play has an optimizer of its own, whose state is among the tensors."""
        self.config, self.plays = config, {play.name: play for play in plays}
        self._facts, self.own_moments = facts or {}, own_moments
        rounds = {body_name(name): n for name, n in config.rounds.items()}
        self._cycle: list[str] = [name for table in (rounds, config.data)
                                  for name, n in table.items() for _ in range(n)]

    def turn(self, step: int) -> tuple[str, int] | None:
        """The body whose turn it is, and the number of its round; None: the curriculum's."""
        if not self._cycle:
            return None
        cycle, i = divmod(step, len(self._cycle) + self.config.curriculum_steps)
        if i >= len(self._cycle):
            return None
        name = self._cycle[i]
        return name, cycle * self._cycle.count(name) + self._cycle[:i].count(name)

    def hearing(self, step: int, batch_size: int) -> Hearing | None:
        """Rows of a body that hear the text of a step of the curriculum: what the brain answers
        must not depend on whether it acts meanwhile. That is for a brain which can do both: for the
        steps in which the rate decays. In the last steps of a cycle, as many as it has rounds, the
        bodies also remember it: what they do must not depend on what they have heard."""
        playing = [play for play in self.plays.values() if isinstance(play, BodyPlay)]
        n = min(int(HEARING_FRACTION * batch_size), self.config.rows)
        if not playing or not n:
            return None
        left = -(step + 1) % (len(self._cycle) + self.config.curriculum_steps)
        play = playing[left % len(playing)]
        return play.hearing((step * n + np.arange(n)) % self.config.rows, left < len(self._cycle))

    def play(self, name: str, number: int, should_stop_fn: Callable[[], bool]) -> Round | None:
        """None if the run has to stop; then nothing of the round counts."""
        played = self.plays[name].play(number, should_stop_fn)
        return None if played is None else Round(name, number, played)

    def learn(self, part: Round, lr: float) -> RoundResult:
        return self.plays[part.name].learn(part.played, lr)

    def evaluate(self, should_stop_fn: Callable[[], bool]) -> Acting | None:
        """Of every body; None if the run has to stop."""
        rows = list[Returns | ChoiceAccuracy]()
        for play in self.plays.values():
            results = play.evaluate(should_stop_fn)
            if results is None:
                return None
            rows += results
        return Acting.of(rows)

    def evaluate_in_context(self, name: str, should_stop_fn: Callable[[], bool]) -> float | None:
        """As of a body in training; None of episodes."""
        play = self.plays[name]
        return play.evaluate_in_context(should_stop_fn) if isinstance(play, BodyPlay) else None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Of a play its rows, and the state of its optimizer if that is its own."""
        return {key: array for play in self.plays.values()
                for rows in (play.state_dict(), self._moments(play)) for key, array in rows.items()}

    def _moments(self, play: Play) -> dict[str, np.ndarray]:
        """Views of them, by the name of the tensor."""
        if not self.own_moments or not play.optim:
            return {}
        return {row_name(play.name, part): array for part, array in play.optim.flat().items()}

    def to_meta(self) -> dict[str, Any]:
        """By the name of a body, which may have several plays, or none."""
        meta: dict[str, Any] = {}
        for play in self.plays.values():
            fields, body = play.to_meta(), meta.setdefault(play.facts.codec.name, {})
            for key in ("data", "changed"):   # of which it may have several
                if key in fields:
                    fields[key] = {**body.get(key, {}), **fields[key]}
            body |= fields
        return {**{name: fact.to_dict() for name, fact in self._facts.items()}, **meta}

    def new_plays(self, tensors: Iterable[str]) -> set[str]:
        """Those of which a checkpoint with these tensors has no rows: they begin anew."""
        return self.plays.keys() - {play_of(key) for key in tensors}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Raises CheckpointError if a record is damaged, or a body does not do the same again;
        BodyError."""
        new = self.new_plays(tensors)
        for name, play in self.plays.items():
            if name in new:
                continue
            for key, array in self._moments(play).items():
                array[...] = tensors.get(key, array)   # it began without any of its own
            try:
                play.load(tensors, meta[play.facts.codec.name])
            except SeedError:
                raise
            except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
                raise CheckpointError(f"the checkpoint's record of {name} is damaged: use another "
                                      f"--run-dir") from None


def take_steps(step: TickStep, examples: Examples, n_ticks: int, passes: int,
               lr: float) -> tuple[float, bool]:
    """Optimizer steps over a round, chunk by chunk, and again in each of the `passes`. Returns the
    mean loss and whether one was not finite."""
    actions, losses, skipped = step.codec.action_rows(examples.choices), [], False
    n_chunks = n_ticks // step.t
    for _ in range(passes):
        step.begin(examples.state)
        for start in range(0, n_ticks, step.t):
            def part(array: np.ndarray) -> np.ndarray:
                return rows_of(array, start, step.t)
            losses.append(step.run(
                (part(examples.tokens), part(examples.weights)), part(actions),
                _scaled(Targets(*map(part, examples.control)), n_chunks),
                _scaled(Targets(*map(part, examples.world)), n_chunks), lr))
            skipped |= step.optim.skipped()
    return float(np.mean(losses)), skipped


def _scaled(targets: Targets, factor: float) -> Targets:
    return targets._replace(weights=targets.weights * np.float32(factor))
