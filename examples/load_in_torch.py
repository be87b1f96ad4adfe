"""An unpacked brain in PyTorch, one byte after the other: load_in_torch.py FOLDER PROMPT"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn.functional import rms_norm, silu


def turned(x, angle, dim):   # the first and the second half of x along `dim` make pairs
    low, high, cos, sin = *torch.chunk(x, 2, dim), torch.cos(angle), torch.sin(angle)
    return torch.concatenate([low * cos - high * sin, high * cos + low * sin], dim)


class Brain:
    def __init__(self, folder):
        self.c = json.loads((Path(folder) / "config.json").read_text())
        self.w, self.states = load_file(Path(folder) / "model.safetensors"), {}

    def step(self, byte):   # logits (vocab_size,)
        x, w, eps = self.w["embedding"][byte], self.w, self.c["stream_eps"]
        for i, kind in enumerate(self.c["layer_kinds"]):
            mix_fn, k = self.ssm if kind == "S" else self.attention, f"layers.{i}."
            y = mix_fn(k + "mixer.", rms_norm(x, x.shape, w[k + "mixer.norm"], eps))
            x = x + w[k + "mixer.out_proj"] @ y.reshape(-1)
            y = w[k + "mlp.in_proj"] @ rms_norm(x, x.shape, w[k + "mlp.norm"], eps)
            x = x + w[k + "mlp.out_proj"] @ (silu(y[:len(y) // 2]) * y[len(y) // 2:])
        return w["embedding"] @ rms_norm(x, x.shape, w["norm_f"], eps)

    def ssm(self, key, x):
        c, h, n, p = self.c, self.c["ssm_heads"], self.c["d_state"], self.c["head_dim"]
        y, taps = self.w[key + "in_proj"] @ x, self.w[key + "conv1d"]
        heads, b, dt, r = torch.split(y, [2 * h * (n + p), h, h, len(y) - 2 * h * (n + p + 1)])
        heads, dt = heads.reshape(h, -1), dt + self.w[key + "dt_bias"]
        past, s = self.states.get(key, (0 * taps[1:], torch.zeros((h, n, p))))
        window = torch.concatenate([past, heads[None, :, :-p]])
        mixed = silu((window * taps).sum(0))
        qk, v = mixed[:, :2 * n].reshape(h, 2, n), mixed[:, 2 * n:]
        qk = qk / torch.sqrt((qk * qk).sum(-1)[..., None] + c["l2_eps"])
        if steps := c["rotary_steps"]:   # the state turns by whole parts of a turn
            b, r = b + self.w[key + "beta_bias"], r.reshape(h, -1, 1) * c["turn_scale"]
            s = turned(s, torch.round(r * steps) * (2 * torch.pi / steps), 1)
        beta = torch.clip(c["stretch"] * torch.sigmoid(b) - (c["stretch"] - 1) / 2, 0, 1)
        rate = torch.exp(self.w[key + "A_log"]) * torch.log1p(torch.exp(dt))
        s = torch.exp(-rate)[:, None, None] * s
        v = v - torch.einsum("hnp,hn->hp", s, qk[:, 1]) * (c["transition"] == "delta")
        s = s + c["beta_max"] * beta[:, None, None] * qk[:, 1, :, None] * v[:, None]
        self.states[key], y = (window[1:], s), torch.einsum("hnp,hn->hp", s, qk[:, 0])
        return rms_norm(y, (p,), self.w[key + "out_norm"], c["norm_eps"]) * silu(heads[:, -p:])

    def attention(self, key, x):
        p, half, qkv = self.c["head_dim"], self.c["head_dim"] // 2, self.w[key + "qkv_proj"] @ x
        q, new = qkv.reshape(3, -1, p)[0], qkv.reshape(1, 3, -1, p)[:, 1:]
        kv = torch.concatenate([self.states.get(key, new[:0]), new])[-self.c["sliding_window"]:]
        self.states[key], distance = kv, torch.arange(len(kv) - 1, -1, -1)[:, None, None]
        angle = distance * self.c["rope_theta"] ** (-torch.arange(half) / half)
        scores = (turned(q[None], angle, -1) * kv[:, 0]).sum(-1) / p ** 0.5   # (slots, heads)
        return (torch.softmax(scores, 0)[..., None] * kv[:, 1]).sum(0)


if __name__ == "__main__":
    brain = Brain(sys.argv[1])
    logits = [brain.step(byte) for byte in sys.argv[2].encode()][-1]
    while (byte := int(logits.argmax())) < brain.c["end"]:
        sys.stdout.buffer.write(bytes([byte]))
        logits = brain.step(byte)
