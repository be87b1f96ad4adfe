/* Several heads on one vector: logits = rms_norm(x) table^T, a softmax for each head's columns.
 *
 * UNITS has a row a head: its columns start .. start + width - 1, start a multiple of LANES; the
 * columns up to the next head's are padding. FORWARD writes the loss: the sum over rows and heads
 * of weights[row][head] times the cross-entropy of the head's target. That of a scalar head is
 * 1 - fraction at column `target` and fraction at the next one; that of a policy head is the row of
 * `policy` from its place on.
 *
 * Shapes: x (ROWS, D_MODEL), table (VOCAB, D_MODEL), logits (ROWS, VOCAB), weights
 * (ROWS, UNIT_COUNT), targets (ROWS, SCALARS) int, fractions (ROWS, SCALARS) and policy
 * (ROWS, POLICY). Parallel over row tiles; the losses of the rows are added in order, in double.
 * BACKWARD is head.h's. */
#include "head.h"

#ifdef FORWARD
INLINE float target_logit(const args_t *a, const float *z, const unit_t *head, long r) {
    if (head->is_scalar) {
        long i = r * SCALARS + head->place;
        int at = a->targets[i];
        return (1.f - a->fractions[i]) * z[at] + a->fractions[i] * z[at + 1];
    }
    float sum = 0.f;
    for (int j = 0; j < head->width; j++) sum += a->policy[r * POLICY + head->place + j] * z[j];
    return sum;
}

INLINE void subtract_target(const args_t *a, float *z, const unit_t *head, long r, float weight) {
    if (head->is_scalar) {
        long i = r * SCALARS + head->place;
        int at = a->targets[i];
        z[at] -= weight * (1.f - a->fractions[i]);
        z[at + 1] -= weight * a->fractions[i];
        return;
    }
    for (int j = 0; j < head->width; j++)
        z[j] -= weight * a->policy[r * POLICY + head->place + j];
}

/* The loss of a head in a row, whose logits z become its d loss / d logits. */
INLINE float head_loss(const args_t *a, float *z, const unit_t *head, long r, float weight) {
    int padded = ROUND_UP(head->width, LANES);
    if (weight == 0.f) {
        fill_zero(z, padded);
        return 0.f;
    }
    float chosen = target_logit(a, z, head, r), highest = z[0], sum = 0.f;
    for (int j = 1; j < head->width; j++) highest = MAX(highest, z[j]);
    for (int j = 0; j < padded; j += LANES) store(z + j, vexp(load(z + j) - highest));
    for (int j = 0; j < head->width; j++) sum += z[j];
    for (int j = 0; j < padded; j++) z[j] = j < head->width ? z[j] * (weight / sum) : 0.f;
    subtract_target(a, z, head, r, weight);
    return weight * (highest + log1(sum) - chosen);
}

INLINE float row_loss(const args_t *a, float *row, long r) {
    float loss = 0.f;
    for (int h = 0; h < UNIT_COUNT; h++)
        loss += head_loss(a, row + UNITS[h].start, &UNITS[h], r, a->weights[r * UNIT_COUNT + h]);
    return loss;
}

INLINE float loss_scale(const args_t *a) {
    (void)a;
    return 1.f;
}
#endif
