/* The matrices of a block, packed for many steps (the STEP of projection.h and head.h).
 *
 * UNITS has a row a panel: where it starts in `panels`, where its first row starts in w, and the
 * columns of the matrix. A panel is LANES rows as columns (gemm.h). Parallel over panels. */
#include "team.h"
#include "gemm.h"

static void kernel_body(member_t *me, args_t a) {
    FOR_TILES(i, UNIT_COUNT) {
        const unit_t *panel = &UNITS[i];
        pack_rows(a.panels + panel->at, a.w + panel->row_at, 0, panel->columns);
    }
}
