/* The tied byte head: logits = rms_norm(x) table^T, and its cross-entropy.
 *
 * LOGITS writes logits. FORWARD writes loss = inv_count * sum of -log softmax(logits)[target] over
 * the rows with target >= 0. SOFT is FORWARD with a parent: in a row with topk_ids[0] >= 0 the
 * loss is (1 - ALPHA) of that and ALPHA T^2 of the cross-entropy between the parent's
 * probabilities and softmax(logits / T), over the bytes that topk_ids names and all others as one
 * class.
 *
 * Shapes: x (ROWS, D_MODEL), table (VOCAB, D_MODEL), logits (ROWS, VOCAB), targets (ROWS) int,
 * inv_count (1), topk_ids int and topk_probs (ROWS, TOP_K), an id < 0 being unused. Parallel over
 * row tiles; the losses of the rows are added in order, in double.
 * Saved for the backward pass: d loss / d logits, zero where target < 0; BACKWARD scales it by the
 * incoming gradient. */
#include "head.h"

#if defined(FORWARD) || defined(SOFT)
INLINE float max_logit(const float *row) {
    vec m = load(row);
    for (int j = LANES; j < VOCAB; j += LANES) {
        vec l = load(row + j);
        m = m > l ? m : l;
    }
    return max_lanes(m);
}

/* logits to d loss / d logits in place; returns the row's loss. */
INLINE float cross_entropy(float *row, int target, float inv_count) {
    vec total = 0.f;
    float highest = max_logit(row), chosen = row[target];
    for (int j = 0; j < VOCAB; j += LANES) {
        vec e = vexp(load(row + j) - highest);
        store(row + j, e);
        total += e;
    }
    float sum = sum_lanes(total), scale = inv_count / sum;
    for (int j = 0; j < VOCAB; j += LANES) store(row + j, load(row + j) * scale);
    row[target] -= inv_count;
    return highest + log1(sum) - chosen;
}
#endif

#ifdef SOFT
/* Adds scale * d loss / d(z / T) of a row to d and returns its loss, the soft cross-entropy; z are
 * the row's logits, and overwritten. */
INLINE float soft_cross_entropy(float *d, float *z, const int *ids, const float *probs,
                                float scale) {
    vec total = 0.f;
    float highest = max_logit(z), e[TOP_K], p[TOP_K], sum = 0.f, rest_p = 1.f, loss = 0.f;
    /* exponentials of the named bytes into e, of all others left in z */
    for (int j = 0; j < VOCAB; j += LANES)
        store(z + j, vexp((load(z + j) - highest) * (1.f / TEMPERATURE)));
    for (int k = 0; k < TOP_K; k++) {
        p[k] = ids[k] < 0 ? 0.f : probs[k];
        e[k] = ids[k] < 0 ? 0.f : z[ids[k]];
        sum += e[k];
        rest_p -= p[k];
    }
    for (int k = 0; k < TOP_K; k++)
        if (ids[k] >= 0) z[ids[k]] = 0.f;
    for (int j = 0; j < VOCAB; j += LANES) total += load(z + j);
    float rest = sum_lanes(total), log_sum;
    sum += rest;
    log_sum = log1(sum);
    rest_p = rest_p > 0.f ? rest_p : 0.f;
    /* gradients and loss: of all other bytes as one class, then of the named ones */
    float rest_scale = 1.f / sum - (rest > 0.f ? rest_p / rest : 0.f);
    for (int j = 0; j < VOCAB; j += LANES)
        store(d + j, load(d + j) + load(z + j) * (rest_scale * scale));
    for (int k = 0; k < TOP_K; k++) {
        if (ids[k] < 0) continue;
        d[ids[k]] += (e[k] / sum - p[k]) * scale;
        loss += p[k] * (log_sum - log1(e[k] > MIN_NORMAL ? e[k] : MIN_NORMAL));
    }
    float log_rest = log1(rest > MIN_NORMAL ? rest : MIN_NORMAL);
    return loss + (rest_p > 0.f ? rest_p * (log_sum - log_rest) : 0.f);
}

/* The loss of a row, whose logits become its d loss / d logits. */
INLINE float row_loss(const args_t *a, float *row, long r) {
    float z[VOCAB] ALIGNED;
    const int *ids = a->topk_ids + r * TOP_K;
    int has_soft = ids[0] >= 0;
    float hard = has_soft ? 1.f - ALPHA : 1.f, inv_count = *a->inv_count, loss = 0.f;
    copy(z, row, VOCAB);
    if (a->targets[r] < 0) fill_zero(row, VOCAB);
    else loss = hard * cross_entropy(row, a->targets[r], hard * inv_count);
    if (has_soft)
        loss += ALPHA * TEMPERATURE * TEMPERATURE
              * soft_cross_entropy(row, z, ids, a->topk_probs + r * TOP_K,
                                   ALPHA * TEMPERATURE * inv_count);
    return loss;
}
#endif

#ifdef FORWARD
INLINE float row_loss(const args_t *a, float *row, long r) {
    if (a->targets[r] >= 0) return cross_entropy(row, a->targets[r], *a->inv_count);
    fill_zero(row, VOCAB);
    return 0.f;
}
#endif

#if defined(FORWARD) || defined(SOFT)
INLINE float loss_scale(const args_t *a) { return *a->inv_count; }
#endif
