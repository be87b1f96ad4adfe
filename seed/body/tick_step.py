"""Optimizer steps over a round of play: chunks of ticks, in order, from the state carried into
them."""
from collections.abc import Sequence

import numpy as np

from seed.body.codec import Codec
from seed.body.round import Targets
from seed.wavecore import layout
from seed.wavecore.optim import Optimizer
from seed.wavecore.actor import Actor, Ticks
from seed.wavecore.layout import HeadTable
from seed.wavecore.model import WaveCore
from seed.wavecore.ticks import TickTargets
from seed.wavecore.carried import CarriedGraph
from seed.wavecore.tinygrad_seam import Tensor, copy_into, from_array, zeros


def _target_buffers(heads: HeadTable, n: int) -> TickTargets:
    return TickTargets(zeros((n, len(heads.heads))), zeros((n, heads.n_scalars), np.int32),
                       zeros((n, heads.n_scalars)), zeros((n, heads.policy_width)))


class TickStep:
    """One optimizer step over (rows, t) ticks of one body; carries the state on."""

    def __init__(self, model: WaveCore, optim: Optimizer, codec: Codec, rows: int, t: int,
                 world: bool = True):
        actor, body, n = Actor(model, codec.body), codec.body, rows * t
        self.optim, self.codec, self.rows, self.t, self.world = optim, codec, rows, t, world
        self._ticks = Ticks(zeros((n, body.slots), np.int32), zeros((n, body.slots)))
        self._actions = Ticks(zeros((n, len(body.choices)), np.int32),
                              from_array(np.ones((n, len(body.choices)), np.float32)))
        self._control = _target_buffers(body.control, n)
        self._world = _target_buffers(body.world, n)
        state = model.init_state(rows)
        tables = f"bodies.{body.name}."

        def is_used(name: str) -> bool:
            if name in (f"{tables}action", f"{tables}world") and not world:
                return False
            return optim.trains(name) and layout.acts(name, body.name)

        def run() -> list[Tensor]:
            x, after = actor.hidden(self._ticks, state, rows, t)
            loss = actor.loss("control", x, self._control)
            if world:
                loss = loss + actor.loss("world", actor.after_action(x, self._actions), self._world)
            total = loss.reshape(1).contiguous()
            done = optim.step(model.gradients(loss, is_used), total)
            outputs = [total, *(array for layer in after for array in layer)]
            Tensor.realize(*outputs, *done)
            return outputs
        self._run = CarriedGraph(run, [array for layer in state for array in layer])

    def begin(self, state: Sequence[np.ndarray]) -> None:
        for before, array in zip(self._run.state, state, strict=True):
            before[...] = array

    def state(self) -> list[np.ndarray]:
        """A copy of what is carried on."""
        return [array.copy() for array in self._run.state]

    def run(self, ticks: tuple[np.ndarray, np.ndarray], actions: np.ndarray, control: Targets,
            world: Targets, lr: float) -> float:
        """All arrays have rows*t rows in the order of (row, tick)."""
        for buffers, arrays in ((self._ticks, ticks), (self._control, control),
                                (self._world, world), (self._actions[:1], (actions,))):
            for buffer, array in zip(buffers, arrays):
                copy_into(buffer, array)
        copy_into(self.optim.lr, np.array([lr], np.float32))
        return float(self._run()[0])


def rows_of(arrays: np.ndarray, start: int, t: int) -> np.ndarray:
    """(T, n, ...) to (n*t, ...) of t ticks from `start`."""
    part = arrays[start:start + t].swapaxes(0, 1)
    return np.ascontiguousarray(part.reshape(-1, *part.shape[2:]))
