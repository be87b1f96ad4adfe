"""The brain that a training has: the mean of its newest weights.

At a constant rate the weights of single steps move around a minimum, and their mean is as good as
weights after a decay (Polyak and Juditsky 1992; Hägele et al. 2405.18392, section 4.2). So the mean
is evaluated, and is what is asked, exported, grown or adapted before a training has ended. As the
rate falls to zero, the mean becomes the weights themselves. The curriculum and self-play ask the
weights, which tell sooner what is forgotten.
"""
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from seed.storage.checkpoint import TRAINED
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import buffer_view

EVERY_STEPS = 10   # the mean follows the weights
MAX_HORIZON_STEPS = 1000


class Average:
    """The mean of a model's weights.

    It follows the weights with a horizon of `fraction` of the steps so far, MAX_HORIZON_STEPS at
    most; of less as the learning rate is less than the highest. It is the weights themselves where
    that is EVERY_STEPS or less.
    """

    def __init__(self, model: WaveCore, fraction: float):
        self._model, self._fraction = model, fraction
        self._flat: dict[str, np.ndarray] = {}   # packed, by block; empty: it is the weights
        self._is_used = False   # then these are the weights, and the model's the mean

    def follow(self, step: int, rate: float, is_last: bool) -> None:
        """After `step` steps, the last of which had `rate` of the highest learning rate, 0..1."""
        if step % EVERY_STEPS and not is_last:
            return
        horizon = rate * min(self._fraction * step, MAX_HORIZON_STEPS)
        if horizon <= EVERY_STEPS:
            self._flat = {}
            return
        for name, tensor in self._model.packed.items():
            weights = buffer_view(tensor)
            mean = self._flat.setdefault(name, weights.copy())
            mean += np.float32(EVERY_STEPS / horizon) * (weights - mean)

    @contextmanager
    def used(self) -> Iterator[None]:
        """The model has the mean meanwhile."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, flat in self._flat.items():
            weights = buffer_view(self._model.packed[name])
            self._flat[name], weights[:] = weights.copy(), flat
        buffer_view(self._model.changes)[0] += 1
        self._is_used = not self._is_used

    def state_dict(self) -> dict[str, np.ndarray]:
        """The named mean and, unless it is the weights, those under TRAINED."""
        mean = self._model.state_dict()
        if not self._flat:
            return mean
        trained = {key: array for block in self._model.blocks
                   for key, array in block.unpack(self._flat[block.name]).items()}
        if not self._is_used:
            mean, trained = trained, mean
        return {**mean, **{TRAINED + key: array for key, array in trained.items()}}

    def load_state_dict(self, named: dict[str, np.ndarray]) -> None:
        """The inverse of state_dict; other arrays are left out. The caller has checked all."""
        names = self._model.state_dict().keys()
        self._flat = {block.name: block.pack(named) for block in self._model.blocks
                      } if any(key.startswith(TRAINED) for key in named) else {}
        self._model.load_state_dict({key: named.get(TRAINED + key, named[key]) for key in names})
