/* A control step as one vector: y[r] = sum over m of weights[r][m] table[tokens[r][m]], in order.
 *
 * Shapes: tokens (ROWS, SLOTS) int, weights (ROWS, SLOTS), table (VOCAB, D_MODEL). A slot of weight
 * 0 is absent. Forward is parallel over row tiles, backward over columns, so that every gradient
 * has one owner. Saved for the backward pass: nothing. */
#include "team.h"

#ifdef FORWARD
static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(tile, ROW_TILES)
        for (long r = (long)tile * ROW_TILE; r < MIN(ROWS, (tile + 1) * ROW_TILE); r++) {
            float *y = a.y + r * D_MODEL;
            fill_zero(y, D_MODEL);
            for (int m = 0; m < SLOTS; m++) {
                float weight = a.weights[r * SLOTS + m];
                const float *row = a.table + (long)a.tokens[r * SLOTS + m] * D_MODEL;
                if (weight == 0.f) continue;
                for (int j = 0; j < D_MODEL; j += LANES)
                    store(y + j, load(y + j) + load(row + j) * weight);
            }
        }
}
#endif

#ifdef BACKWARD
static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(j, D_MODEL / LANES) {
        for (long v = 0; v < VOCAB; v++) store(a.d_table + v * D_MODEL + j * LANES, (vec)0.f);
        for (long r = 0; r < ROWS; r++) {
            vec dy = load(a.dy + r * D_MODEL + j * LANES);
            for (int m = 0; m < SLOTS; m++) {
                float *to = a.d_table + (long)a.tokens[r * SLOTS + m] * D_MODEL + j * LANES;
                store(to, load(to) + dy * a.weights[r * SLOTS + m]);
            }
        }
    }
}
#endif
