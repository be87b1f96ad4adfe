/* The description of an exported file, as seed/runtime/sealed_file.py and acting.py take it. */
#include "seed_internal.h"

#include <math.h>

#define MAX_CHANNELS 512
#define MAX_CHOICES 64
#define MAX_KNOTS 64
#define MAX_STATE_DIMENSIONS 4

static bool read_channels(seed_brain *brain, body *out, span channels) {
    const char *at = NULL;
    span key, item, low, high, is_log, knots;
    out->channel_count = json_count(channels);
    if (out->channel_count < 1 || out->channel_count > MAX_CHANNELS) return false;
    out->channels = (channel *)seed_allocate(brain, (size_t)out->channel_count, sizeof(channel));
    if (!out->channels) return false;
    for (channel *c = out->channels; json_next(channels, &at, &key, &item); c++) {
        long count;
        if (!json_get(item, "low", &low) || !json_number(low, &c->low)
            || !json_get(item, "high", &high) || !json_number(high, &c->high)
            || !json_get(item, "is_log", &is_log) || !json_bool(is_log, &c->is_log)
            || !json_get(item, "knots", &knots) || !json_integer(knots, 2, MAX_KNOTS, &count)
            || c->low >= c->high || !isfinite(c->high - c->low))
            return false;
        c->knots = (int)count;
        out->rows += c->knots;
    }
    return true;
}

static bool read_choices(seed_brain *brain, body *out, span parts, bool are_numbers) {
    const char *at = NULL, *inner;
    span key, part, item;
    out->part_count = json_count(parts);
    if (out->part_count < 1 || out->part_count > MAX_PARTS) return false;
    out->numbers = (double *)seed_allocate(brain, MAX_PARTS * MAX_CHOICES, sizeof(double));
    if (!out->numbers) return false;
    for (int i = 0; json_next(parts, &at, &key, &part); i++) {
        out->sizes[i] = json_count(part);
        if (out->sizes[i] < 2 || out->sizes[i] > MAX_CHOICES) return false;
        for (inner = NULL; json_next(part, &inner, &key, &item);) {
            double number;
            if (!json_number(item, &number)) return false;
            out->numbers[out->choice_count++] = are_numbers ? (float)number : trunc(number);
        }
    }
    return true;
}

/* `before`: the body whose part of all inputs and outputs is in front of its own. */
static bool read_body(seed_brain *brain, body *out, span fields, const body *before) {
    span channels, parts, form, value;
    long hidden;
    if (!json_get(fields, "codec", &out->codec) || !json_get(out->codec, "channels", &channels)
        || !json_get(out->codec, "actions", &parts) || !json_get(out->codec, "form", &form)
        || !json_get(fields, "hidden", &value) || !json_integer(value, 0, INT32_MAX, &hidden))
        return false;
    bool are_numbers = json_text(form, "numbers");
    if (!are_numbers && !json_text(form, "index") && !json_text(form, "indices")) return false;
    if (json_get(fields, "rate_hz", &value)
        && (!json_number(value, &out->rate_hz) || out->rate_hz <= 0))
        return false;
    if (!read_channels(brain, out, channels) || !read_choices(brain, out, parts, are_numbers))
        return false;
    out->hidden = (int)hidden;
    out->rows += out->choice_count + 1;
    out->control_count = VALUE_LEVELS + out->choice_count;
    if (before) {
        out->weights_start = before->weights_start + before->rows;
        out->control_start = before->control_start + before->control_count;
    }
    return !before || before->hidden == out->hidden;
}

static bool read_bodies(seed_brain *brain, span bodies) {
    const char *at = NULL;
    span fields;
    brain->body_count = json_count(bodies);
    brain->bodies = (body *)seed_allocate(brain, (size_t)brain->body_count + 1, sizeof(body));
    if (!brain->bodies) return false;
    for (int i = 0; i < brain->body_count; i++) {
        body *b = brain->bodies + i;
        if (!json_next(bodies, &at, &b->name, &fields)
            || !read_body(brain, b, fields, i ? b - 1 : NULL))
            return false;
        brain->weights_count = b->weights_start + b->rows;
        brain->control_count = b->control_start + b->control_count;
        brain->hidden_count = b->hidden;
    }
    brain->acting = brain->body_count ? brain->bodies : NULL;
    return true;
}

static bool read_states(seed_brain *brain, span states) {
    const char *at = NULL, *inner;
    span key, fields, shape, size, start;
    brain->state_count = json_count(states);
    brain->states = (state *)seed_allocate(brain, (size_t)brain->state_count + 1, sizeof(state));
    if (!brain->states) return false;
    for (state *s = brain->states; json_next(states, &at, &s->name, &fields); s++) {
        double first;
        if (!json_get(fields, "shape", &shape) || !json_get(fields, "start", &start)
            || !json_number(start, &first) || fabs(first) >= 1e38
            || json_count(shape) > MAX_STATE_DIMENSIONS)
            return false;
        s->start = (float)first;
        s->count = 1;
        for (inner = NULL; json_next(shape, &inner, &key, &size);) {
            long n;
            if (!json_integer(size, 1, MAX_FILE_BYTES, &n)
                || (size_t)n > MAX_FILE_BYTES / 4 / s->count)
                return false;
            s->count *= (size_t)n;
        }
        brain->state_bytes += 4 * s->count;
    }
    return brain->state_bytes <= MAX_FILE_BYTES;
}

bool seed_read_description(seed_brain *brain) {
    span format, runtimes, bodies, states, is_explicit, value;
    long number;
    if (!json_get(brain->description, "format", &format) || !json_integer(format, 1, 1, &number))
        return seed_fail(brain, "%s is of another version of seed: export it again with this one",
                         brain->name);
    if (!json_get(brain->description, "runtimes", &runtimes)
        || !json_get(runtimes, "ai-edge-litert", &value))
        return seed_fail(brain, "%s is not for ai-edge-litert: export with --target portable",
                         brain->name);
    bool is_valid = json_get(brain->description, "blake2b", &brain->checksum)
        && brain->checksum.end - brain->checksum.start == DIGEST_DIGITS + 2
        && json_get(brain->description, "explicit_state", &is_explicit)
        && json_bool(is_explicit, &brain->is_explicit)
        && json_get(brain->description, "bodies", &bodies) && *bodies.start == '{'
        && read_bodies(brain, bodies)
        && json_get(brain->description, "states", &states) && *states.start == '{'
        && read_states(brain, states);
    if (is_valid || *brain->error) return is_valid;
    return seed_fail(brain, "%s has a wrong description: export it again", brain->name);
}
