/* What heads share: logits = rms_norm(x) table^T, and the gradients from d loss / d logits, which
 * FORWARD saves and BACKWARD scales by the incoming gradient. LOGITS writes logits alone; STEP too,
 * with a table that pack.c has packed before.
 *
 * Shapes: x (ROWS, D_MODEL), table (VOCAB, D_MODEL), logits (ROWS, VOCAB). Parallel over row
 * tiles. */
#include "team.h"
#include "gemm.h"
#include "norm.h"
#include "rows.h"

#ifndef BACKWARD
#ifndef STEP
INLINE void pack_table(member_t *me, const args_t *a) {
    FOR_TILES(j, VOCAB / LANES) pack_rows(a->panels, a->table, j, D_MODEL);
}
#endif

INLINE void logits_of_tile(const args_t *a, float *logits, int r0, int rows) {
    float xn[ROW_TILE * D_MODEL] ALIGNED;
    rms_norm(xn, a->x + (long)r0 * D_MODEL, a->gain, rows);
    matmul(logits + (long)r0 * VOCAB, VOCAB, xn, D_MODEL, rows, a->panels, VOCAB, D_MODEL, 0);
}
#endif

#if defined(FORWARD) || defined(SOFT)
/* Which each head has: the loss of a row of logits, which become their gradient; and what the sum
 * of all rows is multiplied by. */
INLINE float row_loss(const args_t *a, float *row, long r);
INLINE float loss_scale(const args_t *a);

static void kernel_body(member_t *me, args_t a) {
    pack_table(me, &a);
    barrier(me);
    FOR_ROWS(r0, rows) {
        logits_of_tile(&a, a.d_logits, r0, rows);
        for (long r = r0; r < r0 + rows; r++)
            a.losses[r] = row_loss(&a, a.d_logits + r * VOCAB, r);
    }
    barrier(me);
    if (me->thread) return;
    double sum = 0;
    for (int r = 0; r < ROWS; r++) sum += a.losses[r];
    *a.loss = sum * loss_scale(&a);
}
#endif

#if defined(LOGITS) || defined(STEP)
static void kernel_body(member_t *me, args_t a) {
#ifdef LOGITS
    pack_table(me, &a);
    barrier(me);
#endif
    FOR_ROWS(r0, rows) logits_of_tile(&a, a.logits, r0, rows);
}
#endif

#ifdef BACKWARD
#define TABLE_SIZE (VOCAB * D_MODEL)

static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(j, D_MODEL / LANES) {
        float *panel = a.panels + (long)j * LANES * VOCAB;
        pack_columns(a.panels, a.table, j, VOCAB, D_MODEL);
        for (int v = 0; v < VOCAB; v++)
            store(panel + v * LANES, load(panel + v * LANES) * *a.d_loss);
    }
    barrier(me);
    FOR_GROUPED_TILES(tile) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float dxn[ROW_TILE * D_MODEL] ALIGNED, xn_panels[ROW_TILE * D_MODEL] ALIGNED;
        const float *d_logits = a.d_logits + (long)r0 * VOCAB;
        matmul(dxn, D_MODEL, d_logits, VOCAB, rows, a.panels, D_MODEL, VOCAB, 0);
        rms_norm_backward(a.dx, 0, dxn, a.x, a.gain, xn_panels, a.d_gains + (long)tile * D_MODEL,
                          r0, rows);
        matmul_transposed(a.d_tables + (long)group * TABLE_SIZE, d_logits, VOCAB, VOCAB, xn_panels,
                          D_MODEL, rows, tile % GROUP_TILES > 0);
    }
    barrier(me);
    FOR_TILES(tile, SUM_TILES(TABLE_SIZE) + 1) {
        if (tile == SUM_TILES(TABLE_SIZE)) {
            sum_partials(a.d_gain, a.d_gains, D_MODEL, D_MODEL, ROW_TILES);
            continue;
        }
        int at = tile * SUM_TILE, end = MIN(at + SUM_TILE, TABLE_SIZE);
        sum_tile(a.d_table, a.d_tables, tile, TABLE_SIZE, TABLE_SIZE, GROUPS);
        for (int i = at; i < end; i += LANES)
            store(a.d_table + i, load(a.d_table + i) * *a.d_loss);
    }
}
#endif
