"""Answers to many prompts at once: each as if it were alone, drawn by temperature and stream."""
import numpy as np
import pytest

from seed.config import ModelConfig
from seed.rng import Stream, stream
from seed.wavecore.decode import Decoder, Rollouts
from seed.wavecore.model import WaveCore, init_params


def test_many_answers_at_once_equal_one_at_a_time():
    config = ModelConfig(d_model=32, d_ff=32, n_layers=3)
    params = init_params(config, 3)
    params["embedding"] *= 20
    model = WaveCore(config, params)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 250, n).astype(np.uint8).tobytes() for n in (1, 7, 40, 3, 12)]
    stop = next(Decoder(model).generate(prompts[2], 9, 256))  # so that it ends at least one answer
    rollouts = Rollouts(model, 8)
    for _ in range(2):   # from a fresh state each time
        answers = rollouts.answer(prompts, 9, stop, 0.0, rng)
        assert [text for text, *_ in answers] == [
            bytes(Decoder(model).generate(p, 9, stop)) for p in prompts]
        assert [ended for _, ended, *_ in answers] == [len(text) < 9 for text, *_ in answers]
    assert answers[2][:2] == (b"", True)
    for prompt, (text, ended, _, peak) in zip(prompts, answers):
        alone = Decoder(model)
        alone.prefill(prompt + text[:len(text) if ended else -1])   # the last byte was not read
        assert peak == pytest.approx(max(np.abs(s.numpy()).max() for layer in alone.state
                                         for s in layer if s.dtype.name == "float"), rel=1e-5)


def test_sampled_answers_follow_the_temperature_and_the_stream():
    config = ModelConfig(d_model=32, d_ff=32, n_layers=1, pattern="S")
    model = WaveCore(config, init_params(config, 3))
    rollouts = Rollouts(model, 64)

    def first_bytes(temperature: float, index: int) -> list[bytes]:
        answers = rollouts.answer([b"a"] * 64, 1, 256, temperature,
                                  stream(0, Stream.ROLLOUT, index))
        return [text for text, *_ in answers]
    assert first_bytes(1.0, 1) == first_bytes(1.0, 1) != first_bytes(1.0, 2)
    assert len(set(first_bytes(1.0, 1))) > 30 and len(set(first_bytes(1e-3, 1))) == 1
