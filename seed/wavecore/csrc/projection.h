/* What the mixers and the MLP share: y = x + out_proj(f(in_proj(rms_norm(x)))), and its gradients.
 *
 * Shapes: x, y, xn = rms_norm(x) (ROWS, D_MODEL); in_proj (IN_WIDTH, D_MODEL) and out_proj
 * (D_MODEL, OUT_WIDTH), both packed first; f takes `hidden` (ROWS, IN_WIDTH) to `out`
 * (ROWS, OUT_WIDTH). Parallel over row tiles (rows.h); a group of GROUP_TILES tiles of ROW_TILE
 * rows adds up its own gradients of the weights. The block saves `hidden`; xn is computed again.
 *
 * STEP is FORWARD for the few rows of one step of many: pack.c has packed the projections before,
 * the carried state is changed in place, and nothing is saved. VARLEN is STEP for sequences of any
 * lengths, each from an empty state, that stand one behind the other in the rows: sequence b of
 * *n_seqs from row cu_seqlens[b] on (FlashAttention's term). */
#include "team.h"
#include "gemm.h"
#include "norm.h"
#include "rows.h"
#define IN_PANELS (IN_WIDTH / LANES)
#define IN_SIZE (IN_WIDTH * D_MODEL)
#define OUT_SIZE (D_MODEL * OUT_WIDTH)
#define GRADIENTS (IN_SIZE + OUT_SIZE) /* of both projections, in a row in d_projections */
#define SUMS (SUM_TILES(IN_SIZE) + SUM_TILES(OUT_SIZE) + 1)

typedef void (*head_fn_t)(const args_t *a, int thread, long b, int h);

/* hidden = in_proj(rms_norm(x)), of at most ROW_TILE rows from r0 on, where `hidden` (rows, stride)
 * points to row r0. `panels` are those of pack_rows. */
INLINE void project_in(const args_t *a, const float *panels, long r0, int rows, float *hidden,
                       int stride) {
    float xn[ROW_TILE * D_MODEL] ALIGNED;
    rms_norm(xn, a->x + r0 * D_MODEL, a->norm, rows);
    matmul(hidden, stride, xn, D_MODEL, rows, panels, IN_WIDTH, D_MODEL, 0);
}

#ifdef FORWARD
/* The first phase. */
INLINE void pack_projections(member_t *me, const args_t *a) {
    FOR_TILES(j, IN_PANELS + D_MODEL / LANES) {
        if (j < IN_PANELS) pack_rows(a->in_proj_panels, a->in_proj, j, D_MODEL);
        else pack_rows(a->out_proj_panels, a->out_proj, j - IN_PANELS, OUT_WIDTH);
    }
    barrier(me);
}
#endif

#ifndef BACKWARD
#if defined(STEP) || defined(VARLEN)
INLINE void pack_projections(member_t *me, const args_t *a) {
    (void)me, (void)a;
}
#endif

/* How many sequences there are, and the rows of one. */
#ifdef VARLEN
INLINE int sequences(const args_t *a) { return *a->n_seqs; }
INLINE long first_row(const args_t *a, long b) { return a->cu_seqlens[b]; }
INLINE int length_of(const args_t *a, long b) { return a->cu_seqlens[b + 1] - a->cu_seqlens[b]; }
#else
INLINE int sequences(const args_t *a) { return (void)a, BATCH; }
INLINE long first_row(const args_t *a, long b) { return (void)a, b * TIME; }
INLINE int length_of(const args_t *a, long b) { return (void)a, (void)b, TIME; }
#endif

/* y = x + out_proj(out), where `out` points to row r0. */
INLINE void project_out(const args_t *a, long r0, int rows, const float *out) {
    copy(a->y + r0 * D_MODEL, a->x + r0 * D_MODEL, rows * D_MODEL);
    matmul(a->y + r0 * D_MODEL, D_MODEL, out, OUT_WIDTH, rows, a->out_proj_panels, D_MODEL,
           OUT_WIDTH, 1);
}

/* A mixer's kernel: head_fn(a, thread, b, h) makes one head's columns of `out` from `hidden`.
 * Threads are at different rows of the batch: heads of one share cache lines. */
INLINE void mixer_forward(member_t *me, const args_t *a, int heads, float *hidden,
                          const float *out, head_fn_t head_fn) {
    pack_projections(me, a);
    FOR_ROWS(r0, n)
        project_in(a, a->in_proj_panels, r0, n, hidden + (long)r0 * IN_WIDTH, IN_WIDTH);
    barrier(me);
    int rows = sequences(a);
    FOR_TILES(i, rows * heads) head_fn(a, me->thread, i % rows, i / rows);
    barrier(me);
    FOR_ROWS(r0, n) project_out(a, r0, n, out + (long)r0 * OUT_WIDTH);
}
#endif

