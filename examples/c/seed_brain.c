/* What a brain does once it is open. A tick reads and chooses as in seed/runtime/acting.py. */
#include "seed_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#if __FINITE_MATH_ONLY__
#error "compile without -ffast-math and -ffinite-math-only: a number may be absent, or no action"
#endif

#define MU 15.0

bool seed_run(seed_brain *brain, signature *s) {
    int code = brain->api.RunCompiledModel(brain->compiled, s->index, s->count[INPUT],
                                           s->buffers[INPUT], s->count[OUTPUT],
                                           s->buffers[OUTPUT]);
    return !code || seed_fail(brain, "%s: LiteRT says %d; export it again", brain->name, code);
}

/* One step, and explicit states are carried on. */
static bool run_step(seed_brain *brain) {
    if (!seed_run(brain, &brain->step)) return false;
    if (brain->is_explicit)
        for (state *s = brain->states; s < brain->states + brain->state_count; s++)
            memcpy(s->in, s->out, 4 * s->count);
    return true;
}

int seed_reset(seed_brain *brain) {
    brain->has_hidden = false;
    if (!brain->is_explicit) return seed_run(brain, &brain->reset) ? 0 : -1;
    for (state *s = brain->states; s < brain->states + brain->state_count; s++)
        for (size_t i = 0; i < s->count; i++) s->in[i] = s->start;
    return 0;
}

const float *seed_step(seed_brain *brain, int byte) {
    if (byte < 0 || byte > 255) {
        seed_fail(brain, "byte is %d: use 0 to 255", byte);
        return NULL;
    }
    *brain->token = byte;
    if (brain->acting) {
        *brain->present = 1;
        memset(brain->weights, 0, 4 * (size_t)brain->weights_count);
    }
    return run_step(brain) ? brain->logits : NULL;
}

static void begin_episode(seed_brain *brain) {
    brain->has_chosen = brain->has_hidden = false;
    brain->used_controls = 0;
    brain->absent = brain->clipped = 0;
    memset(brain->weights, 0, 4 * (size_t)brain->weights_count);
}

/* The largest, as a fraction of the range that is expected; NAN if that is no 256 numbers. */
static double difference_of(const float *logits, span expected) {
    const char *at = NULL;
    span key, item;
    double largest = 0, low = INFINITY, high = -INFINITY, number;
    if (!logits || json_count(expected) != SEED_LOGITS) return NAN;
    for (int i = 0; json_next(expected, &at, &key, &item); i++) {
        if (!json_number(item, &number) || !isfinite(logits[i])) return NAN;
        largest = fmax(largest, fabs(logits[i] - number));
        low = fmin(low, number);
        high = fmax(high, number);
    }
    return largest / fmax(high - low, 1e-9);
}

static bool run_selftest(seed_brain *brain, double *difference) {
    const char *at = NULL;
    const float *logits = NULL;
    span test, bytes, key, item, expected, value, machine, runtime;
    double tolerance;
    if (!json_get(brain->description, "selftest", &test) || *test.start != '{')
        return seed_fail(brain, "%s has no self-test: it was not verified; export it without "
                         "--no-verify", brain->name);
    if (!json_get(test, "bytes", &bytes) || !json_get(test, "logits", &expected)
        || !json_get(test, "machine", &machine) || !json_get(test, "runtime", &runtime)
        || !json_get(test, "tolerance", &value) || !json_number(value, &tolerance)
        || *machine.start != '"' || *runtime.start != '"')
        return seed_fail(brain, "%s has a wrong description of its selftest: export it again",
                         brain->name);
    if (seed_reset(brain)) return false;
    while (json_next(bytes, &at, &key, &item)) {
        long byte;
        if (!json_integer(item, 0, 255, &byte)) byte = -1;   /* which a step refuses */
        logits = seed_step(brain, (int)byte);
        if (!logits) return false;
    }
    *difference = difference_of(logits, expected);
    if (seed_reset(brain)) return false;
    if (brain->acting) begin_episode(brain);
    return *difference <= tolerance
        || seed_fail(brain, "%.150s gives other logits here than where it was verified: within "
                     "%.1e of their range (%g allowed); verified on %.*s with %.*s; export and "
                     "verify it on this machine", brain->name, *difference, tolerance,
                     QUOTED(machine), QUOTED(runtime));
}

int seed_selftest(seed_brain *brain, double *difference) {
    locale_t before = uselocale(brain->locale);
    bool is_right = run_selftest(brain, difference);
    uselocale(before);
    return is_right ? 0 : -1;
}

