"""Profiles: frozen dataclasses, TOML files, `--set a.b=value`, validation. Standard library only.

A profile has a table for each field of `Profile` ([model], [curriculum], [train], ...) and its
`name`. Every key is checked by name, type and range; a mistake raises ConfigError, whose one line
names the key and the nearest valid choice.
"""
import dataclasses
import difflib
import json
import os
import sys
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from seed.errors import ConfigError


LANES = 16  # floats of one kernel vector; every width below is a multiple of it


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a WaveCore model (glossary: wavecore/model.py)."""
    vocab_size: int = 256
    d_model: int = 64
    n_layers: int = 4
    pattern: str = "SSA"
    expand: int = 2
    d_state: int = 16
    head_dim: int = 32
    d_conv: int = 4
    d_ff: int = 128
    sliding_window: int = 64
    transition: str = "delta"
    beta_max: float = 2.0
    dt_bias_min: float = -20.0
    dt_bias_max: float = -4.0
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def stream_eps(self) -> float:
        """`norm_eps` for norms over channels: it is for d_model 64, as train.lr is. Beside a mean
        over more of them it is smaller, so that a brain that grows says the same."""
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
        """The pattern tiled over the layers: one letter, S or A, a layer."""
        return (self.pattern * self.n_layers)[:self.n_layers]

    def check(self) -> None:
        for name, low, high in (("d_model", 16, 1024), ("d_ff", 16, 4096), ("d_state", 16, 128),
                                ("head_dim", 16, 128), ("vocab_size", 16, 65536)):
            _check_range("model", name, getattr(self, name), low, high)
            _check_multiple("model", name, getattr(self, name), LANES)
        _check_range("model", "n_layers", self.n_layers, 1, 64)
        _check_range("model", "expand", self.expand, 1, 8)
        _check_range("model", "d_conv", self.d_conv, 2, 8)
        _check_range("model", "sliding_window", self.sliding_window, 2, 4096)
        _check_range("model", "beta_max", self.beta_max, 0.1, 2.0)
        _check_range("model", "norm_eps", self.norm_eps, 1e-8, 1e-2)
        _check_range("model", "rope_theta", self.rope_theta, 10.0, 1e7)
        rotated = 2 * LANES if "A" in self.pattern else LANES  # RoPE turns halves of a head
        _check_multiple("model", "head_dim", self.head_dim, rotated)
        _check_multiple("model", "d_model", self.d_model, self.head_dim)
        if not self.pattern or set(self.pattern) - set("SA"):
            raise ConfigError(f"model.pattern is {self.pattern!r}: use only the letters S (SSM) "
                              f"and A (attention), for example 'SSA'")
        if self.transition not in ("delta", "diagonal"):
            raise ConfigError(f"model.transition is {self.transition!r}: use 'delta' or 'diagonal'")
        if self.dt_bias_min > self.dt_bias_max:
            raise ConfigError(f"model.dt_bias_min is {self.dt_bias_min}: use at most dt_bias_max "
                              f"({self.dt_bias_max})")


@dataclass(frozen=True)
class CurriculumConfig:
    """What is studied: relative share of each task in the items (0 leaves it out), and the school.
    """
    tasks: dict[str, float] = field(default_factory=dict)
    holdout_items: int = 64   # items a task and level in one evaluation
    eval_every_steps: int = 250     # steps between the school's examinations; 0: no school, all is open
    eval_items: int = 16      # items a task and level in one examination
    pass_mark: float = 0.9    # accuracy that passes a task
    keep_mark: float = 0.8    # below it a passed task is passed no longer
    patience_evals: int = 1         # examinations after which the next grade opens in any case
    intermediate_targets: bool = True        # learn the answers to parts of a prompt too, after their bytes
    replay_weight: float = 0.2       # how often a lesson comes that is wholly known; 1 more if unknown

    def check(self) -> None:
        for name, low, high in (
                ("holdout_items", 1, 100_000), ("eval_every_steps", 0, 10**9), ("eval_items", 1, 10_000),
                ("pass_mark", 0.0, 1.0), ("keep_mark", 0.0, 1.0), ("patience_evals", 1, 10**9),
                ("replay_weight", 1e-6, 1e6)):
            _check_range("curriculum", name, getattr(self, name), low, high)
        if self.keep_mark > self.pass_mark:
            raise ConfigError(f"curriculum.keep_mark is {self.keep_mark}: use at most pass_mark "
                              f"({self.pass_mark})")
        if not self.tasks:
            raise ConfigError("curriculum.tasks is empty: name at least one, such as copy = 1.0")
        for name, share in self.tasks.items():
            _check_range("curriculum.tasks", name, share, 0.0, 1e6)
        if not any(self.tasks.values()):
            raise ConfigError("curriculum.tasks are all 0: give at least one task a share above 0")


@dataclass(frozen=True)
class TrainConfig:
    """How it is studied. Time is in minutes, rates are per optimizer step."""
    seed: int = 0
    steps: int = 0               # optimizer steps of the whole run; 0: as many as `minutes` allow
    minutes: float = 0.0         # time budget of the whole run; 0: `steps` decides
    batch_size: int = 16
    seq_len: int = 128
    grad_accum_steps: int = 1
    lr: float = 4e-3             # at d_model 64; that of matrices falls with the width
    warmup_steps: int = 100
    decay_fraction: float = 0.5  # the last share of the run, in which lr falls linearly to 0
    weight_decay: float = 0.1
    optimizer: str = "muon"      # of matrices; "adamw": of all; "sparse": matrices stay
    momentum: float = 0.95       # of Muon
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    grad_clip: float = 1.0
    eval_every_minutes: float = 10.0
    save_every_minutes: float = 1.0
    save_grace_minutes: float = 30.0  # how long a run goes on while it cannot save
    write_gb_per_day: float = 10.0    # budget of periodic saves: cards wear by what is written
    max_nonfinite_steps: int = 3       # non-finite steps in a row before the run goes back
    max_rollbacks: int = 3       # times it goes back, each at half the rate, before it stops

    def check(self) -> None:
        for name, low, high in (
                ("seed", 0, 2**31 - 1), ("steps", 0, 10**9), ("minutes", 0.0, 1e6),
                ("batch_size", 1, 4096), ("seq_len", 1, 8192), ("grad_accum_steps", 1, 1024),
                ("lr", 0.0, 1.0), ("warmup_steps", 0, 10**6), ("decay_fraction", 0.0, 0.95),
                ("weight_decay", 0.0, 10.0), ("momentum", 0.0, 0.9999),
                ("beta1", 0.0, 0.9999), ("beta2", 0.0, 0.99999),
                ("eps", 1e-12, 1e-2), ("grad_clip", 1e-6, 1e6), ("eval_every_minutes", 0.0, 1e6),
                ("save_every_minutes", 0.0, 1e6), ("save_grace_minutes", 0.0, 1e6),
                ("write_gb_per_day", 1e-3, 1e6), ("max_nonfinite_steps", 1, 1000),
                ("max_rollbacks", 0, 1000)):
            _check_range("train", name, getattr(self, name), low, high)
        if self.optimizer not in ("muon", "adamw", "sparse"):
            raise ConfigError(f"train.optimizer is {self.optimizer!r}: use 'muon', 'adamw' or "
                              f"'sparse'")


@dataclass(frozen=True)
class DistillConfig:
    """A parent brain, and how much its word counts (Hinton et al. 1503.02531)."""
    parent: str = ""           # the parent's run directory; empty: there is none
    batches: int = 1000        # that the parent reads, once; the run then goes over them in turn
    top_k: int = 8               # likeliest bytes that are kept of each; all others count as one
    temperature: float = 2.0
    alpha: float = 0.9         # the parent's share of the loss
    data_fraction: float = 0.5         # of the steps, in which it teaches; in the others the school does

    def check(self) -> None:
        for name, low, high in (("batches", 1, 100_000), ("top_k", 1, 256),
                                ("temperature", 0.1, 100.0), ("alpha", 0.0, 1.0),
                                ("data_fraction", 0.0, 1.0)):
            _check_range("distill", name, getattr(self, name), low, high)


@dataclass(frozen=True)
class TeacherConfig:
    """Somebody who answers questions of the lessons; off unless there is a kind."""
    kind: str = ""             # "endpoint": a chat-completions server; "mock": for tests
    url: str = ""              # of the server, such as http://127.0.0.1:8080/v1
    model: str = ""            # its name for the model
    tasks: dict[str, float] = field(default_factory=dict)   # whose questions are asked, and shares
    data_fraction: float = 0.3         # of the items of a batch, once there are a thousand lessons
    every_steps: int = 20            # steps between rounds
    questions: int = 16        # of a round
    probe_questions: int = 20            # questions with a known answer that it is tried by
    propose_fraction: float = 0.0       # share of the questions that it makes up itself, like some of a task
    min_accuracy: float = 0.5     # share of them below which it is refused
    verify: bool = True        # learn only what the task's rule holds right
    min_logprob: float = -0.5  # without the rule: mean of a reply's tokens, nats
    shots: int = 8             # questions and answers that are shown first
    timeout_s: float = 10.0    # of one question
    mock_accuracy: float = 0.9       # of the mock: share of its answers that are right

    def check(self) -> None:
        for name, low, high in (
                ("data_fraction", 0.0, 0.95), ("every_steps", 1, 10**6), ("questions", 1, 4096),
                ("probe_questions", 1, 1000), ("propose_fraction", 0.0, 1.0), ("min_accuracy", 0.0, 1.0),
                ("min_logprob", -100.0, 0.0),
                ("shots", 0, 64), ("timeout_s", 0.1, 600.0), ("mock_accuracy", 0.0, 1.0)):
            _check_range("teacher", name, getattr(self, name), low, high)
        if self.kind not in ("", "endpoint", "mock"):
            raise ConfigError(f"teacher.kind is {self.kind!r}: use 'endpoint', or '' for none")
        if self.kind == "mock" and self.propose_fraction:
            raise ConfigError("teacher.propose_fraction is for an endpoint: the mock makes up "
                              "nothing, use 0")
        for name, share in self.tasks.items():
            _check_range("teacher.tasks", name, share, 0.0, 1e6)
        if self.kind and not any(self.tasks.values()):
            raise ConfigError("teacher.tasks is empty: name whose questions are asked, such as "
                              "teacher.tasks.add=1")


@dataclass(frozen=True)
class SelfplayConfig:
    """Questions beyond the lessons, whose answers are learnt if they pass."""
    tasks: dict[str, int] = field(default_factory=dict)   # of each that plays, the highest level
    every_steps: int = 100           # steps between rounds
    questions: int = 64         # questions a task and round
    data_fraction: float = 0.3         # of the items of a batch, once there are any
    propose_fraction: float = 0.0       # share of their items whose prompts are learnt, to ask itself more
    promote_at: float = 0.9          # share of a round that has to pass before the next level is asked
    verify: bool = True        # by the task's rule; false: by vote
    votes: int = 1             # answers to each question
    majority: float = 0.8      # share of the votes that passes
    temperature: float = 0.0   # of the answers; with votes, above 0
    max_entropy: float = 1.0   # nats a byte: an answer over which it was more at a loss is dropped
    max_answer_bytes: int = 64          # bytes of an answer

    def check(self) -> None:
        for name, low, high in (
                ("every_steps", 1, 10**6), ("questions", 1, 4096), ("data_fraction", 0.0, 0.95),
                ("propose_fraction", 0.0, 1.0),
                ("promote_at", 0.0, 1.0), ("votes", 1, 64), ("majority", 0.0, 1.0),
                ("temperature", 0.0, 10.0), ("max_entropy", 0.0, 10.0), ("max_answer_bytes", 1, 4096)):
            _check_range("selfplay", name, getattr(self, name), low, high)
        for name, level in self.tasks.items():
            _check_range("selfplay.tasks", name, level, 1, 1000)
        if not self.verify and (self.votes < 2 or not self.temperature):
            raise ConfigError("selfplay.verify is false: use at least 2 votes and a temperature "
                              "above 0, for what else would tell a right answer")


@dataclass(frozen=True)
class GovernorConfig:
    """When the board's state slows, pauses or stops the run (DEVICE: throttling starts at 80 C)."""
    thermal: bool = True           # false: heat is not looked at, and a missing sensor is no matter
    slow_c: float = 75.0           # from here the run gets less of the time, down to slow_duty
    pause_c: float = 80.0
    resume_c: float = 70.0         # below it all is well again
    slow_duty: float = 0.5
    unknown_duty: float = 0.7      # with no believable temperature
    frozen_s: float = 900.0        # a sensor that says the same for longer is not believed
    poll_every_s: float = 1.0
    memory_mb: float = 6144.0      # ceiling on the process tree
    min_available_mb: float = 200.0

    def check(self) -> None:
        for name, low, high in (
                ("slow_c", 0.0, 120.0), ("pause_c", 0.0, 120.0), ("resume_c", 0.0, 120.0),
                ("slow_duty", 0.01, 1.0), ("unknown_duty", 0.01, 1.0), ("frozen_s", 1.0, 1e6),
                ("poll_every_s", 0.0, 60.0), ("memory_mb", 1.0, 1e6),
                ("min_available_mb", 0.0, 1e6)):
            _check_range("governor", name, getattr(self, name), low, high)
        if not self.resume_c < self.slow_c < self.pause_c:
            raise ConfigError(f"governor.slow_c is {self.slow_c}: use more than resume_c "
                              f"({self.resume_c}) and less than pause_c ({self.pause_c})")


