/* Matrix products from a register tile of TILE_ROWS rows and TILE_PANELS panels.
 *
 * The right operand is packed into panels of LANES columns: panel j holds [K][LANES] floats, so
 * that a row of the register tile is one aligned stream. N and K of every packed operand are
 * multiples of LANES (padded by the layout), the number of rows is free. A tile of C has one owner,
 * and each number of C one order of sums, so the shape of the tile changes no bit. */
#ifdef __AVX512F__ /* 32 registers of LANES floats: 24 of C, 2 of the right operand */
#define TILE_ROWS 12
#define TILE_PANELS 2
#else /* LANES floats are two registers of AVX2's 16, or four of NEON's 32 */
#define TILE_ROWS 6
#define TILE_PANELS 1
#endif
#define HOLD(pointer) __asm__("" : "+r"(pointer)) /* else clang adds up addresses in the loop */
#ifdef __aarch64__ /* else clang loads it to all lanes (ld1r), which takes a port of the products */
#define HOLD_NUMBER(number) __asm__("" : "+w"(number))
#else
#define HOLD_NUMBER(number) (void)(number)
#endif
#define SMALL_TILE_ROWS 4 /* of what TILE_ROWS leaves; the one to three rows behind are a tile */
#define MAX_PANELS 4 /* of a tile of one row, so that sums hide the time that each takes */
#define FEW_ROWS_PANELS 2 /* of one of two or three rows */
#define K_BLOCK 256 /* depth that keeps the left rows and one panel in L1 */
#define SUM_TILE 4096 /* numbers of a weight gradient that a thread adds up at a time */
#define SUM_TILES(n) (((n) + SUM_TILE - 1) / SUM_TILE)

/* One panel, d[k][0..LANES-1] = B[k*k_stride + lane*n_stride]; one of the strides is 1. */
INLINE void pack_panel(float *restrict d, const float *restrict B, int K, int k_stride,
                       int n_stride) {
    if (n_stride == 1) {
        for (int k = 0; k < K; k++) store(d + k * LANES, load(B + (long)k * k_stride));
        return;
    }
    for (int k = 0; k < K; k += LANES) {
        vec m[LANES];
        UNROLL for (int j = 0; j < LANES; j++) m[j] = load(B + k + (long)j * n_stride);
        transpose(m);
        UNROLL for (int i = 0; i < LANES; i++) store(d + (k + i) * LANES, m[i]);
    }
}

/* Panel j of M^T as the right operand, M (N, K). */
INLINE void pack_rows(float *panels, const float *M, int j, int K) {
    pack_panel(panels + (long)j * LANES * K, M + (long)j * LANES * K, K, 1, K);
}

/* Panel j of M as the right operand, M (K, N). */
INLINE void pack_columns(float *panels, const float *M, int j, int K, int N) {
    pack_panel(panels + (long)j * LANES * K, M + j * LANES, K, N, 1);
}

/* `rows` rows and `panels` panels of C (+)= A B, both constants. A(r, k) is
 * A[r*a_row + k*a_col], so that A may be a transposed matrix; panels are panel_stride apart. */