#ifdef BACKWARD
INLINE int tile_row(int tile) { return tile * ROW_TILE; }
INLINE int tile_count(int tile) { return MIN(ROW_TILE, ROWS - tile_row(tile)); }

INLINE void pack_projections_transposed(member_t *me, const args_t *a) {
    FOR_TILES(j, OUT_WIDTH / LANES + D_MODEL / LANES) {
        int i = j - OUT_WIDTH / LANES;
        if (i < 0) pack_columns(a->out_proj_panels, a->out_proj, j, D_MODEL, OUT_WIDTH);
        else pack_columns(a->in_proj_panels, a->in_proj, i, IN_WIDTH, D_MODEL);
    }
}

/* d_out = dy out_proj, where `d_out` points to row r0. */
INLINE void project_out_backward(const args_t *a, long r0, int rows, float *d_out) {
    matmul(d_out, OUT_WIDTH, a->dy + r0 * D_MODEL, D_MODEL, rows, a->out_proj_panels, OUT_WIDTH,
           D_MODEL, 0);
}

/* Of a row tile: dx = dy + d rms_norm(d_hidden in_proj), and its share of the gradients of the gain
 * and of both projections. `d_hidden` (rows, stride) and `out_panels` start at the tile. dx may be
 * x. */
INLINE void project_in_backward(const args_t *a, int tile, const float *d_hidden, int stride,
                                const float *out_panels) {
    float dxn[ROW_TILE * D_MODEL] ALIGNED, xn_panels[ROW_TILE * D_MODEL] ALIGNED;
    float *sums = a->d_projections + (long)(tile / GROUP_TILES) * GRADIENTS;
    int r0 = tile_row(tile), rows = tile_count(tile), is_later = tile % GROUP_TILES > 0;
    matmul(dxn, D_MODEL, d_hidden, stride, rows, a->in_proj_panels, D_MODEL, IN_WIDTH, 0);
    rms_norm_backward(a->dx, a->dy, dxn, a->x, a->norm, xn_panels,
                      a->d_gains + (long)tile * D_MODEL, r0, rows);
    matmul_transposed(sums, d_hidden, stride, IN_WIDTH, xn_panels, D_MODEL, rows, is_later);
    matmul_transposed(sums + IN_SIZE, a->dy + (long)r0 * D_MODEL, D_MODEL, D_MODEL, out_panels,
                      OUT_WIDTH, rows, is_later);
}

/* A tile of what all groups have added up: of d_in_proj, then d_out_proj, then d_norm. */
INLINE void sum_gradients(const args_t *a, int tile) {
    int i = tile - SUM_TILES(IN_SIZE);
    if (i < 0) sum_tile(a->d_in_proj, a->d_projections, tile, IN_SIZE, GRADIENTS, GROUPS);
    else if (i < SUM_TILES(OUT_SIZE))
        sum_tile(a->d_out_proj, a->d_projections + IN_SIZE, i, OUT_SIZE, GRADIENTS, GROUPS);
    else sum_partials(a->d_norm, a->d_gains, D_MODEL, D_MODEL, ROW_TILES);
}

/* A mixer's kernel: head_fn(a, thread, b, h) makes one head's columns of d_hidden from d_out, and
 * of `out` where they are not saved. */
INLINE void mixer_backward(member_t *me, const args_t *a, int heads, float *d_out,
                           const float *out, const float *d_hidden, head_fn_t head_fn) {
    pack_projections_transposed(me, a);
    barrier(me);
    FOR_ROWS(r0, n) project_out_backward(a, r0, n, d_out + (long)r0 * OUT_WIDTH);
    barrier(me);
    FOR_TILES(i, BATCH * heads) head_fn(a, me->thread, i % BATCH, i / BATCH);
    barrier(me);
    FOR_GROUPED_TILES(tile) {
        float out_panels[ROW_TILE * OUT_WIDTH] ALIGNED;
        long r0 = tile_row(tile);
        to_panels(out_panels, out + r0 * OUT_WIDTH, OUT_WIDTH, tile_count(tile));
        project_in_backward(a, tile, d_hidden + r0 * IN_WIDTH, IN_WIDTH, out_panels);
    }
    barrier(me);
    FOR_TILES(tile, SUMS) sum_gradients(a, tile);
}
#endif
