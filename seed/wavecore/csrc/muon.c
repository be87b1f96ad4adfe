/* Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): a matrix moves by its Nesterov
 * momentum made nearly orthogonal, in place.
 *
 * With X = momentum / its Frobenius norm, NS_STEPS times X <- aX + (bA + cA^2) X, where A = X X^T
 * (a, b, c are NS_A, NS_B, NS_C), which draws the singular values towards 1.
 *
 * Parallel over UNITS: matrices, with where they start in their tensor and in the moments, and the
 * scale of their rate. Columns are a multiple of LANES. X has the matrix's shorter side as its
 * rows, padded with zeros to a multiple of LANES. */
#include "team.h"
#include "gemm.h"

/* X (r, c) from the momentum after this gradient; `transposed`: X is its transpose. */
INLINE void momentum(float *restrict x, float *restrict m, const float *restrict g, float scale,
                     unit_t u, int transposed, int r, int c) {
    fill_zero(x, (long)r * c);
    for (int i = 0; i < u.rows; i++) {
        for (int j = 0; j < u.columns; j += LANES) {
            long at = (long)i * u.columns + j;
            vec gj = load(g + at) * scale, mj = load(m + at) * MOMENTUM + gj;
            vec xj = mj * MOMENTUM + gj;
            store(m + at, mj);
            if (!transposed) store(x + (long)i * c + j, xj);
            else for (int lane = 0; lane < LANES; lane++) x[(long)(j + lane) * c + i] = xj[lane];
        }
    }
}

/* X (r, c) to its nearly orthogonal factor; panels (r, c), A and AA (r, r) are scratch. */
INLINE void orthogonalize(float *restrict x, float *restrict panels, float *restrict A,
                          float *restrict AA, int r, int c) {
    vec squares = 0.f;
    for (int i = 0; i < r * c; i += LANES) squares += load(x + i) * load(x + i);
    float by = 1.f / (root(sum_lanes(squares)) + NS_EPS);
    for (int i = 0; i < r * c; i += LANES) store(x + i, load(x + i) * by);
    for (int n = 0; n < NS_STEPS; n++) {
        for (int j = 0; j < r / LANES; j++) pack_rows(panels, x, j, c);
        matmul(A, r, x, c, r, panels, r, c, 0);
        for (int j = 0; j < r / LANES; j++) pack_columns(panels, A, j, r, r);
        matmul(AA, r, A, r, r, panels, r, r, 0);
        for (int i = 0; i < r * r; i += LANES)
            store(A + i, load(A + i) * NS_B + load(AA + i) * NS_C);
        for (int j = 0; j < c / LANES; j++) pack_columns(panels, x, j, r, c);
        for (int i = 0; i < r * c; i += LANES) store(x + i, load(x + i) * NS_A);
        matmul(x, c, A, r, r, panels, c, r, 1);
    }
}

static void kernel_body(member_t *me, args_t a) {
    const float *state = a.state;
    if (state[STATE_SKIPPED]) return;
    FOR_TILES(i, UNIT_COUNT) {
        unit_t u = UNITS[i];
        float *p = a.params[u.tensor] + u.at;
        int transposed = u.rows > u.columns, r = ROUND_UP(MIN(u.rows, u.columns), LANES);
        int c = ROUND_UP(MAX(u.rows, u.columns), LANES);
        float *x = a.scratch + (long)me->thread * SCRATCH_STRIDE, *panels = x + r * c;
        float *A = panels + r * c, *AA = A + r * r;
        momentum(x, a.m + u.m, a.grads[u.tensor] + u.at, state[STATE_GRAD_SCALE], u, transposed, r,
                 c);
        orthogonalize(x, panels, A, AA, r, c);
        float keep = 1.f - *a.lr * WEIGHT_DECAY, rate = *a.lr * u.lr_scale;
        for (int row = 0; row < u.rows; row++) {
            for (int j = 0; j < u.columns; j += LANES) {
                float *out = p + (long)row * u.columns + j;
                vec o;
                for (int lane = 0; lane < LANES; lane++)
                    o[lane] = transposed ? x[(long)(j + lane) * c + row]
                                         : x[(long)row * c + j + lane];
                store(out, load(out) * keep - rate * o);
            }
        }
    }
}