INLINE void multiply_tile(float *restrict C, int ldc, const float *restrict A, long a_row,
                          long a_col, const float *restrict b, long panel_stride, int depth,
                          int accumulate, const int rows, const int panels) {
    vec c[TILE_ROWS][MAX_PANELS];
    const float *a[TILE_ROWS];
    UNROLL for (int r = 0; r < rows; r++) {
        a[r] = A + r * a_row;
        if (panels == 1 && a_col == 1) HOLD(a[r]);
        UNROLL for (int p = 0; p < panels; p++) c[r][p] = 0.f;
    }
    for (int k = 0; k < depth; k++) {
        vec bk[MAX_PANELS];
        UNROLL for (int p = 0; p < panels; p++)
            bk[p] = load(b + p * panel_stride + (long)k * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            float left = a[r][k * a_col];
            HOLD_NUMBER(left);
            UNROLL for (int p = 0; p < panels; p++) c[r][p] += left * bk[p];
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++) {
            float *out = C + (long)r * ldc + p * LANES;
            store(out, accumulate ? c[r][p] + load(out) : c[r][p]);
        }
}

/* Whole tiles of rows, of a constant number of panels. */
INLINE void multiply_panels(float *restrict C, int ldc, const float *restrict A, long a_row,
                            long a_col, int rows, const float *restrict b, long panel_stride,
                            int depth, int accumulate, const int panels) {
    int i = 0;
    for (; i + TILE_ROWS <= rows; i += TILE_ROWS)
        multiply_tile(C + (long)i * ldc, ldc, A + i * a_row, a_row, a_col, b, panel_stride, depth,
                      accumulate, TILE_ROWS, panels);
    for (; i + SMALL_TILE_ROWS <= rows; i += SMALL_TILE_ROWS)
        multiply_tile(C + (long)i * ldc, ldc, A + i * a_row, a_row, a_col, b, panel_stride, depth,
                      accumulate, SMALL_TILE_ROWS, panels);
}

/* A constant number of rows that are less than a tile, of all panels. */
INLINE void multiply_few_rows(float *restrict C, int ldc, const float *restrict A, long a_row,
                              long a_col, const float *restrict b, long panel_stride, int N,
                              int depth, int accumulate, const int rows, const int panels) {
    int j = 0;
    for (; j + panels * LANES <= N; j += panels * LANES)
        multiply_tile(C + j, ldc, A, a_row, a_col, b + (j / LANES) * panel_stride, panel_stride,
                      depth, accumulate, rows, panels);
    for (; j < N; j += LANES)
        multiply_tile(C + j, ldc, A, a_row, a_col, b + (j / LANES) * panel_stride, panel_stride,
                      depth, accumulate, rows, 1);
}

INLINE void multiply_block(float *restrict C, int ldc, const float *restrict A, long a_row,
                           long a_col, int rows, const float *restrict b, long panel_stride, int N,
                           int depth, int accumulate) {
    int j = 0;
    for (; j + TILE_PANELS * LANES <= N; j += TILE_PANELS * LANES)
        multiply_panels(C + j, ldc, A, a_row, a_col, rows, b + (j / LANES) * panel_stride,
                        panel_stride, depth, accumulate, TILE_PANELS);
    for (; j < N; j += LANES)
        multiply_panels(C + j, ldc, A, a_row, a_col, rows, b + (j / LANES) * panel_stride,
                        panel_stride, depth, accumulate, 1);
    int few = rows % TILE_ROWS % SMALL_TILE_ROWS, at = rows - few;
    C += (long)at * ldc;
    A += at * a_row;
    if (few == 1)
        multiply_few_rows(C, ldc, A, a_row, a_col, b, panel_stride, N, depth, accumulate, 1,
                          MAX_PANELS);
    if (few == 2)
        multiply_few_rows(C, ldc, A, a_row, a_col, b, panel_stride, N, depth, accumulate, 2,
                          FEW_ROWS_PANELS);
    if (few == 3)
        multiply_few_rows(C, ldc, A, a_row, a_col, b, panel_stride, N, depth, accumulate, 3,
                          FEW_ROWS_PANELS);
}

NOINLINE void multiply_rows(float *restrict C, int ldc, const float *restrict A, int lda, int rows,
                            const float *restrict b, long panel_stride, int N, int depth,
                            int accumulate) {
    multiply_block(C, ldc, A, lda, 1, rows, b, panel_stride, N, depth, accumulate);
}

NOINLINE void multiply_columns(float *restrict C, int ldc, const float *restrict A, int lda,
                               int rows, const float *restrict b, long panel_stride, int N,
                               int depth, int accumulate) {
    multiply_block(C, ldc, A, 1, lda, rows, b, panel_stride, N, depth, accumulate);
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
        multiply_rows(C, ldc, A + k, lda, rows, b + (long)k * LANES, K * LANES, N,
                      MIN(block, K - k), accumulate || k);
}

/* C[M][N] (+)= A^T B over the K rows of A and B, with B packed: a weight gradient. */
INLINE void matmul_transposed(float *C, const float *A, int lda, int M, const float *b, int N,
                              int K, int accumulate) {
    int block = even_blocks(K);
    for (int k = 0; k < K; k += block)
        multiply_columns(C, N, A + (long)k * lda, lda, M, b + (long)k * LANES, K * LANES, N,
                         MIN(block, K - k), accumulate || k);
}

/* Rows of x into panel layout [width/LANES][rows][LANES]: the right operand of
 * matmul_transposed. */
INLINE void to_panels(float *restrict panels, const float *restrict x, int width, int rows) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < width; j += LANES)
            store(panels + ((long)(j / LANES) * rows + i) * LANES, load(x + (long)i * width + j));
}

/* d[j] = sum over `count` partial rows, in order. */
INLINE void sum_partials(float *restrict d, const float *restrict partials, int n, long stride,
                         int count) {
    int j = 0;
    for (; j + LANES <= n; j += LANES) {
        vec s = 0.f;
        for (int i = 0; i < count; i++) s += load(partials + (long)i * stride + j);
        store(d + j, s);
    }
    for (; j < n; j++) {
        float s = 0.f;
        for (int i = 0; i < count; i++) s += partials[(long)i * stride + j];
        d[j] = s;
    }
}

/* Tile `tile` of the n numbers of d, as sum_partials. */
INLINE void sum_tile(float *d, const float *partials, int tile, int n, long stride, int count) {
    int at = tile * SUM_TILE;
    sum_partials(d + at, partials + at, MIN(SUM_TILE, n - at), stride, count);
}
