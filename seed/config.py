"""Profiles: their tables, keys and validation (files: profile_file.py). Standard library only.

Each table of a profile ([model], [curriculum], [train], ...) is a frozen dataclass, and each of its
fields is a key with its default, range and unit. A mistake raises ConfigError, whose one line names
the key, its value, what is valid and the nearest valid choice.
"""
import re
import shlex
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from seed.errors import ConfigError
from seed.settings import build, check_multiple, require, setting

LANES = 16                # floats of one kernel vector; every width is a multiple of it
L2_EPS = 1e-6             # added to the squared norm that q and k are divided by the root of
SIGMOID_STRETCH = 1.1     # of the sigmoid that gives beta, about 1/2, before it is clipped to 0..1
TURN_SCALE = 1 / 16       # turns of a state for each unit of the projection that says how far
MAX_DATA_FRACTION = 0.95  # of a batch from self-play and the teacher, so that generators have a say
REPORT_KEYS = ("report_file", "report_command", "report_max_age_s", "min_battery_percent",
               "only_idle")   # of the governor
ROTARY_KEYS = ("rotary_steps", "beta_bias_min")   # of the model


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a WaveCore model (letters: wavecore/model.py)."""
    vocab_size: ClassVar[int] = 256         # bytes
    expand: ClassVar[int] = 2
    rope_theta: ClassVar[float] = 10000.0   # Su et al. 2104.09864
    norm_eps: ClassVar[float] = 1e-5

    d_model: int = setting(64, 16, 1024, multiple_of=LANES)
    n_layers: int = setting(4, 1, 64)
    pattern: str = "SSA"                    # tiled over the layers; S: SSM, A: attention
    d_state: int = setting(16, 16, 128, multiple_of=LANES)
    head_dim: int = setting(32, 16, 128, multiple_of=LANES)
    d_conv: int = setting(4, 2, 8, "bytes")
    d_ff: int = setting(128, 16, 4096, multiple_of=LANES)
    sliding_window: int = setting(64, 2, 4096, "bytes")
    transition: Literal["delta", "diagonal"] = "delta"
    beta_max: float = setting(2.0, 0.1, 2.0)
    rotary_steps: int = setting(0, 0, 1024)   # parts of a turn of a state; 0: states do not turn
    beta_bias_min: float = setting(-3.0, -20.0, 0.0)   # of the head that writes least, if they do
    dt_bias_min: float = setting(-20.0, -100.0, 100.0)
    dt_bias_max: float = setting(-4.0, -100.0, 100.0)

    @property
    def stream_eps(self) -> float:
        """`norm_eps` at d_model 64; scaled so that a brain that grows computes the same."""
        return self.norm_eps * 64 / self.d_model

    @property
    def d_inner(self) -> int:
        return self.expand * self.d_model

    @property
    def ssm_heads(self) -> int:
        return self.d_inner // self.head_dim

    @property
    def attn_heads(self) -> int:
        return self.d_model // self.head_dim

    @property
    def layer_kinds(self) -> str:
        """The pattern tiled over the layers: one letter, S or A, per layer."""
        return (self.pattern * self.n_layers)[:self.n_layers]


@dataclass(frozen=True)
class CurriculumConfig:
    """The mixture of tasks, and when the curriculum opens the next grade."""
    tasks: dict[str, float] = setting({}, 0.0, 1e6)      # weight of each in the mixture; 0: none
    holdout_items: int = setting(64, 1, 100_000, "items per task and level")
    eval_every_steps: int = setting(250, 0, 10**9, "steps")     # 0: every grade is open
    eval_items: int = setting(16, 1, 10_000, "items per task and level")
    pass_mark: float = setting(0.9, 0.0, 1.0)            # accuracy that passes a task
    keep_mark: float = setting(0.8, 0.0, 1.0)            # below it a passed task has regressed
    patience_evals: int = setting(1, 1, 10**9, "evaluations")   # then the next grade opens anyway
    intermediate_targets: bool = True                    # train on answers to parts of a prompt too
    replay_weight: float = setting(0.2, 1e-6, 1e6)       # of a mastered item; 1 more if unknown


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of a run; rates are per optimizer step."""
    momentum: ClassVar[float] = 0.95                     # of Muon
    beta1: ClassVar[float] = 0.9                         # of AdamW, as beta2 and eps
    beta2: ClassVar[float] = 0.99
    eps: ClassVar[float] = 1e-8

    seed: int = setting(0, 0, 2**31 - 1)
    steps: int = setting(0, 0, 10**9, "steps")           # of the whole run; 0: `minutes` decides
    minutes: float = setting(0.0, 0.0, 1e6, "minutes")   # of the whole run; 0: `steps` decides
    batch_size: int = setting(16, 1, 4096, "rows")
    seq_len: int = setting(128, 1, 8192, "bytes")
    grad_accum_steps: int = setting(1, 1, 1024)
    lr: float = setting(4e-3, 0.0, 1.0)                  # at d_model 64; of matrices: less if wider
    warmup_steps: int = setting(100, 0, 10**6, "steps")
    decay_fraction: float = setting(0.5, 0.0, 0.95)      # of the run; in it lr falls linearly to 0
    weight_decay: float = setting(0.1, 0.0, 10.0)
    average_fraction: float = setting(0.05, 0.0, 1.0)    # of the steps, whose mean it is; 0: none
    optimizer: Literal["muon", "adamw"] = "muon"         # of matrices; AdamW: of all else
    trainable: Literal["all", "no-matrices", "tables"] = "all"
    grad_clip: float = setting(1.0, 1e-6, 1e6)
    eval_every_minutes: float = setting(10.0, 0.0, 1e6, "minutes")
    save_every_minutes: float = setting(1.0, 0.0, 1e6, "minutes")
    save_grace_minutes: float = setting(30.0, 0.0, 1e6, "minutes")   # of training without a save
    write_gb_per_day: float = setting(10.0, 1e-3, 1e6, "GB per day")   # periodic saves wear a card
    max_rollbacks: int = setting(3, 0, 1000)             # each at half the rate


