/* AdamW (Loshchilov & Hutter 1711.05101) with global-norm clipping, in three kernels.
 *
 * NORM: one sum of squares a unit, over a group of gradients. DECIDE: from all sums, the global norm,
 * the clipping scale, the powers of the betas; a loss or norm that is not finite sets SKIPPED, and the
 * step is dropped. APPLY: the update of a group, in place. A unit is a run of at most UNIT_SIZE floats
 * of one array: {tensor in the group, offset in it, length, offset in m, offset in v, matrix}. Matrices alone
 * decay, and their rate is MATRIX_RATE times the others'. */

#if defined(NORM) || defined(APPLY)
typedef struct { int tensor, at, length, m, v, matrix; } unit_t;
static const unit_t UNITS[UNIT_COUNT] = {UNIT_TABLE};
#endif

#ifdef NORM
static void kernel_body(team_t *team, int thread) {
    float *sums = team->args[0];
    FOR_TILES(i, 0, UNIT_COUNT) {
        const float *g = (const float *)team->args[1 + UNITS[i].tensor] + UNITS[i].at;
        vec s = 0.f;
        for (int j = 0; j < UNITS[i].length; j += LANES) s += load(g + j) * load(g + j);
        sums[i] = sum_lanes(s);
    }
}
#endif

#ifdef DECIDE
static void kernel_body(team_t *team, int thread) {
    float *state = team->args[0];
    const float *loss = team->args[1];
    static const int counts[GROUPS] = {GROUP_UNITS};
    if (thread) return;
    double total = 0;
    for (int g = 0; g < GROUPS; g++) {
        const float *sums = team->args[2 + g];
        for (int i = 0; i < counts[g]; i++) total += sums[i];
    }
    float norm = root((float)total);
    state[GRAD_NORM] = norm;
    state[SKIPPED] = !(norm <= 3e38f) || !(*loss - *loss == 0.f);
    if (state[SKIPPED]) return;
    state[APPLIED] += 1.f;
    state[BETA1_POWER] *= BETA1;
    state[BETA2_POWER] *= BETA2;
    state[SCALE_BY] = norm > GRAD_CLIP ? GRAD_CLIP / norm : 1.f;
}
#endif

#ifdef APPLY
static void kernel_body(team_t *team, int thread) {
    float *m = team->args[TENSORS], *v = team->args[TENSORS + 1];
    const float *state = team->args[TENSORS + 2], *lr = team->args[TENSORS + 3];
    if (state[SKIPPED]) return;
    float rate = *lr / (1.f - state[BETA1_POWER]), root_scale = 1.f / root(1.f - state[BETA2_POWER]);
    FOR_TILES(i, 0, UNIT_COUNT) {
        float *p = (float *)team->args[UNITS[i].tensor] + UNITS[i].at;
        const float *g = (const float *)team->args[TENSORS + 4 + UNITS[i].tensor] + UNITS[i].at;
        float *mi = m + UNITS[i].m, *vi = v + UNITS[i].v;
        float keep = UNITS[i].matrix ? 1.f - *lr * WEIGHT_DECAY : 1.f;
        float own_rate = UNITS[i].matrix ? rate * MATRIX_RATE : rate;
        for (int j = 0; j < UNITS[i].length; j += LANES) {
            vec gj = load(g + j) * state[SCALE_BY];
            vec mj = load(mi + j) * BETA1 + gj * (1.f - BETA1);
            vec vj = load(vi + j) * BETA2 + gj * gj * (1.f - BETA2);
            store(mi + j, mj);
            store(vi + j, vj);
            store(p + j, load(p + j) * keep - own_rate * mj / (vroot(vj) * root_scale + EPS));
        }
    }
}
#endif

void KERNEL(PARAMETERS) {
    void *args[] = {ARGUMENTS};
    run_team(args);
}
