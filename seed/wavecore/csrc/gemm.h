/* Matrix products from a TILE_ROWS x LANES register tile over packed panels.
 *
 * The right operand is packed into panels of LANES columns: panel j holds [K][LANES] floats, so
 * that a row of the register tile is one aligned stream. N and K of every packed operand are
 * multiples of LANES (padded by the layout), the number of rows is free. A tile of C has one owner
 * and a fixed order of sums. */
#define TILE_ROWS 6    /* rows of C in registers */
#define K_BLOCK 256    /* depth that keeps the left rows and one panel in L1 */
#define WEIGHT_TILE 48 /* rows of a weight gradient one thread takes at a time */
#define WEIGHT_TILES(n) (((n) + WEIGHT_TILE - 1) / WEIGHT_TILE)

/* One panel, d[k][0..LANES-1] = B[k*k_stride + lane*n_stride]; one of the strides is 1. */
INLINE void pack_panel(float *restrict d, const float *restrict B, int K, int k_stride,
                       int n_stride) {
    if (n_stride == 1) {
        for (int k = 0; k < K; k++) store(d + k * LANES, load(B + (long)k * k_stride));
        return;
    }
    for (int j = 0; j < LANES; j++)
        for (int k = 0; k < K; k++) d[k * LANES + j] = B[(long)k * k_stride + (long)j * n_stride];
}

/* Panel j of M^T as the right operand, M (N, K). */
INLINE void pack_rows(float *panels, const float *M, int j, int K) {
    pack_panel(panels + (long)j * LANES * K, M + (long)j * LANES * K, K, 1, K);
}

/* Panel j of M as the right operand, M (K, N). */
INLINE void pack_columns(float *panels, const float *M, int j, int K, int N) {
    pack_panel(panels + (long)j * LANES * K, M + j * LANES, K, N, 1);
}

/* Packs the transposed left operand: TILE_ROWS columns of A side by side, zero beyond `rows`. */
INLINE void pack_left(float *restrict d, const float *restrict A, int k_stride, int rows,
                      int depth) {
    int full = rows / TILE_ROWS * TILE_ROWS;
    for (int k = 0; k < depth; k++) {
        const float *a = A + (long)k * k_stride;
        float *out = d + k * TILE_ROWS;
        for (int i = 0; i < full; i += TILE_ROWS)
            UNROLL for (int r = 0; r < TILE_ROWS; r++) out[i * depth + r] = a[i + r];
        if (full < rows)
            for (int r = 0; r < TILE_ROWS; r++)
                out[full * depth + r] = full + r < rows ? a[full + r] : 0.f;
    }
}

INLINE void write_tile(float *restrict C, int ldc, vec *c, int rows, int accumulate) {
    UNROLL for (int r = 0; r < TILE_ROWS; r++) {
        if (r < rows) {
            float *out = C + (long)r * ldc;
            store(out, accumulate ? c[r] + load(out) : c[r]);
        }
    }
}

INLINE void tile_packed(float *restrict C, int ldc, const float *restrict a,
                        const float *restrict b, int depth, int rows, int accumulate) {
    vec c[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; r++) c[r] = 0.f;
    for (int k = 0; k < depth; k++) {
        vec bk = load(b + k * LANES);
        UNROLL for (int r = 0; r < TILE_ROWS; r++) c[r] += a[k * TILE_ROWS + r] * bk;
    }
    write_tile(C, ldc, c, rows, accumulate);
}

INLINE void tile_rows(float *restrict C, int ldc, const float *restrict A, int lda,
                      const float *restrict b, int depth, int rows, int accumulate) {
    vec c[TILE_ROWS];
    const float *a[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; r++) {
        c[r] = 0.f;
        a[r] = A + (long)(r < rows ? r : 0) * lda;
    }
    for (int k = 0; k < depth; k++) {
        vec bk = load(b + k * LANES);
        UNROLL for (int r = 0; r < TILE_ROWS; r++) c[r] += a[r][k] * bk;
    }
    write_tile(C, ldc, c, rows, accumulate);
}

NOINLINE void block_packed(float *restrict C, int ldc, const float *restrict a, int rows, int depth,
                           const float *restrict b, int panel_stride, int N, int accumulate) {
    for (int j = 0; j < N; j += LANES)
        for (int i = 0; i < rows; i += TILE_ROWS)
            tile_packed(C + (long)i * ldc + j, ldc, a + i * depth,
                        b + (long)(j / LANES) * panel_stride, depth, MIN(TILE_ROWS, rows - i),
                        accumulate);
}

NOINLINE void block_rows(float *restrict C, int ldc, const float *restrict A, int lda, int rows,
                         int depth, const float *restrict b, int panel_stride, int N,
                         int accumulate) {
    for (int j = 0; j < N; j += LANES)
        for (int i = 0; i < rows; i += TILE_ROWS)
            tile_rows(C + (long)i * ldc + j, ldc, A + (long)i * lda, lda,
                      b + (long)(j / LANES) * panel_stride, depth, MIN(TILE_ROWS, rows - i),
                      accumulate);
}

/* K in blocks of nearly equal depth, at most K_BLOCK. */
INLINE int even_blocks(int K) {
    int count = (K + K_BLOCK - 1) / K_BLOCK;
    return (K + count - 1) / count;
}

/* C[rows][N] (+)= A[rows][K] B, with B packed. */
INLINE void matmul(float *C, int ldc, const float *A, int lda, int rows, const float *b, int N,
                   int K, int accumulate) {
    int block = even_blocks(K);
    for (int k = 0; k < K; k += block)
        block_rows(C, ldc, A + k, lda, rows, MIN(block, K - k), b + (long)k * LANES, K * LANES, N,
                   accumulate || k);
}

/* C[rows][N] = A^T B over the K rows of A and B, with B packed: a weight gradient.
 * rows <= WEIGHT_TILE. */
INLINE void matmul_transposed(float *C, int ldc, const float *A, int lda, int rows, const float *b,
                              int N, int K) {
    float a[ROUND_UP(WEIGHT_TILE, TILE_ROWS) * K_BLOCK] ALIGNED;
    int block = even_blocks(K);
    for (int k = 0; k < K; k += block) {
        int depth = MIN(block, K - k);
        pack_left(a, A + (long)k * lda, lda, rows, depth);
        block_packed(C, ldc, a, rows, depth, b + (long)k * LANES, K * LANES, N, k > 0);
    }
}

/* Tile `tile` of the weight gradient C (M, N) = A^T B, with A (K, M) and B (K, N) packed. */
INLINE void weight_gradient(float *C, const float *A, const float *b, int tile, int M, int N,
                            int K) {
    int r0 = tile * WEIGHT_TILE;
    matmul_transposed(C + (long)r0 * N, N, A + r0, M, MIN(WEIGHT_TILE, M - r0), b, N, K);
}

/* Rows of x into panel layout [width/LANES][K][LANES] at row r0: the right operand of
 * matmul_transposed. */
INLINE void to_panels(float *restrict panels, const float *restrict x, int width, int K, int r0,
                      int rows) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < width; j += LANES)
            store(panels + ((long)(j / LANES) * K + r0 + i) * LANES, load(x + (long)i * width + j));
}

/* d[j] = sum over `count` partial rows, in order. */
INLINE void sum_partials(float *restrict d, const float *restrict partials, int n, long stride,
                         int count) {
    for (int j = 0; j < n; j++) {
        float s = 0.f;
        for (int i = 0; i < count; i++) s += partials[(long)i * stride + j];
        d[j] = s;
    }
}
