"""Prefill and generation equal forward passes; rollouts equal answers one at a time."""
import numpy as np
import pytest
from tinygrad import Tensor

from seed.config import ModelConfig
from seed.rng import Stream, stream
from seed.wavecore.decode import PREFILL_BYTES, Decoder, Rollouts
from seed.wavecore.model import WaveCore, init_params

SMALL = ModelConfig(d_model=32, d_ff=48, n_layers=2, pattern="SA", sliding_window=4)


@pytest.fixture(scope="module")
def model() -> WaveCore:
    params = init_params(SMALL, 3)
    params["embedding"] *= 20   # so that logits differ
    return WaveCore(SMALL, params)


def test_prefill_of_any_length_gives_the_logits_of_one_forward_pass(model):
    prompt = np.random.default_rng(0).integers(0, 256, PREFILL_BYTES + 3).astype(np.uint8)
    whole = model(Tensor(prompt.astype(np.int32)[None]))[0].numpy()[0]
    decoder = Decoder(model)
    for length in (1, PREFILL_BYTES - 1, PREFILL_BYTES, PREFILL_BYTES + 3):
        decoder.reset()
        logits = decoder.prefill(prompt[:length].tobytes())
        assert np.abs(logits - whole[length - 1]).max() < 1e-5 * np.abs(whole).max()


def test_a_reset_decoder_repeats_itself_and_an_empty_prompt_is_refused(model):
    decoder = Decoder(model)
    first = bytes(decoder.generate(b"ab", 5, 256, temperature=1.0, seed=1))
    assert decoder.state_rms() > 0
    decoder.reset()
    assert decoder.state_rms() == 0
    assert bytes(decoder.generate(b"ab", 5, 256, temperature=1.0, seed=1)) == first
    decoder.reset()
    first_bytes = [(byte, nats < 0) for byte, nats in decoder.drawn(b"ab", 5, 256, 1.0, 1)]
    assert first_bytes == [(byte, True) for byte in first]
    with pytest.raises(ValueError, match="prompt is empty"):
        decoder.prefill(b"")


def test_many_answers_at_once_equal_one_at_a_time(model):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 250, n).astype(np.uint8).tobytes() for n in (1, 7, 40, 3, 12)]
    alone = Decoder(model)

    def generated(prompt: bytes, stop: int) -> bytes:
        alone.reset()
        return bytes(alone.generate(prompt, 9, stop))
    stop = generated(prompts[2], 256)[0]   # so that it ends at least one answer
    rollouts = Rollouts(model, 64)
    for _ in range(2):   # from a fresh state each time
        answers = rollouts.answer(prompts, 9, stop, 0.0, rng)
        assert [answer.text for answer in answers] == [generated(p, stop) for p in prompts]
        assert [answer.ended for answer in answers] == [len(a.text) < 9 for a in answers]
    assert (answers[2].text, answers[2].ended) == (b"", True)
    for prompt, answer in zip(prompts, answers):
        alone.reset()   # the last byte of an answer that has not ended was not read
        alone.prefill(prompt + answer.text[:len(answer.text) if answer.ended else -1])
        assert answer.peak == pytest.approx(
            max(np.abs(s.numpy()).max() for layer in alone.state for s in layer
                if s.dtype.name == "float"), rel=1e-5)
        assert answer.confidence == pytest.approx(confidence_of(model, prompt, answer, stop))


def confidence_of(model, prompt: bytes, answer, stop: int) -> float:
    """The product of the probabilities in one forward pass, with that of an end."""
    text = answer.text + bytes([stop]) * answer.ended
    tokens = np.frombuffer(prompt + text, np.uint8).astype(np.int32)
    logits = model(Tensor(tokens[None, :-1]))[0].numpy()[0, len(prompt) - 1:].astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return p[np.arange(len(text)), list(text)].prod()


def test_sampled_answers_follow_the_temperature_and_the_stream():
    model = WaveCore(SMALL, init_params(SMALL, 3))
    rollouts = Rollouts(model, 64)

    def first_bytes(temperature: float, index: int) -> list[bytes]:
        answers = rollouts.answer([b"a"] * 64, 1, 256, temperature,
                                  stream(0, Stream.ROLLOUT, index))
        return [answer.text for answer in answers]
    assert first_bytes(1.0, 1) == first_bytes(1.0, 1) != first_bytes(1.0, 2)
    assert len(set(first_bytes(1.0, 1))) > 30 and len(set(first_bytes(1e-3, 1))) == 1
