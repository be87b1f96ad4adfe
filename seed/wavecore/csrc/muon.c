/* Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): a matrix moves by its Nesterov
 * momentum made nearly orthogonal, in place.
 *
 * With X = momentum / its Frobenius norm, NS_STEPS times X <- aX + (bA + cA^2) X, where A = X X^T
 * (a, b, c are NS_A, NS_B, NS_C), which draws the singular values towards 1.
 *
 * What is smaller than MIN_WEIGHT, or in the momentum than MIN_MOMENTUM, becomes 0. Weights that
 * nothing needs any more only decay, and products of three of them would not be normal numbers,
 * with which a CPU may take ten times as long.
 *
 * Parallel over UNITS: matrices, with where they start in their tensor and in the moments, and the
 * scale of their rate. Columns are a multiple of LANES. X has the matrix's shorter side as its
 * rows, padded with zeros to a multiple of LANES. */
#include "team.h"
#include "gemm.h"

INLINE vec without_tiny(vec x, float least) {
    return __builtin_elementwise_abs(x) <= least ? (vec){0} : x;
}

/* LANES rows from i on, and columns from j on, of the matrix that x holds, or whose transpose. */
INLINE void load_block(vec *block, const float *x, int transposed, int i, int j, int c) {
    UNROLL for (int k = 0; k < LANES; k++)
        block[k] = load(x + (transposed ? (long)(j + k) * c + i : (long)(i + k) * c + j));
    if (transposed) transpose(block);
}

INLINE void store_block(float *x, vec *block, int transposed, int i, int j, int c) {
    if (transposed) transpose(block);
    UNROLL for (int k = 0; k < LANES; k++)
        store(x + (transposed ? (long)(j + k) * c + i : (long)(i + k) * c + j), block[k]);
}

/* X, with c columns, from the momentum after this gradient; `transposed`: X is its transpose. */
INLINE void momentum(float *restrict x, float *restrict m, const float *restrict g, float scale,
                     unit_t u, int transposed, int c) {
    for (int i = 0; i < u.rows; i += LANES)
        for (int j = 0; j < u.columns; j += LANES) {
            vec block[LANES];
            for (int k = 0; k < LANES; k++) {
                block[k] = 0.f;
                if (i + k >= u.rows) continue;
                long at = (long)(i + k) * u.columns + j;
                vec gj = load(g + at) * scale, mj = load(m + at) * MOMENTUM + gj;
                mj = without_tiny(mj, MIN_MOMENTUM);
                block[k] = mj * MOMENTUM + gj;
                store(m + at, mj);
            }
            store_block(x, block, transposed, i, j, c);
        }
}

/* The matrix moves by the orthogonal X. */
INLINE void apply(float *restrict p, const float *restrict x, float keep, float rate, unit_t u,
                  int transposed, int c) {
    for (int i = 0; i < u.rows; i += LANES)
        for (int j = 0; j < u.columns; j += LANES) {
            vec block[LANES];
            load_block(block, x, transposed, i, j, c);
            for (int k = 0; k < LANES && i + k < u.rows; k++) {
                float *out = p + (long)(i + k) * u.columns + j;
                store(out, without_tiny(load(out) * keep - rate * block[k], MIN_WEIGHT));
            }
        }
}

/* C (n, n) = A B, with B packed, of a product that is symmetric to the bit: half of it is made, and
 * the other half copied. */
INLINE void matmul_symmetric(float *C, const float *A, const float *b, int n, int K) {
    for (int j = 0; j < n; j += TILE_PANELS * LANES)
        matmul(C + (long)j * n + j, n, A + (long)j * K, K, n - j, b + (long)j * K,
               MIN(TILE_PANELS * LANES, n - j), K, 0);
    for (int i = 0; i < n; i += LANES)
        for (int j = i + LANES; j < n; j += LANES) {
            vec block[LANES];
            load_block(block, C, 1, i, j, n);
            store_block(C, block, 0, i, j, n);
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
        matmul_symmetric(A, x, panels, r, c);
        for (int j = 0; j < r / LANES; j++) pack_columns(panels, A, j, r, r);
        matmul_symmetric(AA, A, panels, r, r);
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
        momentum(x, a.m + u.m, a.grads[u.tensor] + u.at, state[STATE_GRAD_SCALE], u, transposed, c);
        orthogonalize(x, panels, A, AA, r, c);
        apply(p, x, 1.f - *a.lr * WEIGHT_DECAY, *a.lr * u.lr_scale, u, transposed, c);
    }
}
