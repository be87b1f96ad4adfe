"""Reference implementation of what a brain with a body has beside bytes: one control step, a tick,
is one vector in, and several softmaxes on one vector out."""
from typing import NamedTuple

from seed.wavecore.layout import HeadTable
from seed.wavecore.tinygrad_seam import Tensor


class TickTargets(NamedTuple):
    """Of a HeadTable, for n = b*t rows."""
    weights: Tensor     # (n, heads): of each head's cross-entropy in the loss; 0: no target
    targets: Tensor     # (n, scalars) int32, 0 .. width-2
    fractions: Tensor   # (n, scalars): of the column behind the target, 0..1
    policy: Tensor      # (n, policy_width): distributions


def tick_embedding(tokens: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """The weighted sum of rows of the table (v, d); tokens (n, slots) int32, weights (n, slots)."""
    return (table[tokens] * weights[..., None]).sum(1)


def tick_loss(heads: HeadTable, logits: Tensor, target: TickTargets) -> Tensor:
    """The weighted sum of the heads' cross-entropies over all rows; logits (n, rows of table)."""
    total = Tensor(0.0)
    for i, head in enumerate(heads.heads):
        log_p = logits[:, head.start:head.start + head.width].log_softmax(-1)   # (n, width)
        if head.is_scalar:
            columns = Tensor.arange(head.width)
            at, share = target.targets[:, head.place, None], target.fractions[:, head.place, None]
            q = (columns == at) * (1 - share) + (columns == at + 1) * share
        else:
            q = target.policy[:, head.place:head.place + head.width]
        total = total - ((q * log_p).sum(-1) * target.weights[:, i]).sum()
    return total
