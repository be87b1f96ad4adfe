"""Reference implementation of the loss: cross-entropy, and distillation from soft targets."""
from typing import NamedTuple

from seed.wavecore.tinygrad_seam import Tensor

MIN_NORMAL = 1.17549435e-38   # the least normal float32


class SoftTargets(NamedTuple):
    """A parent's distribution over each next byte: its k likeliest, all others as one.

    Where topk_ids[..., 0] < 0 there is none. `temperature` T divides the logits of parent and
    child; the loss is (1 - alpha) of the hard one and alpha T^2 of the soft one, so that
    gradients keep their size at every T (Hinton et al. 1503.02531, section 2.1).
    """
    topk_ids: Tensor     # (b, t, k) int32, distinct; < 0 is unused
    topk_probs: Tensor   # (b, t, k), softmax(parent's logits / T) there
    temperature: float
    alpha: float


def cross_entropy(logits: Tensor, targets: Tensor, inv_count: Tensor,
                  soft: SoftTargets | None = None) -> Tensor:
    """inv_count * sum of -log softmax(logits)[target] where target >= 0; scalar, nats.

    logits (b, t, v), targets (b, t) int32, inv_count (1,). Where `soft` has a distribution, the
    mixture that it describes takes the place of the hard loss.
    """
    bytes_ = Tensor.arange(logits.shape[-1])
    is_target = bytes_ == targets[..., None]                            # (b, t, v); none if < 0
    hard = -(logits.log_softmax(-1) * is_target).sum(-1)                # (b, t)
    if soft is None:
        return hard.sum() * inv_count.reshape(())
    has_soft = soft.topk_ids[..., :1].squeeze(-1) >= 0                  # (b, t)
    in_topk = bytes_ == soft.topk_ids[..., None]                        # (b, t, k, v)
    probs = (in_topk * soft.topk_probs[..., None]).sum(-2)              # (b, t, v)
    rest = (1 - probs.sum(-1)).maximum(0)                               # (b, t)
    log_p = (logits / soft.temperature).log_softmax(-1)
    log_rest = (log_p.exp() * in_topk.any(-2).logical_not()).sum(-1).maximum(MIN_NORMAL).log()
    cross = -(probs * log_p).sum(-1) - rest * log_rest
    mixed = hard * (1 - soft.alpha) + cross * (soft.alpha * soft.temperature ** 2)
    return has_soft.where(mixed, hard).sum() * inv_count.reshape(())