@dataclass(frozen=True)
class DistillConfig:
    """Distillation from a larger brain (Hinton et al. 1503.02531)."""
    parent: str = ""                                     # its run directory; empty: none
    batches: int = setting(1000, 1, 100_000, "batches")  # labelled once, then used in turn
    top_k: int = setting(8, 1, 256)                      # bytes with their own soft target
    temperature: float = setting(2.0, 0.1, 100.0)
    alpha: float = setting(0.9, 0.0, 1.0)                # of the loss that is the soft targets'
    data_fraction: float = setting(0.5, 0.0, 1.0)        # of the steps with soft targets


@dataclass(frozen=True)
class TeacherConfig:
    """A language model that answers questions of the tasks; off while `kind` is empty."""
    kind: Literal["", "endpoint", "mock"] = ""           # "mock": for tests
    url: str = ""                                        # such as http://127.0.0.1:8080/v1
    model: str = ""                                      # the server's name of the model
    tasks: dict[str, float] = setting({}, 0.0, 1e6)      # weight of each in the questions
    data_fraction: float = setting(0.3, 0.0, MAX_DATA_FRACTION)   # of a batch, if items suffice
    every_steps: int = setting(20, 1, 10**6, "steps")    # between rounds
    questions: int = setting(16, 1, 4096, "questions per round")
    propose_fraction: float = setting(0.0, 0.0, 1.0)     # of questions that it writes itself
    min_accuracy: float = setting(0.5, 0.0, 1.0)         # in probe questions; below: rejected
    verify: bool = True                                  # accept only answers that are right
    min_logprob: float = setting(-0.5, -100.0, 0.0, "nats per token")   # if not verified
    shots: int = setting(8, 0, 64, "examples per question")
    timeout_s: float = setting(10.0, 0.1, 600.0, "s")    # of one question
    thought_tokens: int = setting(1024, 0, 16384, "tokens")   # before an answer, of a model's
    mock_accuracy: float = setting(0.9, 0.0, 1.0)


