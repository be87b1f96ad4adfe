"""Recorded episodes: a directory with metadata.json and files of JSON lines, a step in each.

As in RLDS (Ramos et al. 2111.02767): a step has an observation, the action that was taken on it and
the reward that followed; the last step of an episode has only an observation. A file that ends in
the middle of an episode or a line was cut there, as by a loss of power, and so was one at its first
zero byte. Whatever else is wrong is refused with the name of the file and the line.
"""
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from seed.body.codec import MAX_OBSERVATIONS, Channel, Codec
from seed.body.open_body import KNOTS
from seed.body.spaces import Discrete, action_values, observation_ranges
from seed.body.tick_rate import checked_rate, is_same_rate
from seed.body.world import MAX_NUMBER
from seed.errors import ConfigError, printable
from seed.regular_file import blocks, open_regular, parse_json
from seed.runtime.recording import step_line
from seed.storage import atomic_file, lines

FORMAT = 1
METADATA, FILE_NAME = "metadata.json", re.compile(r"episodes-[\w.-]{1,100}\.jsonl")
MAX_METADATA_BYTES, MAX_FILES, MAX_NAME = 2 ** 20, 10_000, 200
MAX_REWARD = 1e6
MEMORY_FRACTION = 0.5     # of the files: a number takes two bytes there at least, here one
RECORDED_BINS = 21        # choices of a number in an action, finest in the middle
RANGE_MARGIN = 0.25       # of what was recorded, on both sides of a range that data decide
TOLERANCE = 1e-3          # of an action's range, by which a recorded one may be beyond it


class Step(NamedTuple):
    """One line of an episode. `choices` is None in an episode's last."""
    observation: list[float]
    choices: list[int] | None
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool


class EpisodeFolder:
    """What is recorded of one body, as it is now: what a recorder then appends is not read. Raises
    ConfigError, which names the file, for whatever is wrong in it; a link in the directory is not
    followed."""

    def __init__(self, path: Path, sizes: Mapping[str, int] | None = None):
        """`sizes`: of the files, as they were when a run began."""
        self.path = path
        self._metadata = _read(path, METADATA)
        try:
            fields = parse_json(self._metadata)
            self.body, self.codec, self._is_measured = _described(fields)
            self.rate_hz = checked_rate(fields.get("rate_hz"))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{path / METADATA}: {printable(why)[:300]}; see docs/episodes.md"
                              ) from None
        self.sizes = dict(sizes) if sizes else {
            name: os.lstat(path / name).st_size for name in self._list()}
        self.files = sorted(self.sizes)
        self.digest = ""   # of what was read, when all of it was

    @property
    def has_all_ranges(self) -> bool:
        """Whether `codec` is complete; else `measure` completes it."""
        return all(self._is_measured)

    def _list(self) -> list[str]:
        files = sorted(name for name in os.listdir(self.path) if FILE_NAME.fullmatch(name))
        if not files or len(files) > MAX_FILES:
            raise ConfigError(f"{self.path} has {len(files)} files episodes-*.jsonl: use 1 to "
                              f"{MAX_FILES:,}")
        return files

    def contents_digest(self) -> str:
        """Of the bytes, also of those that tell nothing. Raises OSError."""
        digest = hashlib.blake2b(self._metadata, digest_size=16)
        for name in self.files:
            digest.update(f"{name} {self.sizes[name]}".encode())
            for block in blocks(self.path / name, self.sizes[name]):
                digest.update(block)
        return digest.hexdigest()

    def measure(self) -> Codec:
        """The codec, with ranges of the data for channels that have none."""
        if self.has_all_ranges:
            return self.codec
        low, high = np.full((2, len(self.codec.channels)), [[np.inf], [-np.inf]])
        for step in self.steps():
            low, high = np.minimum(low, step.observation), np.maximum(high, step.observation)
        if low[0] > high[0]:
            raise self.no_episode()
        channels = list(self.codec.channels)
        for i in np.flatnonzero(~np.array(self._is_measured)):
            least, most = float(low[i]), float(high[i])
            if max(-least, most) > MAX_NUMBER:
                raise ConfigError(f"{self.path}: number {i} of an observation is beyond "
                                  f"{MAX_NUMBER:g}: give it a low and a high in {METADATA}")
            margin = RANGE_MARGIN * ((most - least) or max(1.0, abs(least)))
            channels[i] = Channel(least - margin, most + margin)
        self.codec = replace(self.codec, channels=tuple(channels))
        self._is_measured = [True] * len(low)
        return self.codec

    def no_episode(self) -> ConfigError:
        """The error that says so."""
        return ConfigError(f"{self.path} has no episode with an action: record some")

    def steps(self) -> Iterator[Step]:
        """All steps in order, in bounded memory. An episode whose file ends in its middle has its
        last whole step as its last."""
        digest = hashlib.blake2b(self._metadata, digest_size=16)
        for name in self.files:
            digest.update(f"\n{name}\n".encode())
            pending: Step | None = None
            for step in self._steps_of(name, digest):
                if pending:
                    yield pending
                pending = step
            if pending and not (pending.is_first and not pending.is_last):
                yield pending._replace(choices=None, is_last=True)
        self.digest = digest.hexdigest()

    def _steps_of(self, name: str, digest: Any) -> Iterator[Step]:
        is_inside = False   # of an episode
        with _open(self.path, name) as file:
            for number, line in enumerate(lines.forward(file, self.sizes[name]), 1):
                digest.update(line)
                try:
                    if not line:
                        raise ValueError(f"it has more than {lines.MAX_LINE_BYTES:,} bytes")
                    step = self._parsed(line)
                    if step is None:
                        return
                    if step.is_first == is_inside:
                        raise ValueError("is_first is true, but the episode before it has no "
                                         "is_last" if is_inside else
                                         "is_first is false, but no episode has begun")
                except ValueError as error:
                    raise ConfigError(f"{self.path / name} line {number}: "
                                      f"{printable(str(error))[:300]}") from None
                is_inside = not step.is_last
                yield step

    def _parsed(self, line: bytes) -> Step | None:
        """None if the line is torn. Raises ValueError."""
        try:
            fields = parse_json(line)
        except ValueError as error:
            if not line.endswith(b"\n") or b"\0" in line:   # a block that was never written
                return None
            raise ValueError(f"it is not JSON: {error}") from None
        if type(fields) is not dict:
            raise ValueError("it is not a JSON object")
        flags = [_flag(fields, name) for name in ("is_first", "is_last", "is_terminal")]
        _, is_last, is_terminal = flags
        if is_terminal and not is_last:
            raise ValueError("is_terminal is true, but is_last is false")
        observation = _numbers("observation", fields.get("observation"), len(self.codec.channels))
        if is_last:
            return Step(observation, None, 0.0, *flags)
        reward, = _numbers("reward", fields.get("reward"), 1)
        if abs(reward) > MAX_REWARD:
            raise ValueError(f"reward is {reward:g}: keep it within {MAX_REWARD:g}")
        return Step(observation, _choices(self.codec, fields.get("action")), reward, *flags)


