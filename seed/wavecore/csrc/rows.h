/* Rows that are each made alone, so that any split has the same bits: as many tiles of ROW_TILE
 * rows as the threads share evenly, and of the rest a smaller tile for each thread. */
#define EVEN_TILES (ROWS / (ROW_TILE * THREADS) * THREADS)
#define REST_ROWS (ROWS - EVEN_TILES * ROW_TILE)
#define REST_TILE ROUND_UP((REST_ROWS + THREADS - 1) / THREADS, SMALL_TILE_ROWS)

INLINE int first_row_of(int tile) {
    int even = MIN(tile, EVEN_TILES);
    return MIN(even * ROW_TILE + (tile - even) * REST_TILE, ROWS);
}

/* Runs the statement for each tile, of `rows` rows from r0 on; one loop a phase. */
#define FOR_ROWS(r0, rows) \
    FOR_TILES(rows_tile, EVEN_TILES + THREADS) \
        for (int r0 = first_row_of(rows_tile), rows = first_row_of(rows_tile + 1) - r0; rows > 0; \
             rows = 0)
