"""The multiply-adds that the phases of a step's kernels have to do."""
from typing import NamedTuple

from seed.config import ModelConfig, Profile
from seed.wavecore.fast_optim import NS_STEPS
from seed.wavecore.layout import blocks, proj_columns, round_up, state_pairs


class Phase(NamedTuple):
    """Between two barriers of a kernel."""
    name: str
    multiply_adds: int = 0   # of a launch, in products and recurrences; 0: it has none of them


REST = "pack and add up"   # of every kernel


def phases_of(profile: Profile) -> dict[str, tuple[Phase, ...]]:
    """The phases of each kernel, in order, by the first two words of its name."""
    model, rows = profile.model, profile.train.batch_size * profile.train.seq_len
    return {**_ssm(model, rows), **_attention(model, rows), **_mlp(model, rows),
            **_head(model, rows), **_optimizer(model),
            "embedding forward": (Phase("embedding"),),
            "embedding backward": (Phase("embedding"),)}


def _ssm(model: ModelConfig, rows: int) -> dict[str, tuple[Phase, ...]]:
    """A vector operation that is no multiply-add takes the place of one: decay * S is."""
    d, e, state = model.d_model, model.d_inner, model.d_state * model.head_dim
    heads, width = rows * model.ssm_heads, round_up(proj_columns(model))
    convolution = model.d_conv * (2 * model.d_state + model.head_dim)
    turns = 8 * state_pairs(model)   # of q and k, or of their gradients, which are summed too
    forward = 4 * state + convolution + turns
    backward = 7 * state + 2 * convolution + turns + turns // 2
    return {
        "ssm forward": (Phase(REST), Phase("SSM: project in", rows * d * width),
                        Phase("SSM: scan", heads * forward),
                        Phase("SSM: project out", rows * d * e)),
        "ssm backward": (Phase(REST), Phase("SSM: d project out", rows * d * e),
                         Phase("SSM: d scan", heads * (forward + backward)),
                         Phase("SSM: d projections", rows * d * (2 * width + e)), Phase(REST))}


def _attention(model: ModelConfig, rows: int) -> dict[str, tuple[Phase, ...]]:
    d, scores = model.d_model, rows * model.d_model * model.sliding_window
    return {
        "attention forward": (Phase(REST), Phase("attention: project in", rows * d * 3 * d),
                              Phase("attention: window", 2 * scores),
                              Phase("attention: project out", rows * d * d)),
        "attention backward": (Phase(REST), Phase("attention: d project out", rows * d * d),
                               Phase("attention: d window", 5 * scores),
                               Phase("attention: d projections", rows * d * 7 * d), Phase(REST))}


def _mlp(model: ModelConfig, rows: int) -> dict[str, tuple[Phase, ...]]:
    hidden = rows * model.d_model * 2 * model.d_ff
    work = hidden + rows * model.d_model * model.d_ff
    return {"mlp forward": (Phase(REST), Phase("MLP", work)),
            "mlp backward": (Phase(REST), Phase("d MLP", 2 * work), Phase(REST)),
            "mlp again": (Phase(REST), Phase(REST), Phase("d MLP", hidden + 2 * work), Phase(REST))}


def _head(model: ModelConfig, rows: int) -> dict[str, tuple[Phase, ...]]:
    work = rows * model.d_model * model.vocab_size
    return {"head forward": (Phase(REST), Phase("head and loss", work), Phase(REST)),
            "head backward": (Phase(REST), Phase("d head", 2 * work), Phase(REST))}


def _optimizer(model: ModelConfig) -> dict[str, tuple[Phase, ...]]:
    work = 0
    for array in [array for block in blocks(model) for array in block.arrays]:
        for n in array.matrices:
            shorter, longer = sorted((round_up(n), array.shape[-1]))
            work += NS_STEPS * (2 * shorter * shorter * longer + shorter ** 3)
    return {"muon orthogonalize": (Phase("Muon", work),),
            **{f"adamw {name}": (Phase("AdamW"),) for name in ("norm", "decide", "apply")}}
