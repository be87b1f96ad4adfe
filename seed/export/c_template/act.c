
/* Ticks: observation in, action out, as the trainer's codec has it. */
INLINE void add_row(float *x, const float *row, float weight) {
    if (weight != 0.f)
        for (int j = 0; j < D_MODEL; j += WIDTH)
            store(x + j, fused(load(row + j), all(weight), load(x + j)));
}

/* The level of a number: how many borders it has reached, but for the ends of the range. */
INLINE int level_of(const double *borders, double number) {
    int low = 0, high = LEVELS + 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (borders[middle] <= number) low = middle + 1;
        else high = middle;
    }
    return low < 1 ? 0 : low > LEVELS ? LEVELS - 1 : low - 1;
}

/* x = the rows of both knots that share each number's level, of the last action, or of a beginning:
 * first all lower knots, as in training. */
static void embed_tick(float *x, const brain_state *state, const body_t *body,
                       const double *observation) {
    const float *table = WEIGHTS.numbers + body->input, *upper_row[MAX_CHANNELS];
    float upper[MAX_CHANNELS];
    for (int j = 0; j < D_MODEL; j++) x[j] = 0.f;
    for (int i = 0; i < body->channels; i++) {
        const channel_t *c = BODY_CHANNELS + body->first_channel + i;
        upper_row[i] = 0;
        if (observation[i] - observation[i] != 0) continue; /* not finite */
        double spacing = (c->knots - 1) / (LEVELS - 1.0); /* of levels, in knots */
        double at = level_of(BORDERS[c->borders], observation[i]) * spacing;
        int below = MIN((int)at, c->knots - 2);
        const float *row = table + (c->row + below) * D_MODEL;
        upper_row[i] = row + D_MODEL;
        upper[i] = (float)(at - below);
        add_row(x, row, (float)(1 - (at - below)));
    }
    for (int i = 0; i < body->channels; i++)
        if (upper_row[i]) add_row(x, upper_row[i], upper[i]);
    if (!state->has_chosen) add_row(x, table + body->begin_row * D_MODEL, 1.f);
    for (int i = 0; i < body->parts && state->has_chosen; i++) {
        const part_t *part = BODY_PARTS + body->first_part + i;
        add_row(x, table + (part->row + state->choices[i]) * D_MODEL, 1.f);
    }
}

static int act(brain_state *state, const double *observation, const double *noise, double *action,
               float *control) {
    const body_t *body = BODIES + state->body;
    float x[D_MODEL] ALIGNED, xn[D_MODEL] ALIGNED;
    embed_tick(x, state, body, observation);
    run_layers(state, x);
    normalize(xn, x, WEIGHTS.numbers + NORM_F);
    multiply(control, xn, WEIGHTS.numbers + body->control, body->columns, D_MODEL, 0);
    for (int i = 0; i < body->columns; i++)
        if (control[i] - control[i] != 0.f) return -1; /* no motor gets what comes of that */
    for (int i = 0; i < body->parts; i++) {
        const part_t *part = BODY_PARTS + body->first_part + i;
        int best = 0;
        double highest = 0;
        for (int j = 0; j < part->size; j++) {
            double z = (double)control[part->column + j] + (noise ? noise[j] : 0.0);
            if (j == 0 || z > highest) {
                highest = z;
                best = j;
            }
        }
        if (noise) noise += part->size;
        state->choices[i] = best;
        action[i] = CHOICE_NUMBERS[part->number + best];
    }
    state->has_chosen = 1;
    return 0;
}

int brain_begin(brain_state *state, int body) {
    if (body < 0 || body >= BODY_COUNT) return -1;
    state->body = body;
    state->has_chosen = 0;
    return 0;
}

int brain_act(brain_state *state, const double *observation, const double *noise, double *action) {
    float control[MAX_COLUMNS] ALIGNED;
    return act(state, observation, noise, action, control);
}
