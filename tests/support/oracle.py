"""The blocks once more, in float64 numpy with derivatives by the autograd library: an oracle that
shares no code with the product. Equations: the headers of seed/wavecore/csrc/*.c."""
import autograd.numpy as np
import numpy
from autograd.extend import defvjp, primitive


def rms_norm(x, gain, eps):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * gain


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@primitive
def cut(x):
    return numpy.clip(x, 0, 1)


defvjp(cut, lambda answer, x: lambda gradient: gradient)   # straight through


@primitive
def whole(x):
    return numpy.round(x)


defvjp(whole, lambda answer, x: lambda gradient: gradient)   # straight through


def rectified_sigmoid(x):
    return cut(0.5 + 1.1 * (sigmoid(x) - 0.5))


def silu(x):
    return x * sigmoid(x)


def turns(config, x, w):
    """Of the state's pairs of rows (b, t, h, n/2), in parts, not yet whole."""
    proj = np.dot(rms_norm(x, w["norm"], config.stream_eps), w["in_proj"].T)
    h, pairs = config.ssm_heads, config.d_state // 2
    return np.reshape(proj[..., -h * pairs:], (*x.shape[:2], h, pairs)) / 16 * config.rotary_steps


def turned_back(config, z, phase):
    """Each half of z (b, t, h, n) is a part of complex numbers."""
    half = config.d_state // 2
    angle = np.exp(-2j * np.pi * phase / config.rotary_steps)
    c = (z[..., :half] + 1j * z[..., half:]) * angle
    return np.concatenate([np.real(c), np.imag(c)], -1)


def ssm(config, x, w, conv_in, ssm_in, phase_in=None):
    b, t, _ = x.shape
    h, n, p, k = config.ssm_heads, config.d_state, config.head_dim, config.d_conv
    proj = np.dot(rms_norm(x, w["norm"], config.stream_eps), w["in_proj"].T)
    split = h * 2 * (n + p)
    qkvz = np.reshape(proj[..., :split], (b, t, h, 2 * (n + p)))
    beta = config.beta_max * rectified_sigmoid(proj[..., split:split + h] + w.get("beta_bias", 0))
    dt = proj[..., split + h:split + 2 * h] + w["dt_bias"]
    decay = np.exp(-np.log1p(np.exp(dt)) * np.exp(w["A_log"]))
    raw = np.concatenate([conv_in, qkvz[..., :2 * n + p]], 1)
    qkv = silu(sum(raw[:, i:i + t] * w["conv1d"][i] for i in range(k)))
    q, key = (z / np.sqrt(np.sum(z * z, -1, keepdims=True) + 1e-6)
              for z in (qkv[..., :n], qkv[..., n:2 * n]))
    carried = ()
    if phase_in is not None:
        phase = phase_in[:, None] + np.cumsum(whole(turns(config, x, w)), 1)
        q, key = turned_back(config, q, phase), turned_back(config, key, phase)
        carried = (phase[:, -1] % config.rotary_steps,)
    v, S, ys = qkv[..., 2 * n:], ssm_in, []
    for i in range(t):
        a, kt = decay[:, i, :, None], key[:, i]
        old = np.einsum("bhnp,bhn->bhp", S, kt) if config.transition == "delta" else 0.0
        u = beta[:, i, :, None] * (v[:, i] - a * old)
        S = a[..., None] * S + kt[..., None] * u[:, :, None]
        ys.append(np.einsum("bhnp,bhn->bhp", S, q[:, i]))
    out = rms_norm(np.stack(ys, 1), w["out_norm"], config.norm_eps) * silu(qkvz[..., 2 * n + p:])
    return x + np.dot(np.reshape(out, (b, t, h * p)), w["out_proj"].T), raw[:, t:], S, *carried


