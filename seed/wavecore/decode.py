"""Prefill and generation: one byte a step from a carried state."""
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tinygrad import Tensor

from seed.rng import Stream, stream
from seed.runtime import choose
from seed.wavecore.model import State, WaveCore
from seed.wavecore.tinygrad_seam import buffer_view, capture, copy_into

PREFILL = 32  # bytes of one prefill call; the rest goes byte by byte


class Decoder:
    """Feeds bytes to a model of batch 1 and keeps its state."""

    def __init__(self, model: WaveCore):
        self.model = model
        self.state: State = model.init_state(1)
        self._inputs = {t: Tensor(np.zeros((1, t), np.int32)).realize() for t in (1, PREFILL)}
        self._graphs = {t: self._capture(t) for t in (1, PREFILL)}

    def _capture(self, t: int) -> Callable[[], tuple[Tensor, ...]]:
        def run() -> tuple[Tensor, ...]:
            logits, state = self.model(self._inputs[t], self.state)
            flat = [s for layer in state for s in layer]
            Tensor.realize(logits, *flat)
            return logits, *flat
        return capture(run)

    def _feed(self, tokens: np.ndarray) -> np.ndarray:
        t = tokens.size
        copy_into(self._inputs[t], tokens.astype(np.int32))
        logits, *after = self._graphs[t]()
        before = [s for layer in self.state for s in layer]
        for old, new in zip(before, after, strict=True):
            copy_into(old, buffer_view(new))
        return buffer_view(logits)[0, -1].copy()

    def reset(self) -> None:
        """Back to the state before the first byte."""
        for layer in self.state:
            for s in layer:
                copy_into(s, np.zeros(s.shape, np.int32 if s.dtype.name == "int" else np.float32))

    def state_rms(self) -> float:
        """Root mean square of all that is carried, apart from counts."""
        flat = np.concatenate([buffer_view(s).ravel() for layer in self.state for s in layer
                               if s.dtype.name == "float"])
        return float(np.sqrt(np.square(flat, dtype=np.float64).mean()))

    def prefill(self, prompt: bytes) -> np.ndarray:
        """Feeds a prompt of at least one byte; returns the logits (v,) after its last."""
        if not prompt:
            raise ValueError("prompt is empty: give at least one byte")
        tokens, at = np.frombuffer(prompt, np.uint8), 0
        while at < tokens.size:
            t = PREFILL if tokens.size - at >= PREFILL else 1
            logits = self._feed(tokens[at:at + t])
            at += t
        return logits

    def generate(self, prompt: bytes, max_bytes: int, stop: int, temperature: float = 0.0,
                 seed: int = 0) -> Iterator[int]:
        """Yields at most max_bytes bytes until `stop`; temperature 0 takes the likeliest byte."""
        rng = stream(seed, Stream.GENERATE, 0)
        logits = self.prefill(prompt)
        for _ in range(max_bytes):
            byte = choose(logits, temperature, rng)
            if byte == stop:
                return
            yield byte
            logits = self._feed(np.array([byte]))


class Rollouts:
    """Answers many prompts at once, one byte of each a step; rows that are done wait for the rest.
    """

    def __init__(self, model: WaveCore, rows: int):
        self.rows, self.state = rows, model.init_state(rows)
        self._tokens = Tensor(np.zeros((rows, 1), np.int32)).realize()

        def run() -> tuple[Tensor, ...]:
            logits, state = model(self._tokens, self.state)
            flat = [s for layer in state for s in layer]
            Tensor.realize(logits, *flat)
            return logits, *flat
        self._step = capture(run)

    def _feed(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (rows,) to logits (rows, v)."""
        copy_into(self._tokens, tokens.astype(np.int32).reshape(-1, 1))
        logits, *after = self._step()
        for old, new in zip([s for layer in self.state for s in layer], after, strict=True):
            copy_into(old, buffer_view(new))
        return buffer_view(logits)[:, 0]

    def answer(self, prompts: Sequence[bytes], longest: int, stop: int, temperature: float,
               rng: np.random.Generator) -> list[tuple[bytes, bool, float, float]]:
        """Of each prompt: the answer without `stop`, whether `stop` ended it and not its length,
        the mean entropy of its bytes in nats, and the largest magnitude in the states that it
        leaves. At most `rows` prompts of at least one byte.

        temperature 0 takes the likeliest byte; else softmax(logits / temperature) is drawn from.
        """
        for layer in self.state:
            for s in layer:
                buffer_view(s)[...] = 0
        lengths = np.array([len(p) for p in prompts])
        texts = [bytearray() for _ in prompts]
        entropies, peaks = np.zeros((2, len(prompts)))
        ended, over = np.zeros((2, len(prompts)), bool)
        tokens, at = np.zeros(self.rows, np.int64), 0
        while not over.all():
            for i, prompt in enumerate(prompts):
                if at < len(prompt):
                    tokens[i] = prompt[at]
            logits = self._feed(tokens)[:len(prompts)].astype(np.float64)
            at += 1
            says = ~over & (at >= lengths)
            if not says.any():
                continue
            p = np.exp(logits - logits.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            noise = rng.gumbel(size=logits.shape) if temperature else 0.0
            chosen = (logits / (temperature or 1.0) + noise).argmax(-1)
            entropies[says] -= (p * np.log(np.maximum(p, 1e-300))).sum(-1)[says]
            for row in np.flatnonzero(says).tolist():
                ended[row] = chosen[row] == stop
                if not ended[row]:
                    texts[row].append(int(chosen[row]))
                over[row] = ended[row] or len(texts[row]) >= longest
                if over[row]:
                    peaks[row] = self._peak(row)
                tokens[row] = chosen[row]
        return [(bytes(text), bool(end), float(entropy / (len(text) + end)), float(peak))
                for text, end, entropy, peak in zip(texts, ended, entropies, peaks)]

    def _peak(self, row: int) -> float:
        """Of all that is carried, apart from counts; NaN if any of it is."""
        return float(np.max([np.abs(buffer_view(s)[row]).max()
                             for layer in self.state for s in layer if s.dtype.name == "float"]))
