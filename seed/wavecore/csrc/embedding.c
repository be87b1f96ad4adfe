/* Byte embedding: y[r] = table[token[r]]. Shapes: tokens (ROWS) int, table (VOCAB, D_MODEL).
 * Forward is parallel over rows, backward over columns, so that every gradient has one owner. */

#ifdef FORWARD
static void kernel_body(team_t *team, int thread) {
    float *y = team->args[0];
    const int *tokens = team->args[1];
    const float *table = team->args[2];
    FOR_TILES(tile, 0, ROW_TILES)
        for (long r = (long)tile * ROW_TILE; r < MIN(ROWS, (tile + 1) * ROW_TILE); r++)
            copy(y + r * D_MODEL, table + (long)tokens[r] * D_MODEL, D_MODEL);
}

void KERNEL(float *y, int *tokens, float *table) {
    void *args[] = {y, tokens, table};
    run_team(args);
}
#endif

#ifdef BACKWARD
static void kernel_body(team_t *team, int thread) {
    float *d_table = team->args[0];
    const float *dy = team->args[1];
    const int *tokens = team->args[2];
    FOR_TILES(j, 0, D_MODEL / LANES) {
        for (long v = 0; v < VOCAB; v++) store(d_table + v * D_MODEL + j * LANES, (vec)0.f);
        for (long r = 0; r < ROWS; r++) {
            float *to = d_table + (long)tokens[r] * D_MODEL + j * LANES;
            store(to, load(to) + load(dy + r * D_MODEL + j * LANES));
        }
    }
}

void KERNEL(float *d_table, float *dy, int *tokens) {
    void *args[] = {d_table, dy, tokens};
    run_team(args);
}
#endif