int seed_begin(seed_brain *brain, const char *name, int keep_state) {
    body *found = !name && brain->body_count == 1 ? brain->bodies : NULL;
    for (body *b = brain->bodies; name && b < brain->bodies + brain->body_count; b++)
        if (json_text(b->name, name)) found = b;
    if (!found) {
        size_t count;
        seed_fail(brain, "%.200s has no body %.60s: name one of", brain->name,
                  name ? name : "without a name");
        for (body *b = brain->bodies; b < brain->bodies + brain->body_count; b++) {
            count = strlen(brain->error);
            snprintf(brain->error + count, sizeof brain->error - count, " %.*s", QUOTED(b->name));
        }
        if (!brain->body_count)
            seed_fail(brain, "%.300s has no body: train one with --body, and export it",
                      brain->name);
        return -1;
    }
    if (!keep_state && seed_reset(brain)) return -1;
    brain->acting = found;
    begin_episode(brain);
    return 0;
}

seed_body_info seed_body(const seed_brain *brain) {
    seed_body_info info;
    memset(&info, 0, sizeof info);
    if (!brain->acting) return info;
    info.channels = brain->acting->channel_count;
    info.parts = brain->acting->part_count;
    info.choices = brain->acting->choice_count;
    info.rate_hz = brain->acting->rate_hz;
    info.control = brain->control;
    info.control_count = brain->used_controls;
    info.absent = brain->absent;
    info.clipped = brain->clipped;
    return info;
}

/* The weights of a channel's knots for one number: two neighbours share its level. */
static void read_channel(seed_brain *brain, const channel *c, double number, float *knots) {
    memset(knots, 0, 4 * (size_t)c->knots);
    if (!isfinite(number)) {
        brain->absent++;
        return;
    }
    double u = 2 * (number - c->low) / (c->high - c->low) - 1;
    if (c->is_log) u = copysign(log1p(MU * fabs(u)), u) / log1p(MU);
    double inside = u < -1 ? -1 : u > 1 ? 1 : u;
    brain->clipped += inside != u;
    /* Volatile: rounded before it is subtracted from, whatever the compiler may fuse. */
    volatile double at = rint((inside + 1) * ((LEVELS - 1) / 2.0)) * ((c->knots - 1) / 255.0);
    int below = at < c->knots - 2 ? (int)at : c->knots - 2;
    double share = at - below;
    knots[below] = (float)(1 - share);
    knots[below + 1] = (float)share;
}

static void read_observation(seed_brain *brain, const double *observation) {
    const body *b = brain->acting;
    float *row = brain->weights + b->weights_start;
    for (int i = 0; i < b->channel_count; row += b->channels[i++].knots)
        read_channel(brain, b->channels + i, observation[i], row);
    memset(row, 0, 4 * (size_t)b->choice_count);
    for (int i = 0; i < b->part_count; row += b->sizes[i++])
        if (brain->has_chosen) row[brain->choices[i]] = 1;
    *row = !brain->has_chosen;   /* an episode's first tick */
}

static void choose(seed_brain *brain, const double *noise) {
    const body *b = brain->acting;
    const float *logits = brain->control + VALUE_LEVELS;
    for (int i = 0, start = 0; i < b->part_count; start += b->sizes[i++]) {
        int best = 0;
        double highest = -INFINITY;
        for (int j = 0; j < b->sizes[i]; j++) {
            double z = logits[start + j] + (noise ? noise[start + j] : 0.0);
            if (z > highest) {
                highest = z;
                best = j;
            }
        }
        brain->choices[i] = best;
        brain->action[i] = b->numbers[start + best];
    }
    brain->has_chosen = true;
}

const double *seed_act(seed_brain *brain, const double *observation, size_t count,
                       const double *noise) {
    const body *b = brain->acting;
    if (!b || count != (size_t)b->channel_count) {
        if (b)
            seed_fail(brain, "the observation of %.*s has %zu numbers: give %d", QUOTED(b->name),
                      count, b->channel_count);
        else
            seed_fail(brain, "%.300s has no body: train one with --body, and export it",
                      brain->name);
        return NULL;
    }
    read_observation(brain, observation);
    *brain->present = 0;
    if (!run_step(brain)) return NULL;
    const float *control = brain->control_out + b->control_start;
    for (int i = 0; i < b->control_count; i++)
        if (!isfinite(control[i])) {   /* no motor gets what comes of that */
            seed_fail(brain, "%s gives logits that are not finite: export it again", brain->name);
            return NULL;
        }
    memcpy(brain->control, control, 4 * (size_t)b->control_count);
    brain->used_controls = b->control_count;
    if (brain->hidden_count) memcpy(brain->hidden, brain->hidden_out, 4 * (size_t)b->hidden);
    brain->has_hidden = brain->hidden_count > 0;
    choose(brain, noise);
    return brain->action;
}
