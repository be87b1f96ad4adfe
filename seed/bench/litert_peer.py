"""The peer of the exporter: the same brain as a PyTorch module, converted by litert-torch.

    pip install litert-torch     # an environment of its own: several GB
    python -m seed.bench.litert_peer --checkpoint checkpoint.safetensors --out peer.tflite

One step with states in and out, written as one writes it in PyTorch. `--int8` quantises the weights
with the converter's own dynamic-range recipe.
"""
import math
import tempfile
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

from seed.bench.command_line import make_parser
from seed.bench.torch_delta import l2_normalize, rotate
from seed.config import TURN_SCALE, ModelConfig
from seed.evaluation import TrainedBrain
from seed.export.graph import MASKED
from seed.export.reference import Reference
from seed.export.verify import MAX_RELATIVE_DELTA, Agreement
from seed.storage.checkpoint import read
from seed.wavecore.layout import state_pairs


class Step(torch.nn.Module):
    """token (1,) int32 and states to logits (1, v) and states."""

    def __init__(self, config: ModelConfig, params: dict):
        super().__init__()
        self.config = config
        for key, array in params.items():
            self.register_buffer(key.replace(".", "_"), torch.from_numpy(array.copy()))
        slots, half = config.sliding_window, config.head_dim // 2
        angle = torch.arange(slots)[:, None] * config.rope_theta ** (-torch.arange(half) / half)
        self.register_buffer("cos", torch.cos(angle))      # (slots, p/2)
        self.register_buffer("sin", torch.sin(angle))

    def get(self, i: int, name: str) -> torch.Tensor:
        return self.get_buffer(f"layers_{i}_{name.replace('.', '_')}")

    def norm(self, x: torch.Tensor, gain: torch.Tensor, eps: float = 0.0) -> torch.Tensor:
        eps = eps or self.config.stream_eps
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain

    def forward(self, token: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        table, gain = self.get_buffer("embedding"), self.get_buffer("norm_f")
        *rest, mask = states
        states_in = iter(rest)
        x, states_out, mask = F.embedding(token, table), [], torch.cat([mask, torch.zeros(1)])
        for i, kind in enumerate(self.config.layer_kinds):
            mixer = self.ssm if kind == "S" else self.attention
            u = self.norm(x, self.get(i, "mixer.norm"))
            n_states = 3 if kind == "S" and self.config.rotary_steps else 2
            y, *changed = mixer(i, u, mask, *islice(states_in, n_states))
            states_out += changed
            x = x + y
            hidden = F.linear(self.norm(x, self.get(i, "mlp.norm")), self.get(i, "mlp.in_proj"))
            gate, up = hidden.chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, self.get(i, "mlp.out_proj"))
        return F.linear(self.norm(x, gain), table), *states_out, mask[1:]

    def ssm(self, i, x, mask, conv, state, phase=None):
        c = self.config
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        proj = F.linear(x, self.get(i, "mixer.in_proj"))[0]
        heads, beta, dt, r = proj.split([h * (2 * n + 2 * p), h, h, h * state_pairs(c)])
        heads = heads.view(h, 2 * n + 2 * p)
        window = torch.cat([conv, heads[None, :, :2 * n + p]])             # (d_conv, h, 2n+p)
        mixed = F.silu((window * self.get(i, "mixer.conv1d")).sum(0))
        q, k, v = mixed.split([n, n, p], -1)
        q, k = l2_normalize(q), l2_normalize(k)
        carried = []
        if phase is not None:
            beta = beta + self.get(i, "mixer.beta_bias")
            phase = phase + torch.round(r.view(h, -1) * (TURN_SCALE * c.rotary_steps))
            phase = phase - c.rotary_steps * torch.round(phase / c.rotary_steps)
            angle, carried = phase * (2 * math.pi / c.rotary_steps), [phase]
            q, k = (rotate(z, angle.cos(), -angle.sin()) for z in (q, k))
        decay = torch.exp(-F.softplus(dt + self.get(i, "mixer.dt_bias"))
                          * torch.exp(self.get(i, "mixer.A_log")))[:, None, None]
        beta = (c.beta_max * (1.1 * torch.sigmoid(beta) - 0.05).clamp(0, 1))[:, None]
        state = state * decay                                              # (h, n, p)
        if c.transition == "delta":
            v = v - torch.bmm(k[:, None], state)[:, 0]
        state = state + k[:, :, None] * (beta * v)[:, None]
        y = torch.bmm(q[:, None], state)[:, 0]
        y = self.norm(y, self.get(i, "mixer.out_norm"), c.norm_eps) * F.silu(heads[:, 2 * n + p:])
        y = F.linear(y.reshape(1, h * p), self.get(i, "mixer.out_proj"))
        return y, window[1:], state, *carried

    def attention(self, i, x, mask, keys, values):
        c = self.config
        h, p, slots = c.attn_heads, c.head_dim, c.sliding_window
        q, k, v = F.linear(x, self.get(i, "mixer.qkv_proj")).view(3, h, 1, p)
        keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)  # (h, slots, p)
        q = rotate(q, self.cos[slots - 1:], self.sin[slots - 1:])
        rotated_keys = rotate(keys, self.cos, self.sin)
        scores = torch.bmm(q, rotated_keys.transpose(1, 2)) * p ** -0.5 + mask   # (h, 1, slots)
        y = torch.bmm(torch.softmax(scores, -1), values).reshape(1, h * p)
        return F.linear(y, self.get(i, "mixer.out_proj")), keys[:, 1:], values[:, 1:]


def initial_states(config: ModelConfig) -> list[torch.Tensor]:
    """The states before the first byte: those of each layer, then the mask of the window."""
    c, states = config, []
    for kind in c.layer_kinds:
        if kind == "S":
            states += [torch.zeros(c.d_conv - 1, c.ssm_heads, 2 * c.d_state + c.head_dim),
                       torch.zeros(c.ssm_heads, c.d_state, c.head_dim)]
            states += [torch.zeros(c.ssm_heads, state_pairs(c))] if c.rotary_steps else []
        else:
            states += [torch.zeros(c.attn_heads, c.sliding_window - 1, c.head_dim)] * 2
    return [*states, torch.full((c.sliding_window - 1,), MASKED)]


def check(step: Step, brain: TrainedBrain, steps: int = 50) -> None:
    """Raises ValueError unless the peer computes what the reference does."""
    config, agreement = brain.profile.model, Agreement()
    states, reference = initial_states(config), Reference(config, brain.params)
    for byte in range(steps):
        logits, *states = step(torch.tensor([byte], dtype=torch.int32), *states)
        agreement.add(logits[0].detach().numpy(), reference.step(byte))
    if not agreement.relative_delta < MAX_RELATIVE_DELTA["float32"]:
        raise ValueError(f"the peer's logits differ from the reference's by "
                         f"{agreement.relative_delta:.1e} of their range")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()
    import litert_torch
    brain = TrainedBrain.of(read(args.checkpoint))
    config = brain.profile.model
    step = Step(config, brain.params).eval()
    check(step, brain)
    sample = (torch.zeros(1, dtype=torch.int32), *initial_states(config))
    converted = litert_torch.convert(step, sample)
    if not args.int8:
        converted.export(str(args.out))
        return
    from ai_edge_quantizer import quantizer, recipe
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float32.tflite"
        converted.export(str(whole))
        small = quantizer.Quantizer(str(whole))
        small.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        small.quantize().export_model(str(args.out), overwrite=True)


if __name__ == "__main__":
    main()
