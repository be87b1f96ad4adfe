/* AdamW (Loshchilov & Hutter 1711.05101) with global-norm clipping, in three kernels:
 *     m = BETA1 m + (1 - BETA1) g        v = BETA2 v + (1 - BETA2) g^2
 *     p = p (1 - lr WEIGHT_DECAY) - lr (m / (1 - BETA1^t)) / (sqrt(v / (1 - BETA2^t)) + EPS)
 *
 * NORM writes sums, one sum of squares a unit, of a group of gradients. DECIDE updates the state
 * from the sums of all groups: the global norm, the clipping scale, the powers of the betas; a loss
 * or norm that is not finite sets STATE_SKIPPED, and the step is dropped; any other counts in
 * `changes`. APPLY updates a group of params and their moments in place.
 *
 * Parallel over UNITS: runs of floats of one array, with where they start in their tensor, in m and
 * in v. Matrices alone decay, and their rate is MATRIX_LR_SCALE times the others'. */
#include "team.h"

#ifdef NORM
static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(i, UNIT_COUNT) {
        const float *g = a.grads[UNITS[i].tensor] + UNITS[i].at;
        vec s = 0.f;
        for (int j = 0; j < UNITS[i].length; j += LANES) s += load(g + j) * load(g + j);
        a.sums[i] = sum_lanes(s);
    }
}
#endif

#ifdef DECIDE
static void kernel_body(member_t *me, args_t a) {
    static const int counts[GROUPS] = {GROUP_UNITS};
    float *state = a.state;
    (void)me;
    double total = 0;
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < counts[g]; i++) total += a.sums[g][i];
    float norm = root((float)total);
    state[STATE_GRAD_NORM] = norm;
    state[STATE_SKIPPED] = !(norm <= MAX_GRAD_NORM) || !(*a.loss - *a.loss == 0.f);
    if (state[STATE_SKIPPED]) return;
    *a.changes += 1;
    state[STATE_UPDATES] += 1.f;
    state[STATE_BETA1_POWER] *= BETA1;
    state[STATE_BETA2_POWER] *= BETA2;
    state[STATE_GRAD_SCALE] = norm > GRAD_CLIP ? GRAD_CLIP / norm : 1.f;
}
#endif

#ifdef APPLY
static void kernel_body(member_t *me, args_t a) {
    const float *state = a.state;
    if (state[STATE_SKIPPED]) return;
    float lr = *a.lr, rate = lr / (1.f - state[STATE_BETA1_POWER]);
    float root_scale = 1.f / root(1.f - state[STATE_BETA2_POWER]);
    float grad_scale = state[STATE_GRAD_SCALE];
    FOR_TILES(i, UNIT_COUNT) {
        unit_t u = UNITS[i];
        float *p = a.params[u.tensor] + u.at, *m = a.m + u.m, *v = a.v + u.v;
        const float *g = a.grads[u.tensor] + u.at;
        float keep = u.is_matrix ? 1.f - lr * WEIGHT_DECAY : 1.f;
        float unit_rate = u.is_matrix ? rate * MATRIX_LR_SCALE : rate;
        for (int j = 0; j < u.length; j += LANES) {
            vec gj = load(g + j) * grad_scale;
            vec mj = load(m + j) * BETA1 + gj * (1.f - BETA1);
            vec vj = load(v + j) * BETA2 + gj * gj * (1.f - BETA2);
            store(m + j, mj);
            store(v + j, vj);
            store(p + j, load(p + j) * keep - unit_rate * mj / (vroot(vj) * root_scale + EPS));
        }
    }
}
#endif