def attention(config, x, w, k_in, v_in, length):
    b, t, d = x.shape
    h, p, window = config.attn_heads, config.head_dim, config.sliding_window
    past = window - 1
    qkv = np.dot(rms_norm(x, w["norm"], config.stream_eps), w["qkv_proj"].T)
    k = np.concatenate([k_in, qkv[..., d:2 * d]], 1)
    v = np.concatenate([v_in, qkv[..., 2 * d:]], 1)
    angle = np.arange(past + t)[:, None] * config.rope_theta ** (-np.arange(p // 2) / (p // 2))
    turn = np.exp(1j * angle)[:, None]  # a half of a head is the real part, the other the imaginary

    def rotate(z, turn):
        z = np.reshape(z, (b, -1, h, 2, p // 2))
        c = (z[..., 0, :] + 1j * z[..., 1, :]) * turn
        return np.concatenate([np.real(c), np.imag(c)], -1)

    scores = np.einsum("bihp,bjhp->bhij", rotate(qkv[..., :d], turn[past:]), rotate(k, turn))
    i, j = past + np.arange(t)[:, None], np.arange(past + t)
    seen = ((j <= i) & (j > i - window))[None] & (j >= past - length[:, None])[:, None]
    scores = np.where(seen[:, None], scores / np.sqrt(p), -1e30)
    e = np.exp(scores - np.max(scores, -1, keepdims=True))
    prob = e / np.sum(e, -1, keepdims=True)
    out = np.einsum("bhij,bjhp->bihp", prob, np.reshape(v, (b, -1, h, p)))
    return (x + np.dot(np.reshape(out, (b, t, d)), w["out_proj"].T), k[:, t:], v[:, t:],
            np.minimum(length + t, past))


def mlp(config, x, w):
    hidden = np.dot(rms_norm(x, w["norm"], config.stream_eps), w["in_proj"].T)
    gate, up = hidden[..., :config.d_ff], hidden[..., config.d_ff:]
    return x + np.dot(silu(gate) * up, w["out_proj"].T)


def loss(config, params, tokens, targets):
    """Mean cross-entropy of the whole model from a fresh state, over targets >= 0."""
    b, past = tokens.shape[0], config.sliding_window - 1
    x = params["embedding"][tokens]
    for i, kind in enumerate(config.layer_kinds):
        mixer, second = ({key.removeprefix(f"layers.{i}.{part}."): a for key, a in params.items()
                          if key.startswith(f"layers.{i}.{part}.")} for part in ("mixer", "mlp"))
        if kind == "S":
            h, n, channels = config.ssm_heads, config.d_state, 2 * config.d_state + config.head_dim
            phase = [np.zeros((b, h, n // 2))] if config.rotary_steps else []
            x = ssm(config, x, mixer, np.zeros((b, config.d_conv - 1, h, channels)),
                    np.zeros((b, h, n, config.head_dim)), *phase)[0]
        else:
            empty = np.zeros((b, past, config.d_model))
            x = attention(config, x, mixer, empty, empty, np.zeros(b, int))[0]
        x = mlp(config, x, second)
    logits = np.dot(rms_norm(x, params["norm_f"], config.stream_eps), params["embedding"].T)
    top = np.max(logits, -1, keepdims=True)
    log_prob = logits - top - np.log(np.sum(np.exp(logits - top), -1, keepdims=True))
    rows, columns = np.nonzero(targets >= 0)
    return -np.mean(log_prob[rows, columns, targets[rows, columns]])


def tick_embedding(tokens, weights, table):
    return np.sum(table[tokens] * weights[..., None], 1)


def tick_loss(config, heads, x, gain, table, weights, targets, fractions, policy):
    logits, loss = np.dot(rms_norm(x, gain, config.stream_eps), table.T), 0.0
    for i, head in enumerate(heads):
        z = logits[:, head.start:head.start + head.width]
        log_p = z - np.log(np.sum(np.exp(z), 1, keepdims=True))
        if head.is_scalar:
            at, share = targets[:, head.place], fractions[:, head.place, None]
            one_hot = numpy.eye(head.width)
            q = one_hot[at] * (1 - share) + one_hot[at + 1] * share
        else:
            q = policy[:, head.place:head.place + head.width]
        loss = loss - np.sum(weights[:, i] * np.sum(q * log_p, 1))
    return loss
