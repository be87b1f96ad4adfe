"""What is left of a brain after a cut, made to follow its parent again without a step of training.

- A residual stream is turned into its principal axes before it is narrowed, so that what is lost is
  the least (Ashkboos et al. 2401.15024, section 3). There the head has weights of its own; here it
  is tied to the embedding, so half of its gain goes to either side (its root, to the stream).
- Each projection out is fitted by least squares to what the parent's stream becomes there, and over
  the layers that were left out behind it.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tinygrad import Tensor

from seed.config import ModelConfig
from seed.curriculum.dataset import Batch
from seed.wavecore.model import WaveCore

UNLEARNT = 0.1   # what a byte that is not learnt counts, beside one that is
RIDGE = 1e-3     # of the features' mean square: how strongly a projection stays what it was
LEAST = 0.05     # gain of the head whose root is still taken
Named = dict[str, np.ndarray]
Point = tuple[int, str]   # behind the "mixer" or the "mlp" of a layer; (-1, "mlp"): the embedding


class Axes(NamedTuple):
    """A narrower stream: (x * scale) @ vectors."""
    scale: np.ndarray          # (d,) of the wide stream
    vectors: np.ndarray        # (d, narrow d), orthonormal columns
    sizes: dict[Point, float]  # how large it is, beside the wide one: of root mean squares

    def of(self, x: np.ndarray) -> np.ndarray:
        return (x * self.scale) @ self.vectors


def streams(model: WaveCore, tokens: np.ndarray) -> Iterator[tuple[Point, np.ndarray]]:
    """The residual stream (b, t, d) at each point, for tokens (b, t)."""
    x = model.state_dict()["embedding"][tokens]
    yield (-1, "mlp"), x
    for i in range(model.config.n_layers):
        for part in ("mixer", "mlp"):
            x = block(model, i, part, x)
            yield (i, part), x


def block(model: WaveCore, i: int, part: str, x: np.ndarray) -> np.ndarray:
    return model.block(i, part, Tensor(np.ascontiguousarray(x)).realize()).numpy()


def principal_axes(model: WaveCore, batches: Sequence[Batch], d: int) -> Axes:
    """The d axes that hold the most of the stream, with each byte and point alike in size."""
    scale = np.sqrt(np.maximum(model.state_dict()["norm_f"], LEAST))
    found: dict[Point, np.ndarray] = {}
    for batch in batches:
        for point, x in streams(model, batch.tokens):
            x = x.reshape(-1, len(scale))
            x = x * scale / np.maximum(np.sqrt(np.square(x).mean(-1, keepdims=True)), 1e-12)
            found[point] = found.get(point, 0) + x.T @ x / (len(x) * len(batches))
    vectors = np.linalg.eigh(sum(found.values()))[1][:, :-d - 1:-1]
    sizes = {point: float(np.sqrt(np.einsum("ij,ik,kj", vectors, c, vectors) / d))
             for point, c in found.items()}
    return Axes(scale, vectors, sizes)


def narrow(named: Named, axes: Axes, layers: Sequence[int]) -> Named:
    """The same brain over a narrower stream; `layers`: which of the parent's each layer is."""
    last, d = max(axes.sizes), axes.vectors.shape[1]
    found = dict(named)
    found["embedding"] = axes.of(named["embedding"])
    found["norm_f"] = np.full(d, axes.sizes[last])
    for new, old in enumerate(layers):
        for part, before in (("mixer", (old - 1, "mlp")), ("mlp", (old, "mixer"))):
            key = f"layers.{new}.{part}"
            gain = named[f"{key}.norm"]
            name = f"{key}.in_proj" if f"{key}.in_proj" in named else f"{key}.qkv_proj"
            wide = named[name] * (gain / gain.mean() / axes.scale * axes.sizes[before])
            found[f"{key}.norm"] = np.full(d, gain.mean())
            found[name] = wide @ axes.vectors
            found[f"{key}.out_proj"] = axes.of(named[f"{key}.out_proj"].T).T
    return {key: np.ascontiguousarray(array, np.float32) for key, array in found.items()}


def reconstruct(config: ModelConfig, named: Named, parent: WaveCore, layers: Sequence[int],
                batches: Sequence[Batch], axes: Axes | None) -> Named:
    """The arrays with new projections out, by which the stream follows the parent's."""
    ends = [*(old - 1 for old in layers[1:]), parent.config.n_layers - 1]
    points = {(new, part): (layers[new], "mixer") if part == "mixer" else (ends[new], "mlp")
              for new in range(config.n_layers) for part in ("mixer", "mlp")}
    wanted: dict[Point, list[np.ndarray]] = {point: [] for point in points.values()}
    for batch in batches:
        for point, x in streams(parent, batch.tokens):
            if point in wanted:
                wanted[point].append(axes.of(x) if axes else x)
    xs = [named["embedding"][batch.tokens] for batch in batches]
    for (new, part), point in points.items():
        key = f"layers.{new}.{part}.out_proj"
        named = {**named, key: _fit(config, named, key, (new, part), xs, wanted[point], batches,
                                    parent.threads)}
        model = WaveCore(config, named, parent.threads)
        xs = [block(model, new, part, x) for x in xs]
    return named


def _fit(config: ModelConfig, named: Named, key: str, point: Point, xs: Sequence[np.ndarray],
         wanted: Sequence[np.ndarray], batches: Sequence[Batch], threads: int) -> np.ndarray:
    """A projection out by least squares, with x + features @ projection^T to be what is wanted."""
    old = named[key].astype(np.float64)
    squares, product = np.zeros((old.shape[1],) * 2), np.zeros(old.shape[::-1])
    for x, features, target, batch in zip(
            xs, _features(config, named, key, point, xs, threads), wanted, batches):
        features = features.reshape(-1, old.shape[1]).astype(np.float64)
        missing = (target - x).reshape(-1, old.shape[0]) - features @ old.T
        weight = np.where(batch.targets.reshape(-1, 1) >= 0, 1.0, UNLEARNT)
        squares += (features * weight).T @ features
        product += (features * weight).T @ missing
    ridge = RIDGE * max(np.trace(squares) / len(squares), 1e-12)
    change = np.linalg.solve(squares + ridge * np.eye(len(squares)), product)
    return (old + change.T).astype(np.float32)


def _features(config: ModelConfig, named: Named, key: str, point: Point,
              xs: Sequence[np.ndarray], threads: int) -> list[np.ndarray]:
    """What a projection out is given, (b, t, features): told by one that only hands on."""
    d, e = named[key].shape
    found: list[list[np.ndarray]] = [[] for _ in xs]
    for start in range(0, e, d):
        hands_on = np.eye(d, e, start, dtype=np.float32)
        model = WaveCore(config, {**named, key: hands_on}, threads)
        for x, own in zip(xs, found):
            own.append((block(model, *point, x) - x)[..., :e - start])
    return [np.concatenate(own, -1) for own in found]