@dataclass(frozen=True)
class Profile:
    name: str
    model: ModelConfig
    curriculum: CurriculumConfig
    train: TrainConfig
    identity: dict[str, str]     # question -> answer
    governor: GovernorConfig = GovernorConfig()
    distill: DistillConfig = DistillConfig()
    selfplay: SelfplayConfig = SelfplayConfig()
    teacher: TeacherConfig = TeacherConfig()

    def check(self) -> "Profile":
        self.model.check()
        self.curriculum.check()
        self.train.check()
        self.governor.check()
        self.distill.check()
        self.selfplay.check()
        self.teacher.check()
        if self.selfplay.data_fraction + self.teacher.data_fraction > 0.95:
            raise ConfigError(f"selfplay.data_fraction and teacher.data_fraction are {self.selfplay.data_fraction} and "
                              f"{self.teacher.data_fraction}: use at most 0.95 for both, lessons come too")
        return self

    def to_dict(self) -> dict:
        """Plain nested dict, the inverse of `from_dict`; what a checkpoint stores."""
        return dataclasses.asdict(self)


def _check_range(table: str, key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # false for nan as well
        raise ConfigError(f"{table}.{key} is {value}: use {low} to {high}; "
                          f"nearest is {min(max(value, low), high) if value == value else low}")


def _check_multiple(table: str, key: str, value: int, unit: int) -> None:
    if value % unit:
        below, above = value // unit * unit, (value // unit + 1) * unit
        nearest = below if below and value - below < above - value else above
        raise ConfigError(f"{table}.{key} is {value}: use a multiple of {unit}; "
                          f"nearest is {nearest}")


def _typed(table: str, key: str, value: object, want: type) -> object:
    """`value` as the field's type, or ConfigError. An int serves as a float, a bool as nothing."""
    origin = typing.get_origin(want)
    if origin is dict:
        item = typing.get_args(want)[1]
        if not isinstance(value, dict):
            raise ConfigError(f"{table}.{key} is {value!r}: use a table")
        return {k: _typed(f"{table}.{key}", k, v, item) for k, v in value.items()}
    if want is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, want) or isinstance(value, bool) and want is not bool:
        noun = {int: "an integer", str: "a string", bool: "true or false"}.get(
            want, f"a {want.__name__}")
        raise ConfigError(f"{table}.{key} is {value!r}: use {noun}")
    return value


