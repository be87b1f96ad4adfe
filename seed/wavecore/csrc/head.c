/* The tied byte head: logits = norm(x) table^T, and its cross-entropy.
 *
 * LOGITS writes logits (ROWS, VOCAB). FORWARD writes loss = inv_count * sum of -log softmax(logits)[target]
 * over the rows with target >= 0 and saves d loss / d logits, zero in the other rows; BACKWARD scales
 * that by the incoming gradient. Shapes: x (ROWS, D_MODEL), table (VOCAB, D_MODEL), targets (ROWS) int,
 * inv_count (1). Parallel over row tiles; the losses of the rows are added in order, in double.
 *
 * SOFT is FORWARD with a teacher's word: in a row whose places[0] >= 0 the loss is
 * (1 - ALPHA) of that and ALPHA T^2 of the cross-entropy between the teacher's probabilities and
 * softmax(logits / T), over the TOP bytes that places (ROWS, TOP) int names and all others as one. */

INLINE void pack_table(team_t *team, float *panels, const float *table) {
    FOR_TILES(j, 0, VOCAB / LANES)
        pack_panel(panels + (long)j * LANES * D_MODEL, table + (long)j * LANES * D_MODEL, D_MODEL, 1, D_MODEL);
}

#ifdef LOGITS
static void kernel_body(team_t *team, int thread) {
    float *logits = team->args[0], *panels = team->args[1];
    const float *x = team->args[2], *gain = team->args[3], *table = team->args[4];
    pack_table(team, panels, table);
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float xn[ROW_TILE * D_MODEL] ALIGNED;
        norm_rows(xn, x + (long)r0 * D_MODEL, gain, rows);
        matmul(logits + (long)r0 * VOCAB, VOCAB, xn, D_MODEL, rows, panels, VOCAB, D_MODEL, 0);
    }
}

void KERNEL(float *logits, float *scratch, float *x, float *gain, float *table) {
    void *args[] = {logits, scratch, x, gain, table};
    run_team(args);
}
#endif

#if defined(FORWARD) || defined(SOFT)
/* logits to d loss / d logits in place; returns the row's loss. */
INLINE float cross_entropy(float *row, int target, float inv_count) {
    vec m = load(row), total = 0.f;
    for (int j = LANES; j < VOCAB; j += LANES) {
        vec l = load(row + j);
        m = m > l ? m : l;
    }
    float highest = max_lanes(m), chosen = row[target];
    for (int j = 0; j < VOCAB; j += LANES) {
        vec e = vexp(load(row + j) - highest);
        store(row + j, e);
        total += e;
    }
    float sum = sum_lanes(total), scale = inv_count / sum;
    for (int j = 0; j < VOCAB; j += LANES) store(row + j, load(row + j) * scale);
    row[target] -= inv_count;
    return highest + log1(sum) - chosen;
}

#ifdef SOFT
#define TINY 1.17549435e-38f /* the least normal float */

/* Adds scale d/dz of the soft cross-entropy to d, and returns it; z are the row's logits, and spoilt. */
INLINE float soft_cross_entropy(float *d, float *z, const int *places, const float *probs, float scale) {
    vec m = load(z), total = 0.f;
    for (int j = LANES; j < VOCAB; j += LANES) {
        vec l = load(z + j);
        m = m > l ? m : l;
    }
    float highest = max_lanes(m), top[TOP], named[TOP], sum = 0.f, other_prob = 1.f, loss = 0.f;
    for (int j = 0; j < VOCAB; j += LANES) store(z + j, vexp((load(z + j) - highest) * (1.f / TEMPERATURE)));
    for (int k = 0; k < TOP; k++) {
        named[k] = places[k] < 0 ? 0.f : probs[k];
        top[k] = places[k] < 0 ? 0.f : z[places[k]];
        sum += top[k];
        other_prob -= named[k];
    }
    for (int k = 0; k < TOP; k++)
        if (places[k] >= 0) z[places[k]] = 0.f;
    for (int j = 0; j < VOCAB; j += LANES) total += load(z + j);
    float others = sum_lanes(total), log_sum;
    sum += others;
    log_sum = log1(sum);
    other_prob = other_prob > 0.f ? other_prob : 0.f;
    float share = 1.f / sum - (others > 0.f ? other_prob / others : 0.f);
    for (int j = 0; j < VOCAB; j += LANES) store(d + j, load(d + j) + load(z + j) * (share * scale));
    for (int k = 0; k < TOP; k++) {
        if (places[k] < 0) continue;
        d[places[k]] += (top[k] / sum - named[k]) * scale;
        loss += named[k] * (log_sum - log1(top[k] > TINY ? top[k] : TINY));
    }
    return loss + (other_prob > 0.f ? other_prob * (log_sum - log1(others > TINY ? others : TINY)) : 0.f);
}
#endif

