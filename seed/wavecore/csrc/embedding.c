/* Byte embedding: y[r] = table[token[r]]. Shapes: tokens (ROWS) int, table (VOCAB, D_MODEL).
 * Forward is parallel over row tiles, backward over columns, so that every gradient has one owner.
 * Saved for the backward pass: nothing. */
#include "team.h"

#ifdef FORWARD
static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(tile, ROW_TILES)
        for (long r = (long)tile * ROW_TILE; r < MIN(ROWS, (tile + 1) * ROW_TILE); r++)
            copy(a.y + r * D_MODEL, a.table + (long)a.tokens[r] * D_MODEL, D_MODEL);
}
#endif

#ifdef BACKWARD
static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(j, D_MODEL / LANES) {
        for (long v = 0; v < VOCAB; v++) store(a.d_table + v * D_MODEL + j * LANES, (vec)0.f);
        for (long r = 0; r < ROWS; r++) {
            float *to = a.d_table + (long)a.tokens[r] * D_MODEL + j * LANES;
            store(to, load(to) + load(a.dy + r * D_MODEL + j * LANES));
        }
    }
}
#endif