def _open(folder: Path, name: str) -> BinaryIO:
    """Raises ConfigError, also if it is a link or no file."""
    path = folder / name
    if path.is_symlink():
        raise ConfigError(f"{path} is a link: copy the file itself there")
    try:
        return os.fdopen(open_regular(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: name a directory of recorded episodes (see "
                          f"docs/episodes.md)") from None


def _read(folder: Path, name: str) -> bytes:
    with _open(folder, name) as file:
        data = file.read(MAX_METADATA_BYTES + 1)
    if len(data) > MAX_METADATA_BYTES:
        raise ConfigError(f"{folder / name} has more than {MAX_METADATA_BYTES:,} bytes: see "
                          f"docs/episodes.md")
    return data


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if type(value) is not bool:
        raise ValueError(f"{name} is {value!r:.50}: use true or false" if name in fields else
                         f"it has no {name}")
    return value


def _numbers(name: str, value: Any, n: int) -> list[float]:
    """A number may stand for a list of one."""
    values = value if type(value) is list else [value]
    if any(type(x) is not int and type(x) is not float for x in values):
        raise ValueError(f"{name} is {value!r:.50}: use numbers")
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} numbers; the body has {n}")
    return values


def _choices(codec: Codec, action: Any) -> list[int]:
    """Of a recorded action: in each part the nearest choice of a number."""
    values = _numbers("action", action, len(codec.actions))
    choices = []
    for value, part in zip(values, codec.actions):
        choice = min(range(len(part)), key=lambda i: abs(part[i] - value))
        low, high = min(part), max(part)
        tolerance = TOLERANCE * (high - low) if codec.form == "numbers" else 0
        if not low - tolerance <= value <= high + tolerance \
                or codec.form != "numbers" and value != part[choice]:
            raise ValueError(f"action {value:g} is unknown: the body has {low:g} to {high:g}")
        choices.append(choice)
    return choices


def _described(fields: Any) -> tuple[str, Codec, list[bool]]:
    """Body, codec and which of its channels have a range, of metadata. Raises ValueError and what a
    wrong type raises."""
    if type(fields) is not dict or fields["format"] != FORMAT:
        raise ValueError(f"format is not {FORMAT}")
    name = fields["body"]
    if not is_body_name(name):
        raise ValueError("body is not a name")
    if "codec" in fields:
        codec = Codec.from_dict(fields["codec"])
        if codec.name != name:
            raise ValueError(f"its codec is of {codec.name}, not of {name}")
        return name, codec, [True] * len(codec.channels)
    space = _space("observation", fields["observation"])
    if np.size(getattr(space, "low", 0)) > MAX_OBSERVATIONS:
        raise ValueError(f"observation has more than {MAX_OBSERVATIONS} numbers")
    ranges = observation_ranges(name, space)
    actions, form, shape = action_values(name, _space("action", fields["action"]), RECORDED_BINS,
                                         is_fine=True)
    channels = [Channel(low, high, False, KNOTS) if math.isfinite(low) else Channel(-1.0, 1.0)
                for low, high in ranges]
    codec = Codec(name, tuple(channels), tuple(map(tuple, actions)), form, tuple(shape))
    return (name, Codec.from_dict(codec.to_dict()), [math.isfinite(low) for low, _ in ranges])


def is_body_name(name: Any) -> bool:
    return type(name) is str and 0 < len(name) <= MAX_NAME and name.isprintable()


def _space(name: str, fields: Any) -> Any:
    """{"low": [...], "high": [...]}, where null is no bound; {"n": 2}; or {"nvec": [3, 3]}."""
    if type(fields) is not dict or any(type(fields.get(key, [])) is not list
                                       for key in ("low", "high", "nvec")):
        raise ValueError(f"{name} is {fields!r:.60}: give lists low and high, n, or a list nvec")
    if "n" in fields or "nvec" in fields:
        sizes = _numbers(f"{name}.n", fields.get("n", fields.get("nvec")),
                         1 if "n" in fields else len(fields["nvec"]))
        if any(type(size) is not int for size in sizes):
            raise ValueError(f"{name} has {sizes} choices: use whole numbers")
        return (Discrete(int(sizes[0]), int(fields.get("start", 0))) if "n" in fields
                else SimpleNamespace(nvec=np.array(sizes)))
    low, high = (np.array([sign * math.inf if x is None else x for x in fields[key]], float)
                 for key, sign in (("low", -1), ("high", 1)))
    if low.shape != high.shape or low.ndim != 1 or not low.size or not (low < high).all():
        raise ValueError(f"{name} has no low and high of one length, low below high")
    return SimpleNamespace(low=low, high=high)


class EpisodeWriter:
    """Appends whole episodes to a new file of a directory; raises OSError. A directory has one
    body: ConfigError if it has another."""

    def __init__(self, path: Path, codec: Codec, rate_hz: float | None, recorded_by: str):
        self.codec = codec
        metadata = {"format": FORMAT, "body": codec.name, "codec": codec.to_dict(),
                    "rate_hz": rate_hz, "recorded_by": recorded_by}
        atomic_file.make_directory(path)
        if not os.path.lexists(path / METADATA):
            atomic_file.write(path / METADATA, json.dumps(metadata).encode() + b"\n")
        fields = parse_json(_read(path, METADATA))
        if type(fields) is not dict or fields.get("codec") != json.loads(
                json.dumps(codec.to_dict())):
            raise ConfigError(f"{path} has episodes of another body or with other ranges: use "
                              f"another directory")
        if not is_same_rate(rate_hz, checked_rate(fields.get("rate_hz"))):
            raise ConfigError(f"{path} has episodes at {fields['rate_hz']:g} Hz, {codec.name} has "
                              f"{rate_hz:g} Hz: use another directory")
        self._file = _new_file(path)

    def write(self, observations: np.ndarray, choices: np.ndarray, rewards: np.ndarray,
              is_terminal: bool) -> None:
        """n choices (n, parts) and rewards (n,), n + 1 observations."""
        n, rows = len(rewards), []
        for t, observation in enumerate(observations):
            numbers, is_first = observation.tolist(), t == 0
            if t < n:
                action = self.codec.decode(choices[t])
                rows.append(step_line(
                    numbers, is_first, action if type(action) is int else action.ravel().tolist(),
                    float(rewards[t])))
            else:
                rows.append(step_line(numbers, is_first, is_terminal=is_terminal))
        self._file.write("".join(rows).encode())
        self._file.flush()

    def close(self) -> None:
        """All episodes are on the disk when this returns."""
        os.fsync(self._file.fileno())
        self._file.close()


def _new_file(path: Path) -> BinaryIO:
    for number in range(MAX_FILES):
        with suppress(FileExistsError):
            return open(path / f"episodes-{number:05}.jsonl", "xb")
    raise ConfigError(f"{path} has {MAX_FILES:,} files: use another directory")


class Recorder:
    """Collects the ticks of several bodies side by side, and writes each episode when it ends."""

    def __init__(self, writer: EpisodeWriter, rows: int):
        self.writer = writer
        self._ticks: list[list[tuple[np.ndarray, np.ndarray, float]]] = [[] for _ in range(rows)]

    def add(self, row: int, observation: np.ndarray, choices: np.ndarray, reward: float) -> None:
        self._ticks[row].append((observation.copy(), choices.copy(), reward))

    def end(self, row: int, observation: np.ndarray, is_terminal: bool) -> None:
        ticks, self._ticks[row] = self._ticks[row], []
        observations, choices, rewards = zip(*ticks)
        self.writer.write(np.array([*observations, observation]), np.array(choices),
                          np.array(rewards), is_terminal)


def memory_mb(path: Path) -> float:
    """About what the episodes in a directory take in memory; 0 if it cannot be read."""
    with suppress(OSError):
        return MEMORY_FRACTION * sum(entry.stat(follow_symlinks=False).st_size
                                     for entry in os.scandir(path)
                                     if FILE_NAME.fullmatch(entry.name)) / 2 ** 20
    return 0.0