def _nearest(key: str, valid: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(valid), n=1, cutoff=0.0)
    return f"; nearest is {close[0]}" if close else ""


def _table(cls: type, table: str, data: object):
    if not isinstance(data, dict):
        raise ConfigError(f"{table} is {data!r}: use a table, [{table}]")
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            raise ConfigError(f"{table}.{key} is unknown{_nearest(key, hints)}")
    return cls(**{key: _typed(table, key, value, hints[key]) for key, value in data.items()})


def from_dict(data: object) -> Profile:
    """Builds and checks a Profile. Raises ConfigError for unknown keys, types and ranges."""
    if not isinstance(data, dict):
        raise ConfigError(f"a profile is {type(data).__name__}: use a table of tables")
    known = ("name", "model", "curriculum", "train", "identity", "governor", "distill", "selfplay",
             "teacher")
    for key in data:
        if key not in known:
            raise ConfigError(f"{key} is unknown{_nearest(key, known)}")
    identity = _typed("profile", "identity", data.get("identity", {}), dict[str, str])
    return Profile(
        name=typing.cast(str, _typed("profile", "name", data.get("name", "unnamed"), str)),
        model=_table(ModelConfig, "model", data.get("model", {})),
        curriculum=_table(CurriculumConfig, "curriculum", data.get("curriculum", {})),
        train=_table(TrainConfig, "train", data.get("train", {})),
        governor=_table(GovernorConfig, "governor", data.get("governor", {})),
        distill=_table(DistillConfig, "distill", data.get("distill", {})),
        selfplay=_table(SelfplayConfig, "selfplay", data.get("selfplay", {})),
        teacher=_table(TeacherConfig, "teacher", data.get("teacher", {})),
        identity=typing.cast(dict[str, str], identity)).check()


