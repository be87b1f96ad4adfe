"""What a brain keeps of a body, and how it is measured before the brain first meets it."""
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from seed.body.codec import Codec
from seed.body.episodes import FILE_NAME
from seed.body.open_body import body_name, make_codec
from seed.body.tick_rate import checked_rate
from seed.body.value_range import ValueRange
from seed.config import BodyConfig
from seed.errors import ConfigError
from seed.regular_file import read_json
from seed.storage.run_dir import RunDir

LASTING = [5, 95]     # percentiles of rewards that may be had tick after tick


class Facts(NamedTuple):
    """What a brain keeps of a body, in its checkpoint."""
    codec: Codec
    values: ValueRange
    rate_hz: float | None = None   # of its ticks, if it says so

    def to_dict(self) -> dict[str, Any]:
        fields = {"codec": self.codec.to_dict(), "returns": [self.values.low, self.values.high]}
        return fields if self.rate_hz is None else {**fields, "rate_hz": self.rate_hz}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Facts":
        low, high = fields["returns"]
        return cls(Codec.from_dict(fields["codec"]), ValueRange(float(low), float(high)),
                   checked_rate(fields.get("rate_hz")))


def facts_of(meta: Mapping[str, Any]) -> dict[str, Facts]:
    """Of the bodies in a checkpoint's metadata. Raises ConfigError if they are damaged."""
    try:
        facts = {str(name): Facts.from_dict(fields)
                 for name, fields in meta.get("bodies", {}).items()}
        if any(name != fact.codec.name or not fact.values.is_one
               for name, fact in facts.items()):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError("its bodies are damaged: use another checkpoint") from None
    return facts


def data_digests(meta: Mapping[str, Any]) -> dict[str, str]:
    """Of each directory of episodes that a checkpoint's run learns from."""
    tables = [fields.get("data") for fields in meta.get("bodies", {}).values()]
    return {directory: digest for table in tables if isinstance(table, dict)
            for directory, digest in table.items()}


def begun_sizes(run_dir: RunDir) -> dict[str, int] | None:
    """Of the files of episodes when an adaptation in this directory began; None if it has none."""
    try:
        sizes = read_json(run_dir.episode_sizes)
        if any(not FILE_NAME.fullmatch(name) or type(size) is not int or size < 0
               for name, size in sizes.items()):
            return None
    except (OSError, ValueError, AttributeError):
        return None
    return dict(sizes) or None


def measure(name: str, open_fn: Callable[[], Any], config: BodyConfig, seed: int) -> Facts:
    """Of a body that is new to a brain. Raises BodyError, ConfigError."""
    codec, rewards = make_codec(body_name(name), open_fn, seed)
    least, most = np.percentile(rewards, LASTING) / (1 - config.discount)
    low, high = min(0.0, least + rewards.min()), max(0.0, most + rewards.max())
    return Facts(codec, ValueRange(float(low), float(high if high > low else low + 1)),
                 getattr(open_fn, "rate_hz", None))
