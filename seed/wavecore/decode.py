"""Prefill and generation: bytes go through the model one by one, from a carried state."""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seed.rng import Stream, stream
from seed.runtime.answer import drawn
from seed.wavecore.model import State, WaveCore
from seed.wavecore.stepping import StepGraph
from seed.wavecore.tinygrad_seam import Tensor, buffer_view, zeros

PREFILL_BYTES = 32   # of one prefill call; the rest goes byte by byte


class CarriedForward:
    """A forward pass over (b, t) tokens, captured once, that carries `state` on in place."""

    def __init__(self, model: WaveCore, state: State, b: int, t: int):
        inputs = zeros((b, t), np.int32)
        self._tokens = buffer_view(inputs)
        self._graph = StepGraph(model, lambda steps: steps.logits(inputs, state, b, t))

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (b, t) to logits (b, t, v), which are valid until the next call."""
        self._tokens[:] = tokens
        return self._graph()


def _arrays(state: State) -> list[Tensor]:
    return [array for layer in state for array in layer]


def _float_views(state: State) -> list[np.ndarray]:
    return [buffer_view(array) for array in _arrays(state) if array.dtype.name == "float"]


def _reset(state: State) -> None:
    for array in _arrays(state):
        buffer_view(array).fill(0)


class Decoder:
    """Feeds bytes to a model of batch 1 and keeps its state."""

    def __init__(self, model: WaveCore):
        self.model = model
        self.state: State = model.init_state(1)
        self._forward = {t: CarriedForward(model, self.state, 1, t) for t in (1, PREFILL_BYTES)}

    def _feed(self, tokens: np.ndarray) -> np.ndarray:
        return self._forward[tokens.size](tokens)[0, -1].copy()

    def reset(self) -> None:
        """Back to the state before the first byte."""
        _reset(self.state)

    def state_rms(self) -> float:
        """Root mean square of all that is carried, apart from counts."""
        flat = np.concatenate([view.ravel() for view in _float_views(self.state)])
        return float(np.sqrt(np.square(flat, dtype=np.float64).mean()))

    def prefill(self, prompt: bytes) -> np.ndarray:
        """Feeds a prompt of at least one byte; returns the logits (v,) after its last."""
        if not prompt:
            raise ValueError("prompt is empty: give at least one byte")
        tokens = np.frombuffer(prompt, np.uint8)
        whole = tokens.size // PREFILL_BYTES * PREFILL_BYTES
        for piece in (*tokens[:whole].reshape(-1, PREFILL_BYTES), *tokens[whole:, None]):
            logits = self._feed(piece)
        return logits

    def generate(self, prompt: bytes, max_bytes: int, stop: int, temperature: float = 0.0,
                 seed: int = 0) -> Iterator[int]:
        """Yields at most max_bytes bytes until `stop`, drawn from softmax(logits / temperature);
        temperature 0 takes the likeliest byte."""
        for byte, _ in self.drawn(prompt, max_bytes, stop, temperature, seed):
            if byte != stop:
                yield byte

    def drawn(self, prompt: bytes, max_bytes: int, stop: int, temperature: float,
              seed: int) -> Iterator[tuple[int, float]]:
        """As `generate`, with `stop` and each byte's log probability at temperature 1."""
        return drawn(self.prefill(prompt), lambda byte: self._feed(np.array([byte])), max_bytes,
                     stop, temperature, stream(seed, Stream.GENERATE, 0))


class Rollout(NamedTuple):
    """A sampled answer."""
    text: bytes       # without the stop byte
    ended: bool       # by the stop byte, not by max_bytes
    entropy: float    # mean over its bytes, the stop byte among them, nats
    peak: float       # largest magnitude in the state after it; NaN if any of it is
    confidence: float   # as that of runtime.Answer


class Rollouts:
    """Samples answers to many prompts at once, one byte of each a step."""

    def __init__(self, model: WaveCore, rows: int):
        self.rows, self.state = rows, model.init_state(rows)
        self._forward = CarriedForward(model, self.state, rows, 1)
        self._float_views = _float_views(self.state)

    def answer(self, prompts: Sequence[bytes], max_bytes: int, stop: int, temperature: float,
               rng: np.random.Generator) -> list[Rollout]:
        """One answer to each of at most `rows` prompts of at least one byte; temperature as in
        Decoder.generate."""
        _reset(self.state)
        n, lengths = len(prompts), np.array([len(p) for p in prompts])
        questions = np.zeros((n, lengths.max()), np.uint8)
        for row, prompt in zip(questions, prompts):
            row[:len(prompt)] = np.frombuffer(prompt, np.uint8)
        texts, counts = np.zeros((n, max_bytes), np.uint8), np.zeros(n, int)
        entropies, peaks, log_ps = np.zeros((3, n))
        stopped, done = np.zeros((2, n), bool)
        tokens, at = np.zeros(self.rows, np.int64), 0
        while not done.all():
            asking = np.flatnonzero(at < lengths)
            if asking.size:
                tokens[asking] = questions[asking, at]
            logits = self._forward(tokens[:, None])[:n, 0].astype(np.float64)
            at += 1
            answering = ~done & (at >= lengths)
            if not answering.any():
                continue
            p = np.exp(logits - logits.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            noise = rng.gumbel(size=logits.shape) if temperature else 0.0
            sampled = (logits / (temperature or 1.0) + noise).argmax(-1)
            log_p = np.log(np.maximum(p, 1e-300))
            entropies[answering] -= (p * log_p).sum(-1)[answering]
            log_ps[answering] += log_p[np.arange(n), sampled][answering]
            stopped |= answering & (sampled == stop)
            going = np.flatnonzero(answering & ~stopped)
            texts[going, counts[going]] = sampled[going]
            counts[going] += 1
            ending = answering & (stopped | (counts >= max_bytes))
            if ending.any():
                peaks[ending] = np.max([np.abs(view[:n][ending]).reshape(ending.sum(), -1).max(1)
                                        for view in self._float_views], axis=0)
            done |= ending
            tokens[:n][answering] = sampled[answering]
        entropies /= stopped + counts
        confidences = np.nan_to_num(np.exp(log_ps))   # none where logits are not finite
        return [Rollout(text[:count].tobytes(), *numbers) for text, count, *numbers in zip(
            texts, counts, stopped.tolist(), entropies.tolist(), peaks.tolist(),
            confidences.tolist())]