static void kernel_body(team_t *team, int thread) {
    float *loss = team->args[0], *d_logits = team->args[1], *scratch = team->args[2];
    const float *x = team->args[3], *gain = team->args[4], *table = team->args[5], *inv_count = team->args[7];
    const int *targets = team->args[6];
#ifdef SOFT
    const int *places = team->args[8];
    const float *probs = team->args[9];
#endif
    float *panels = scratch + SCRATCH_PANELS, *losses = scratch + SCRATCH_LOSSES;
    pack_table(team, panels, table);
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float xn[ROW_TILE * D_MODEL] ALIGNED;
        norm_rows(xn, x + (long)r0 * D_MODEL, gain, rows);
        matmul(d_logits + (long)r0 * VOCAB, VOCAB, xn, D_MODEL, rows, panels, VOCAB, D_MODEL, 0);
        for (int r = r0; r < r0 + rows; r++) {
            float *row = d_logits + (long)r * VOCAB, hard = 1.f;
#ifdef SOFT
            float z[VOCAB] ALIGNED;
            int is_soft = places[(long)r * TOP] >= 0;
            hard = is_soft ? 1.f - ALPHA : 1.f;
            copy(z, row, VOCAB);
#endif
            losses[r] = targets[r] < 0 ? 0.f : hard * cross_entropy(row, targets[r], hard * *inv_count);
            if (targets[r] < 0) fill_zero(row, VOCAB);
#ifdef SOFT
            if (is_soft)
                losses[r] += ALPHA * TEMPERATURE * TEMPERATURE * soft_cross_entropy(
                    row, z, places + (long)r * TOP, probs + (long)r * TOP, ALPHA * TEMPERATURE * *inv_count);
#endif
        }
    }
    barrier(team);
    if (thread) return;
    double sum = 0;
    for (int r = 0; r < ROWS; r++) sum += losses[r];
    *loss = sum * *inv_count;
}

#ifdef SOFT
void KERNEL(float *loss, float *save, float *scratch, float *x, float *gain, float *table, int *targets,
            float *inv_count, int *places, float *probs) {
    void *args[] = {loss, save, scratch, x, gain, table, targets, inv_count, places, probs};
    run_team(args);
}
#else
void KERNEL(float *loss, float *save, float *scratch, float *x, float *gain, float *table, int *targets,
            float *inv_count) {
    void *args[] = {loss, save, scratch, x, gain, table, targets, inv_count};
    run_team(args);
}
#endif
#endif

#ifdef BACKWARD
static void kernel_body(team_t *team, int thread) {
    float *dx = team->args[0], *d_gain = team->args[1], *d_table = team->args[2], *scratch = team->args[3];
    const float *d_loss = team->args[4], *x = team->args[5], *gain = team->args[6], *table = team->args[7];
    const float *d_logits = team->args[8];
    float *panels = scratch + SCRATCH_PANELS, *xn_panels = scratch + SCRATCH_XN_PANELS;
    float *d_gains = scratch + SCRATCH_D_GAIN;
    FOR_TILES(j, 0, D_MODEL / LANES) {
        float *panel = panels + (long)j * LANES * VOCAB;
        pack_panel(panel, table + j * LANES, VOCAB, D_MODEL, 1);
        for (int v = 0; v < VOCAB; v++) store(panel + v * LANES, load(panel + v * LANES) * *d_loss);
    }
    barrier(team);
    FOR_TILES(tile, 1, ROW_TILES) {
        int r0 = tile * ROW_TILE, rows = MIN(ROW_TILE, ROWS - r0);
        float dxn[ROW_TILE * D_MODEL] ALIGNED;
        matmul(dxn, D_MODEL, d_logits + (long)r0 * VOCAB, VOCAB, rows, panels, D_MODEL, VOCAB, 0);
        norm_backward_rows(dx, 0, dxn, x, gain, xn_panels, d_gains + (long)tile * D_MODEL, r0, rows);
    }
    barrier(team);
    FOR_TILES(tile, 2, WEIGHT_TILES(VOCAB) + 1) {
        if (tile == WEIGHT_TILES(VOCAB)) {
            sum_partials(d_gain, d_gains, D_MODEL, D_MODEL, ROW_TILES);
            continue;
        }
        int v0 = tile * WEIGHT_TILE, rows = MIN(WEIGHT_TILE, VOCAB - v0);
        float *to = d_table + (long)v0 * D_MODEL;
        matmul_transposed(to, D_MODEL, d_logits + v0, VOCAB, rows, xn_panels, D_MODEL, ROWS);
        for (long i = 0; i < (long)rows * D_MODEL; i += LANES) store(to + i, load(to + i) * *d_loss);
    }
}

void KERNEL(float *dx, float *d_gain, float *d_table, float *scratch, float *d_loss, float *x, float *gain,
            float *table, float *save) {
    void *args[] = {dx, d_gain, d_table, scratch, d_loss, x, gain, table, save};
    run_team(args);
}
#endif