def profiles_dir() -> Path:
    """The profiles beside the package in a checkout, or where installation put them."""
    beside = Path(__file__).parent.parent / "profiles"
    return beside if beside.is_dir() else Path(sys.prefix) / "share" / "seed-brain" / "profiles"


def load_profile(name: str, overrides: typing.Sequence[str] = (),
                 tasks: typing.Sequence[str] = ()) -> Profile:
    """A shipped profile by name, or any TOML file by path, with `a.b=value` overrides applied.

    `tasks` are added to the lessons: a name or the name of a file, with `=share` if not 1.
    """
    is_path = name.endswith(".toml") or os.sep in name
    path = Path(name) if is_path else profiles_dir() / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = sorted(p.stem for p in profiles_dir().glob("*.toml"))
        raise ConfigError(f"profile {name!r} not found: use {', '.join(shipped)} or a path to a "
                          f".toml file{_nearest(name, shipped)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"profile {path}: {' '.join(str(error).split())}") from None
    data.setdefault("name", path.stem)
    return overridden(data, overrides, tasks)


def overridden(data: dict, overrides: typing.Sequence[str],
               tasks: typing.Sequence[str] = ()) -> Profile:
    """The profile of a table of tables, with `a.b=value` overrides and more tasks."""
    for override in overrides:
        _override(data, override)
    for task in tasks:
        _add_task(data, task)
    return from_dict(data)


def _add_task(data: dict, task: str) -> None:
    name, sep, share = task.partition("=")
    try:
        value = float(share) if sep else 1.0
    except ValueError:
        raise ConfigError(f"--task {task!r}: use a number after =, such as {name}=2") from None
    table = data.setdefault("curriculum", {})
    shares = table.setdefault("tasks", {}) if isinstance(table, dict) else None
    if not isinstance(shares, dict):
        raise ConfigError("curriculum.tasks is not a table")
    shares[name] = value


def _override(data: dict, override: str) -> None:
    """Applies one `a.b=value`; the value is read as TOML, or as a bare string."""
    key, sep, text = override.partition("=")
    *parents, leaf = key.split(".")
    if not sep or not leaf or not all(parents):
        raise ConfigError(f"--set {override!r}: use table.key=value, such as train.lr=0.002")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = data
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {parent} is not a table")
    table[leaf] = value


def to_toml(profile: Profile) -> str:
    """A profile file that `load_profile` reads as the same profile."""
    tables = [name for name, value in profile.to_dict().items() if isinstance(value, dict)]
    return f"name = {_toml(profile.name)}\n" + "".join(
        f"\n[{table}]\n" + "".join(f"{_toml_key(key)} = {_toml(value)}\n"
                                   for key, value in profile.to_dict()[table].items())
        for table in tables)


def _toml_key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _toml(key)


def _toml(value: object) -> str:
    """A string of TOML escapes what one of JSON does."""
    if isinstance(value, dict):
        own = ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {own} }}" if own else "{}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