@dataclass(frozen=True)
class SelfplayConfig:
    """Questions beyond the levels of the curriculum; answers that pass are trained on."""
    tasks: dict[str, int] = setting({}, 1, 1000)         # the highest level of each that plays
    every_steps: int = setting(100, 1, 10**6, "steps")   # between rounds
    questions: int = setting(64, 1, 4096, "questions per task and round")
    data_fraction: float = setting(0.3, 0.0, MAX_DATA_FRACTION)   # of a batch, once items exist
    propose_fraction: float = setting(0.0, 0.0, 1.0)     # of these items; their prompts train too
    verify: bool = True                                  # by the task's verifier; false: by vote
    votes: int = setting(1, 1, 64, "answers per question")
    majority: float = setting(0.8, 0.0, 1.0)             # of the votes, that an answer needs
    temperature: float = setting(0.0, 0.0, 10.0)
    max_entropy: float = setting(1.0, 0.0, 10.0, "nats per byte")
    max_answer_bytes: int = setting(64, 1, 4096, "bytes")


DataGoal = Literal["choices", "rewards", "model"]


@dataclass(frozen=True)
class BodyConfig:
    """Bodies that the brain learns to act in, round by round (seed/body)."""
    rounds: dict[str, int] = setting({}, 1, 100)         # of each body, in a cycle of steps
    data: dict[str, int] = setting({}, 1, 100)           # and of directories of episodes
    data_goal: DataGoal = "choices"   # all choices, the better ones, a model
    curriculum_steps: int = setting(0, 0, 10_000, "steps")   # in a cycle; 0: no curriculum
    rows: int = setting(16, 1, 1024, "bodies")           # of a kind, side by side
    ticks: int = setting(64, 1, 4096, "ticks")           # of each row in a round
    chunk: int = setting(32, 1, 4096, "ticks")           # of one optimizer step
    passes: int = setting(4, 1, 100)                     # over a round
    max_lr: float = setting(2e-3, 0.0, 1.0)              # of a round, where train.lr is higher
    discount: float = setting(0.99, 0.0, 0.9999)
    world_weight: float = setting(1.0, 0.0, 100.0)       # of the next observation in the loss
    value_rounds: int = setting(0, 0, 10_000)   # at first, with the policy kept; 0: first of a turn
    same_as: dict[str, str] = field(default_factory=dict)   # a changed body or its data -> which
    randomize: bool = False                              # draw other bodies, and delays
    reward: Literal["own", "stability", "goal"] = "own"  # "own": the body's (seed/body/rewards.py)
    goal: dict[str, float] = setting({}, -1e6, 1e6)      # what numbers of an observation should be
    tolerance: float = setting(0.05, 0.0, 1.0)           # of a number's range, at the goal
    max_deviation: float = setting(0.5, 0.0, 1.0)        # of a range, beyond which stability ends
    change_weight: float = setting(0.1, 0.0, 100.0)      # of the action's change in stability
    novelty: float = setting(0.0, 0.0, 100.0)            # weight of what was seldom seen; 0: none

    @property
    def is_alone(self) -> bool:
        """Whether there are no steps of the curriculum."""
        return bool(self.rounds or self.data) and not self.curriculum_steps

    @property
    def takes_turns(self) -> bool:
        """Whether the brain learns from several things in turn."""
        return len(self.rounds) + len(self.data) + (not self.is_alone) > 1


@dataclass(frozen=True)
class LoopConfig:
    """The control loop that a brain is for. Its exported file has it; training ignores it."""
    rate_hz: float = setting(0.0, 0.0, 1000.0, "Hz")     # of ticks; 0: for no loop
    max_tick_ms: float = setting(0.0, 0.0, 1e6, "ms")    # 99th percentile, on the robot's board


