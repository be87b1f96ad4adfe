"""A peer for `bench`: the model of model.py in tinygrad's own operations, with the gated delta rule
in chunks as in mlx_delta.py. Byte by byte it would be a kernel or more for each byte, which takes
hours to compile; `contiguous` keeps tinygrad from making one kernel of what each part needs.
"""
from seed.wavecore.tinygrad_seam import Tensor

CHUNK = 32   # a power of two; t is a multiple


def inverse(A: Tensor) -> Tensor:
    """(I + A)^-1 for strictly lower A (..., CHUNK, CHUNK), which is a product of I + (-A)^(2^i)."""
    power, result = -A, Tensor.eye(CHUNK) - A
    for _ in range(CHUNK.bit_length() - 2):
        power = (power @ power).contiguous()
        result = (result + result @ power).contiguous()
    return result


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, state: Tensor,
                     transition: str = "delta") -> tuple[Tensor, Tensor]:
    """As that of model.py."""
    b, t, h, n = (int(size) for size in q.shape)
    p, chunks = int(v.shape[-1]), t // CHUNK

    def chunked(x: Tensor) -> Tensor:
        return x.reshape(b, chunks, CHUNK, h, -1).permute(0, 3, 1, 2, 4)
    q, k, v, beta = chunked(q), chunked(k), chunked(v), chunked(beta[..., None])
    g = chunked(decay.log()[..., None]).squeeze(-1).cumsum(-1)          # (b, h, chunks, CHUNK)
    lower = Tensor.ones(CHUNK, CHUNK).tril() > 0
    spread = (g[..., :, None] - g[..., None, :]).masked_fill(lower.logical_not(), -1e30).exp()
    writes, reads = v * beta, k * beta * g.exp()[..., None]
    keys = k.transpose(-1, -2)
    if transition == "delta":
        solve = inverse(((k * beta) @ keys * spread).tril(-1))
        writes, reads = (solve @ writes).contiguous(), (solve @ reads).contiguous()
    scores = (q @ keys * spread).contiguous()
    q_in, k_out = q * g.exp()[..., None], k * (g[..., -1:] - g).exp()[..., None]
    keep, ys = g[..., -1].exp(), []
    for i in range(chunks):
        u = writes[:, :, i]
        if transition == "delta":
            u = (u - reads[:, :, i] @ state).contiguous()
        ys.append(q_in[:, :, i] @ state + scores[:, :, i] @ u)
        update = k_out[:, :, i].transpose(-1, -2) @ u
        state = (state * keep[:, :, i, None, None] + update).contiguous()
    return Tensor.stack(*ys, dim=2).permute(0, 2, 3, 1, 4).reshape(b, t, h, p), state
