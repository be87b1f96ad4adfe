/* Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): a matrix moves by its Nesterov momentum made
 * nearly orthogonal, in place.
 *
 * With X = momentum / its Frobenius norm, five times X <- aX + (bA + cA^2) X, where A = X X^T, which draws the
 * singular values towards 1. A unit is one matrix and belongs to one thread: {tensor in the group, offset in
 * it, rows, columns, offset in the moments, scale of its rate}. Columns are a multiple of LANES. X has the
 * matrix's shorter side as its rows, padded with zeros to a multiple of LANES. */
#define ITERATIONS 5

typedef struct { int tensor, at, rows, columns, moment; float scale; } unit_t;
static const unit_t UNITS[UNIT_COUNT] = {UNIT_TABLE};

/* X (r, c) from the momentum after this gradient; `turned`: X is its transpose. */
INLINE void momentum(float *restrict x, float *restrict m, const float *restrict g, float scale, unit_t u,
                     int turned, int r, int c) {
    fill_zero(x, (long)r * c);
    for (int i = 0; i < u.rows; i++) {
        for (int j = 0; j < u.columns; j += LANES) {
            long at = (long)i * u.columns + j;
            vec gj = load(g + at) * scale, mj = load(m + at) * MOMENTUM + gj, xj = mj * MOMENTUM + gj;
            store(m + at, mj);
            if (!turned) store(x + (long)i * c + j, xj);
            else for (int lane = 0; lane < LANES; lane++) x[(long)(j + lane) * c + i] = xj[lane];
        }
    }
}

/* X (r, c) to its nearly orthogonal factor; panels (r, c), A and AA (r, r) are scratch. */
INLINE void orthogonalize(float *restrict x, float *restrict panels, float *restrict A, float *restrict AA,
                          int r, int c) {
    vec squares = 0.f;
    for (int i = 0; i < r * c; i += LANES) squares += load(x + i) * load(x + i);
    float by = 1.f / (root(sum_lanes(squares)) + 1e-7f);
    for (int i = 0; i < r * c; i += LANES) store(x + i, load(x + i) * by);
    for (int n = 0; n < ITERATIONS; n++) {
        for (int j = 0; j < r; j += LANES) pack_panel(panels + j * c, x + j * c, c, 1, c);
        matmul(A, r, x, c, r, panels, r, c, 0);
        for (int j = 0; j < r; j += LANES) pack_panel(panels + j * r, A + j, r, r, 1);
        matmul(AA, r, A, r, r, panels, r, r, 0);
        for (int i = 0; i < r * r; i += LANES) store(A + i, load(A + i) * -4.7750f + load(AA + i) * 2.0315f);
        for (int j = 0; j < c; j += LANES) pack_panel(panels + j * r, x + j, r, c, 1);
        for (int i = 0; i < r * c; i += LANES) store(x + i, load(x + i) * 3.4445f);
        matmul(x, c, A, r, r, panels, c, r, 1);
    }
}

static void kernel_body(team_t *team, int thread) {
    float *m = team->args[TENSORS], *scratch = (float *)team->args[TENSORS + 1] + (long)thread * PRIVATE_STRIDE;
    const float *state = team->args[TENSORS + 2], *lr = team->args[TENSORS + 3];
    if (state[SKIPPED]) return;
    FOR_TILES(i, 0, UNIT_COUNT) {
        unit_t u = UNITS[i];
        float *p = (float *)team->args[u.tensor] + u.at;
        const float *g = (const float *)team->args[TENSORS + 4 + u.tensor] + u.at;
        int turned = u.rows > u.columns, r = ROUND_UP(MIN(u.rows, u.columns), LANES);
        int c = ROUND_UP(MAX(u.rows, u.columns), LANES);
        float *x = scratch, *panels = x + r * c, *A = panels + r * c, *AA = A + r * r;
        momentum(x, m + u.moment, g, state[SCALE_BY], u, turned, r, c);
        orthogonalize(x, panels, A, AA, r, c);
        float keep = 1.f - *lr * WEIGHT_DECAY, rate = *lr * u.scale;
        for (int row = 0; row < u.rows; row++) {
            for (int j = 0; j < u.columns; j += LANES) {
                float *out = p + (long)row * u.columns + j;
                vec o;
                if (!turned) o = load(x + (long)row * c + j);
                else for (int lane = 0; lane < LANES; lane++) o[lane] = x[(long)(j + lane) * c + row];
                store(out, load(out) * keep - rate * o);
            }
        }
    }
}

void KERNEL(PARAMETERS) {
    void *args[] = {ARGUMENTS};
    run_team(args);
}