@dataclass(frozen=True)
class LiveConfig:
    """How a brain that lives on its robot learns (docs/learning.md). Training ignores it."""
    learn_every_ticks: int = setting(6000, 0, 10**9, "ticks")   # new ones; 0: nothing is learnt
    learn_minutes: float = setting(2.0, 1e-3, 1e6, "minutes")   # of training, for each candidate
    learn_ticks: int = setting(30_000, 1000, 10**7, "ticks")    # the newest, of which one learns
    rest_minutes: float = setting(30.0, 0.0, 1e6, "minutes")    # of training on all, if idle; 0: no
    rest_every_ticks: int = setting(100_000, 0, 10**9, "ticks")   # between two of those
    grow_to: str = ""                                    # a profile, whose size it may grow to
    max_loss: float = setting(0.03, 0.0, 1.0)            # of what was known, by a candidate
    watch_ticks: int = setting(3000, 1, 10**9, "ticks")  # of a new brain, before it is confirmed
    slow_late: float = setting(0.002, 0.0, 1.0)          # of deadlines; from here on learning slows
    pause_late: float = setting(0.01, 0.0, 1.0)          # and stops
    episodes_mb: float = setting(512.0, 1.0, 1e6, "MB")  # on the disk
    record_gb_per_day: float = setting(2.0, 1e-3, 1e6, "GB per day")   # that recording may write


@dataclass(frozen=True)
class GovernorConfig:
    """When the board's state slows, pauses or stops a run. A Pi throttles itself from 80 C."""
    thermal: bool = True                                 # false: ignore heat and missing sensors
    slow_c: float = setting(75.0, 0.0, 120.0, "C")       # the duty cycle falls from here on
    pause_c: float = setting(80.0, 0.0, 120.0, "C")
    resume_c: float = setting(70.0, 0.0, 120.0, "C")     # full speed again below it
    memory_mb: float = setting(6144.0, 1.0, 1e6, "MB")   # ceiling on the process tree
    min_available_mb: float = setting(200.0, 0.0, 1e6, "MB")
    report_file: str = ""             # the robot's own health report (docs/board.md); empty: none
    report_command: str = ""                             # that prints it; empty: none
    report_max_age_s: float = setting(30.0, 1.0, 86400.0, "s")   # an older one is not used
    min_battery_percent: float = setting(0.0, 0.0, 100.0, "%")   # or charging; 0: no matter
    only_idle: bool = False                              # learn only while the robot is idle

    @property
    def has_report(self) -> bool:
        return bool(self.report_file or self.report_command)

    def without_report(self) -> "GovernorConfig":
        default = GovernorConfig()
        return replace(self, **{key: getattr(default, key) for key in REPORT_KEYS})


