/* The state of a brain: saved, loaded, and handed on to another file. A saved state is that of
 * seed/runtime/state_file.py: STATE_MAGIC, a checksum, a line of JSON and the states' numbers. */
#include "seed_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STATE_MAGIC "seed state 1\n"
#define MAGIC_BYTES (sizeof STATE_MAGIC - 1)
#define START (MAGIC_BYTES + DIGEST_BYTES)   /* of the line */
#define MAX_COUNT (1L << 53)                 /* that a double has exactly */

static void digest_of(const seed_brain *brain, size_t end, uint8_t digest[DIGEST_BYTES]) {
    blake2b hash;
    blake2b_begin(&hash);
    blake2b_add(&hash, brain->scratch + START, end - START);
    blake2b_end(&hash, digest);
}

/* What `take_states` takes, now in `out` of each state. */
static bool give_states(seed_brain *brain) {
    if (!brain->can_save)
        return seed_fail(brain, "%s cannot save its state: export it with --explicit-state",
                         brain->name);
    if (!brain->is_explicit) return seed_run(brain, &brain->save);
    for (state *s = brain->states; s < brain->states + brain->state_count; s++)
        memcpy(s->out, s->in, 4 * s->count);
    return true;
}

/* Continues with what is in `in` of each state. */
static bool take_states(seed_brain *brain) {
    return brain->is_explicit || seed_run(brain, &brain->load);
}

static char *put_numbers(char *at, const char *key, const float *numbers, int count) {
    at += sprintf(at, ", \"%s\": [", key);
    for (int i = 0; i < count; i++) at += sprintf(at, "%s%.9g", i ? ", " : "", numbers[i]);
    return at + sprintf(at, "]");
}

/* The line of JSON; behind it. There is room for the longest. */
static char *put_fields(const seed_brain *brain, char *at) {
    const body *b = brain->acting;
    at += sprintf(at, "{\"brain\": %.*s", DIGEST_DIGITS + 2, brain->checksum.start);
    at = put_numbers(at, "control", brain->control, brain->used_controls);
    if (brain->has_hidden) at = put_numbers(at, "hidden", brain->hidden, brain->hidden_count);
    else at += sprintf(at, ", \"hidden\": null");
    if (b) {
        at += sprintf(at, ", \"body\": %.*s, \"choices\": ", (int)(b->name.end - b->name.start),
                      b->name.start);
        if (!brain->has_chosen) at += sprintf(at, "null");
        for (int i = 0; brain->has_chosen && i < b->part_count; i++)
            at += sprintf(at, "%s%d", i ? ", " : "[", brain->choices[i]);
        at += sprintf(at, "%s, \"clipped\": %ld, \"absent\": %ld", brain->has_chosen ? "]" : "",
                      brain->clipped, brain->absent);
    }
    return at + sprintf(at, "}\n");
}

int seed_save_state(seed_brain *brain, const char *path) {
    struct stat status;
    char magic[MAGIC_BYTES];
    if (!lstat(path, &status)) {
        long n = read_regular(path, magic, MAGIC_BYTES, true);
        if (n < 0 || (n && (n < (long)MAGIC_BYTES || memcmp(magic, STATE_MAGIC, MAGIC_BYTES)))) {
            seed_fail(brain, "%s is something else than a state: name another file", path);
            return -1;
        }
    }
    if (!give_states(brain)) return -1;
    locale_t before = uselocale(brain->locale);
    char *at = put_fields(brain, brain->scratch + START);
    uselocale(before);
    for (state *s = brain->states; s < brain->states + brain->state_count; s++) {
        memcpy(at, s->out, 4 * s->count);
        at += 4 * s->count;
    }
    size_t count = (size_t)(at - brain->scratch);
    memcpy(brain->scratch, STATE_MAGIC, MAGIC_BYTES);
    digest_of(brain, count, (uint8_t *)brain->scratch + MAGIC_BYTES);
    if (!write_whole(path, brain->scratch, count)) return 0;
    seed_fail(brain, "%s: %s; the state is not saved: name a file that can be written", path,
              strerror(errno));
    return -1;
}

/* Whether it is an array of so many finite numbers, which go to `out` if that is not NULL. */
static bool read_numbers(span array, int count, float *out) {
    const char *at = NULL;
    span key, item;
    double number;
    if (*array.start != '[' || json_count(array) != count) return false;
    for (int i = 0; json_next(array, &at, &key, &item); i++) {
        if (!json_number(item, &number)) return false;
        if (out) out[i] = (float)number;
    }
    return true;
}

typedef struct {
    span control, hidden;
    body *acting;
    bool has_hidden, has_chosen;
    int choices[MAX_PARTS], used_controls;
    long clipped, absent;
} fields;

static bool read_choices(span choices, fields *out) {
    const char *at = NULL;
    span key, item;
    out->has_chosen = *choices.start == '[';
    if (!out->has_chosen) return *choices.start == 'n' && !out->has_hidden;
    if (json_count(choices) != out->acting->part_count) return false;
    for (int i = 0; json_next(choices, &at, &key, &item); i++) {
        long choice;
        if (!json_integer(item, 0, out->acting->sizes[i] - 1, &choice)) return false;
        out->choices[i] = (int)choice;
    }
    return true;
}

