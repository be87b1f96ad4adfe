"""Layer-wise reconstruction: fits a pruned brain to its parent's residual stream, without training.

- A residual stream is rotated into its principal axes before it is narrowed, so that it loses the
  least (Ashkboos et al. 2401.15024, section 3). There the head has weights of its own; here it is
  tied to the embedding, so each side gets the root of its gain.
- Each output projection is fitted by least squares to the parent's stream behind it; that of an MLP
  also makes up for the removed layers that follow.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seed.config import ModelConfig
from seed.curriculum.dataset import Batch
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import Tensor

UNMASKED_WEIGHT = 0.1   # of a byte that is no target; 1 for targets
RIDGE = 1e-3            # fraction of the features' mean square: pulls a projection to its old value
MIN_HEAD_GAIN = 0.05    # whose root is taken
Named = dict[str, np.ndarray]
Point = tuple[int, str]   # behind the "mixer" or the "mlp" of a layer; (-1, "mlp"): the embedding


class Axes(NamedTuple):
    """A narrower stream: (x * scale) @ vectors."""
    scale: np.ndarray          # (d,) of the wide stream
    vectors: np.ndarray        # (d, narrow d), orthonormal columns
    sizes: dict[Point, float]  # its root mean square / that of the wide stream

    def project(self, x: np.ndarray) -> np.ndarray:
        return (x * self.scale) @ self.vectors


def streams(model: WaveCore, tokens: np.ndarray) -> Iterator[tuple[Point, np.ndarray]]:
    """The residual stream (b, t, d) at each point, for tokens (b, t)."""
    x = model.state_dict()["embedding"][tokens]
    yield (-1, "mlp"), x
    for i in range(model.config.n_layers):
        for half in ("mixer", "mlp"):
            x = sublayer(model, (i, half), x)
            yield (i, half), x


def sublayer(model: WaveCore, point: Point, x: np.ndarray) -> np.ndarray:
    return model.sublayer(*point, Tensor(np.ascontiguousarray(x)).realize()).numpy()


def principal_axes(model: WaveCore, batches: Sequence[Batch], d: int) -> Axes:
    """The d axes with the most variance of the stream, every byte and point scaled to size 1."""
    scale = np.sqrt(np.maximum(model.state_dict()["norm_f"], MIN_HEAD_GAIN))
    covariances: dict[Point, np.ndarray] = {}
    for batch in batches:
        for point, x in streams(model, batch.tokens):
            x = x.reshape(-1, len(scale))
            x = x * scale / np.maximum(np.sqrt(np.square(x).mean(-1, keepdims=True)), 1e-12)
            covariances[point] = covariances.get(point, 0) + x.T @ x / (len(x) * len(batches))
    vectors = np.linalg.eigh(sum(covariances.values()))[1][:, :-d - 1:-1]
    sizes = {point: float(np.sqrt(np.einsum("ij,ik,kj", vectors, c, vectors) / d))
             for point, c in covariances.items()}
    return Axes(scale, vectors, sizes)


def narrow(named: Named, axes: Axes, layers: Sequence[int]) -> Named:
    """The same brain over a narrower stream; `layers`: the parent's index of each layer."""
    last, d = max(axes.sizes), axes.vectors.shape[1]
    narrowed = {**named, "embedding": axes.project(named["embedding"]),
                "norm_f": np.full(d, axes.sizes[last])}
    for new, old in enumerate(layers):
        for half, before in (("mixer", (old - 1, "mlp")), ("mlp", (old, "mixer"))):
            key = f"layers.{new}.{half}"
            gain = named[f"{key}.norm"]
            name = f"{key}.in_proj" if f"{key}.in_proj" in named else f"{key}.qkv_proj"
            wide = named[name] * (gain / gain.mean() / axes.scale * axes.sizes[before])
            narrowed[f"{key}.norm"] = np.full(d, gain.mean())
            narrowed[name] = wide @ axes.vectors
            narrowed[f"{key}.out_proj"] = axes.project(named[f"{key}.out_proj"].T).T
    return {key: np.ascontiguousarray(array, np.float32) for key, array in narrowed.items()}


def reconstruct(config: ModelConfig, named: Named, parent: WaveCore, layers: Sequence[int],
                batches: Sequence[Batch], axes: Axes | None) -> Named:
    """The arrays with new output projections, with which the stream follows the parent's."""
    ends = [*(old - 1 for old in layers[1:]), parent.config.n_layers - 1]
    parent_points: dict[Point, Point] = {}
    for new, (old, end) in enumerate(zip(layers, ends)):
        parent_points |= {(new, "mixer"): (old, "mixer"), (new, "mlp"): (end, "mlp")}
    targets: dict[Point, list[np.ndarray]] = {point: [] for point in parent_points.values()}
    for batch in batches:
        for point, x in streams(parent, batch.tokens):
            if point in targets:
                targets[point].append(axes.project(x) if axes else x)
    weights = [np.where(batch.targets.reshape(-1, 1) >= 0, 1.0, UNMASKED_WEIGHT)
               for batch in batches]
    xs = [named["embedding"][batch.tokens] for batch in batches]
    for (new, half), parent_point in parent_points.items():
        key = f"layers.{new}.{half}.out_proj"
        features = _features(config, named, key, (new, half), xs, parent.threads)
        named = {**named, key: _fit(named[key], features, xs, targets[parent_point], weights)}
        model = WaveCore(config, named, parent.threads)
        xs = [sublayer(model, (new, half), x) for x in xs]
    return named


def _fit(old: np.ndarray, inputs: Sequence[np.ndarray], xs: Sequence[np.ndarray],
         targets: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """The output projection for which x + features @ projection^T is closest to the targets."""
    old = old.astype(np.float64)
    squares, product = np.zeros((old.shape[1],) * 2), np.zeros(old.shape[::-1])
    for x, features, target, weight in zip(xs, inputs, targets, weights):
        features = features.reshape(-1, old.shape[1]).astype(np.float64)
        missing = (target - x).reshape(-1, old.shape[0]) - features @ old.T
        squares += (features * weight).T @ features
        product += (features * weight).T @ missing
    ridge = RIDGE * max(np.trace(squares) / len(squares), 1e-12)
    change = np.linalg.solve(squares + ridge * np.eye(len(squares)), product)
    return (old + change.T).astype(np.float32)


def _features(config: ModelConfig, named: Named, key: str, point: Point,
              xs: Sequence[np.ndarray], threads: int) -> list[np.ndarray]:
    """The inputs of an output projection, (b, t, features), read through identity projections."""
    d, e = named[key].shape
    columns: list[list[np.ndarray]] = [[] for _ in xs]
    for start in range(0, e, d):
        identity = np.eye(d, e, start, dtype=np.float32)
        model = WaveCore(config, {**named, key: identity}, threads)
        for x, slices in zip(xs, columns):
            slices.append((sublayer(model, point, x) - x)[..., :e - start])
    return [np.concatenate(slices, -1) for slices in columns]