@dataclass(frozen=True)
class Profile:
    """All that decides a run. Each dataclass among the fields is a table of the TOML file."""
    name: str = "unnamed"
    model: ModelConfig = ModelConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    train: TrainConfig = TrainConfig()
    identity: dict[str, str] = field(default_factory=dict)   # question -> answer
    governor: GovernorConfig = GovernorConfig()
    distill: DistillConfig = DistillConfig()
    selfplay: SelfplayConfig = SelfplayConfig()
    teacher: TeacherConfig = TeacherConfig()
    body: BodyConfig = BodyConfig()
    loop: LoopConfig = LoopConfig()
    live: LiveConfig = LiveConfig()

    @property
    def round_lr_scale(self) -> float:
        """Of the rate, in a round of a body."""
        return min(1.0, self.body.max_lr / self.train.lr) if self.train.lr else 1.0

    def check(self) -> "Profile":
        """An equal profile, checked as if it had been read from a file. Raises ConfigError."""
        return from_dict(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """A nested dict, the inverse of `from_dict`; what a checkpoint stores. Without a loop, a
        report, [live] and rotation it is as before there were any, and so are checkpoints and
        files."""
        tables = asdict(self)
        if all(getattr(self.model, key) == getattr(ModelConfig(), key) for key in ROTARY_KEYS):
            for key in ROTARY_KEYS:
                del tables["model"][key]
        if self.governor == self.governor.without_report():
            for key in REPORT_KEYS:
                del tables["governor"][key]
        for name, default in (("loop", LoopConfig()), ("live", LiveConfig())):
            if getattr(self, name) == default:
                del tables[name]
        return tables


def from_dict(data: object) -> Profile:
    """Builds and checks a Profile. Raises ConfigError for unknown keys, types and ranges."""
    if not isinstance(data, dict):
        raise ConfigError(f"a profile is {type(data).__name__}: use a table of tables")
    profile = build(Profile, data)
    _check_relations(profile)
    return profile


def _check_relations(profile: Profile) -> None:
    """What one key demands of another."""
    m, c, g = profile.model, profile.curriculum, profile.governor
    play, teacher, loop = profile.selfplay, profile.teacher, profile.loop
    data_fraction = play.data_fraction + teacher.data_fraction
    require(m.pattern and not set(m.pattern) - set("SA"), "model.pattern", m.pattern,
            "only S (SSM) and A (attention), as in 'SSA'")
    # RoPE rotates halves of a head
    check_multiple("model.head_dim", m.head_dim, 2 * LANES if "A" in m.pattern else LANES)
    check_multiple("model.d_model", m.d_model, m.head_dim)
    require(m.dt_bias_min <= m.dt_bias_max, "model.dt_bias_min", m.dt_bias_min,
            f"at most dt_bias_max ({m.dt_bias_max})")
    require(m.rotary_steps != 1, "model.rotary_steps", m.rotary_steps,
            "0 for states that do not turn, or at least 2")
    check_multiple("body.ticks", profile.body.ticks, profile.body.chunk)
    require(profile.body.reward != "goal" or profile.body.goal, "body.goal", profile.body.goal,
            "a number of the observation and its value there, such as {0 = 1.0}")
    require(any(c.tasks.values()), "curriculum.tasks", c.tasks,
            "a weight above 0, such as copy = 1.0")
    require(c.keep_mark <= c.pass_mark, "curriculum.keep_mark", c.keep_mark,
            f"at most pass_mark ({c.pass_mark})")
    require(play.verify or play.votes > 1 and play.temperature, "selfplay.verify", False,
            "true, or at least 2 votes and a temperature above 0")
    require(not teacher.kind or any(teacher.tasks.values()), "teacher.tasks", teacher.tasks,
            "a weight above 0, such as add = 1.0")
    if re.match("([a-z]*:)?(//)?[^/?#]*@", teacher.url, re.IGNORECASE):
        raise ConfigError("teacher.url holds a user or a password, and is saved with the brain: "
                          "put user:password into SEED_TEACHER_KEY")
    require(teacher.kind != "mock" or not teacher.propose_fraction, "teacher.propose_fraction",
            teacher.propose_fraction, "0, the mock writes no questions")
    require(data_fraction <= MAX_DATA_FRACTION, "selfplay.data_fraction + teacher.data_fraction",
            data_fraction, f"at most {MAX_DATA_FRACTION} for both together")
    require(loop.rate_hz or not loop.max_tick_ms, "loop.max_tick_ms", loop.max_tick_ms,
            "0, or a loop.rate_hz above 0 too")
    require(not loop.rate_hz or 0 < loop.max_tick_ms * loop.rate_hz <= 1000, "loop.max_tick_ms",
            loop.max_tick_ms, f"more than 0 and at most the period at {loop.rate_hz} Hz")
    require(g.resume_c < g.slow_c < g.pause_c, "governor.slow_c", g.slow_c,
            f"more than resume_c ({g.resume_c}) and less than pause_c ({g.pause_c})")
    require(profile.live.slow_late <= profile.live.pause_late, "live.slow_late",
            profile.live.slow_late, f"at most pause_late ({profile.live.pause_late})")
    _check_report(g)


def _check_report(g: GovernorConfig) -> None:
    """That a gate has a report, and which one it is."""
    require(not (g.report_file and g.report_command), "governor.report_command", g.report_command,
            "it, or governor.report_file, not both")
    for key in ("min_battery_percent", "only_idle"):
        require(g.has_report or not getattr(g, key), f"governor.{key}", getattr(g, key),
                "a governor.report_file or governor.report_command too, which has to say it")
    try:
        is_command = not g.report_command or bool(shlex.split(g.report_command))
    except ValueError:
        is_command = False
    require(is_command, "governor.report_command", g.report_command,
            "a program and its arguments, quoted as for a shell")