/* False unless all is right; the brain is as before. */
static bool read_fields(const seed_brain *brain, span line, fields *out) {
    span name, choices, count;
    memset(out, 0, sizeof *out);
    if (!json_get(line, "control", &out->control) || !json_get(line, "hidden", &out->hidden))
        return false;
    out->used_controls = json_count(out->control);
    out->has_hidden = *out->hidden.start == '[';
    if (!read_numbers(out->control, out->used_controls, NULL)
        || (out->has_hidden ? !read_numbers(out->hidden, brain->hidden_count, NULL)
                            : *out->hidden.start != 'n'))
        return false;
    if (!brain->body_count) return !out->used_controls && !out->has_hidden;
    if (!json_get(line, "body", &name)) return false;
    for (body *b = brain->bodies; b < brain->bodies + brain->body_count; b++)
        if (json_same(b->name, name)) out->acting = b;
    return out->acting
        && (!out->used_controls || out->used_controls == out->acting->control_count)
        && json_get(line, "choices", &choices) && read_choices(choices, out)
        && json_get(line, "clipped", &count)
        && json_integer(count, 0, MAX_COUNT, &out->clipped)
        && json_get(line, "absent", &count) && json_integer(count, 0, MAX_COUNT, &out->absent);
}

/* The file's bytes, in `scratch`; their number, or -1. */
static long read_state(seed_brain *brain, const char *path) {
    uint8_t digest[DIGEST_BYTES];
    long count = read_regular(path, brain->scratch, brain->scratch_bytes, false);
    if (count == -1)
        seed_fail(brain, "%s: %s; name a saved state", path, strerror(errno));
    else if (count == -2)
        seed_fail(brain, "%s is not a file: name a saved state", path);
    else if (count < (long)START || memcmp(brain->scratch, STATE_MAGIC, MAGIC_BYTES))
        seed_fail(brain, "%s is no state of this brain: name one that save_state wrote", path);
    else {
        digest_of(brain, (size_t)count, digest);
        if (!memcmp(digest, brain->scratch + MAGIC_BYTES, DIGEST_BYTES)) return count;
        seed_fail(brain, "%s is damaged: its checksum is wrong; begin anew, or load another",
                  path);
    }
    return -1;
}

static int load_state(seed_brain *brain, const char *path) {
    fields all;
    span line, checksum;
    long count = read_state(brain, path);
    if (count < 0) return -1;
    const char *end = brain->scratch + count;
    const char *stop = (const char *)memchr(brain->scratch + START, '\n', (size_t)count - START);
    const char *numbers = end - brain->state_bytes;
    line.start = brain->scratch + START;
    line.end = stop ? stop : end;
    if (!stop || !json_is_whole(line) || !json_get(line, "brain", &checksum)
        || !json_same(checksum, brain->checksum)
        || (size_t)(end - stop) - 1 != brain->state_bytes) {
        seed_fail(brain, "%s is the state of another brain: load it with the file that saved it, "
                  "or begin anew", path);
        return -1;
    }
    if (!read_fields(brain, line, &all)) {
        seed_fail(brain, "%s has wrong fields: begin anew", path);
        return -1;
    }
    for (state *s = brain->states; s < brain->states + brain->state_count; s++) {
        memcpy(s->in, numbers, 4 * s->count);
        numbers += 4 * s->count;
    }
    if (!take_states(brain)) return -1;
    read_numbers(all.control, all.used_controls, brain->control);
    if (all.has_hidden) read_numbers(all.hidden, brain->hidden_count, brain->hidden);
    memcpy(brain->choices, all.choices, sizeof all.choices);
    brain->acting = all.acting;
    brain->used_controls = all.used_controls;
    brain->has_hidden = all.has_hidden;
    brain->has_chosen = all.has_chosen;
    brain->clipped = all.clipped;
    brain->absent = all.absent;
    return 0;
}

int seed_load_state(seed_brain *brain, const char *path) {
    if (!brain->can_save) return give_states(brain) ? 0 : -1;   /* which says what to do */
    locale_t before = uselocale(brain->locale);
    int code = load_state(brain, path);
    uselocale(before);
    return code;
}

static bool are_alike(const seed_brain *a, const seed_brain *b) {
    bool alike = a->is_explicit == b->is_explicit && a->state_count == b->state_count
        && a->body_count == b->body_count && a->hidden_count == b->hidden_count;
    for (int i = 0; alike && i < a->state_count; i++)
        alike = json_same(a->states[i].name, b->states[i].name)
            && a->states[i].count == b->states[i].count;
    for (int i = 0; alike && i < a->body_count; i++)
        alike = json_same(a->bodies[i].name, b->bodies[i].name)
            && json_same(a->bodies[i].codec, b->bodies[i].codec);
    return alike;
}

int seed_swap(seed_brain **brain, seed_brain **next) {
    seed_brain *from = *brain, *to = *next;
    if (!are_alike(from, to)) {
        seed_fail(from, "%.150s has other states or bodies than %.150s: begin anew with it",
                  to->name, from->name);
        return -1;
    }
    if (!give_states(from)) return -1;
    for (int i = 0; i < from->state_count; i++)
        memcpy(to->states[i].in, from->states[i].out, 4 * from->states[i].count);
    if (!take_states(to)) {
        seed_fail(from, "%.300s", to->error);
        return -1;
    }
    to->acting = from->acting ? to->bodies + (from->acting - from->bodies) : NULL;
    memcpy(to->control, from->control, 4 * (size_t)from->control_count);
    memcpy(to->hidden, from->hidden, 4 * (size_t)from->hidden_count);
    memcpy(to->choices, from->choices, sizeof to->choices);
    memcpy(to->action, from->action, sizeof to->action);
    to->used_controls = from->used_controls;
    to->has_hidden = from->has_hidden;
    to->has_chosen = from->has_chosen;
    to->absent = from->absent;
    to->clipped = from->clipped;
    *brain = to;
    *next = from;
    return 0;
}
