/* What the files of this folder share; a robot's program includes seed_brain.h alone. */
#ifndef SEED_INTERNAL_H
#define SEED_INTERNAL_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "litert.h"
#include "seed_brain.h"

#ifdef __cplusplus
extern "C" {
#endif

/* seed_file.c */

#define DIGEST_BYTES 16
#define DIGEST_DIGITS 32

typedef struct {
    uint64_t h[8], count;
    size_t used;
    uint8_t block[128];
} blake2b;

void blake2b_begin(blake2b *hash);                   /* with DIGEST_BYTES and without a key */
void blake2b_add(blake2b *hash, const void *data, size_t count);
void blake2b_end(blake2b *hash, uint8_t digest[DIGEST_BYTES]);

typedef struct {
    const char *start, *end;
} span;

/* A whole JSON value; false if the text is none. */
bool json_is_whole(span text);
/* The next item of an object or array; *at is NULL before the first. `key` only of an object. */
bool json_next(span container, const char **at, span *key, span *value);
bool json_get(span object, const char *key, span *value);
int json_count(span container);
bool json_text(span value, const char *text);        /* whether it is that string */
bool json_same(span a, span b);
bool json_bool(span value, bool *number);
bool json_number(span value, double *number);        /* a finite one, in the locale "C" */
bool json_integer(span value, long low, long high, long *number);

/* The bytes of a regular file, their number: -1 with errno, -2 if it is no file, -3 if it is longer
 * than `max_bytes`, of which `is_start` reads as many. With `data` NULL only its size. */
long read_regular(const char *path, void *data, size_t max_bytes, bool is_start);
/* Whole or not at all; on the disk when this returns 0; else -1 with errno. */
int write_whole(const char *path, const void *data, size_t count);

/* The description of an exported file; NULL, or why it is refused. */
const char *description_of(const uint8_t *data, size_t count, span *description);

/* seed_open.c and seed_description.c. Numbers as in seed/runtime/acting.py. */
#define LEVELS 256
#define VALUE_LEVELS 64
#define MAX_PARTS 64
#define MAX_FILE_BYTES 0x7fffffffL  /* of a flatbuffer */
#define MAX_NUMBER 32               /* characters of a number in a saved state, with its comma */
#define QUOTED(text) (int)((text).end - (text).start - 2), (text).start + 1   /* for %.*s */

enum { INPUT, OUTPUT };
typedef struct {                    /* a signature of the file with its tensors */
    size_t index, count[2], used[2];
    const char **names[2];
    litert_tensor *types[2];
    void **buffers[2], **data[2];
} signature;

typedef struct {
    double low, high;
    bool is_log;
    int knots;
} channel;

typedef struct {
    span name, codec;               /* as they stand in the description */
    channel *channels;
    int channel_count, part_count, choice_count, rows;   /* rows: numbers that a tick reads */
    int sizes[MAX_PARTS];           /* choices of each part of an action */
    double *numbers;                /* of all choices, as the body takes them */
    double rate_hz;
    int weights_start, control_start, control_count, hidden;
} body;

typedef struct {
    span name;
    size_t count;
    float start;
    float *in, *out;                /* explicit: of step; else of load and save, if it has them */
} state;

struct seed_brain {
    char error[SEED_ERROR_BYTES], *name, *scratch;
    litert api;
    void *environment, *model, *compiled, *blocks;   /* blocks: of memory, a list */
    locale_t locale;                /* in which numbers have a point */
    uint8_t *data;
    size_t data_bytes, state_bytes, scratch_bytes;
    span description, checksum;
    bool is_explicit, can_save;
    int body_count, state_count, weights_count, control_count, hidden_count;
    body *bodies, *acting;
    state *states;
    signature step, reset, save, load;
    int32_t *token;
    float *present, *weights, *logits, *control_out, *hidden_out;
    /* Of the last tick. */
    bool has_chosen, has_hidden;
    int choices[MAX_PARTS], used_controls;
    float *control, *hidden;
    double action[MAX_PARTS];
    long absent, clipped;
};

__attribute__((format(printf, 2, 3)))
bool seed_fail(seed_brain *brain, const char *format, ...);   /* false */
bool seed_run(seed_brain *brain, signature *called);
/* Zeros, until the brain is closed; NULL, and an error, if there is no memory. */
void *seed_allocate(seed_brain *brain, size_t count, size_t bytes);
bool seed_read_description(seed_brain *brain);

#ifdef __cplusplus
}
#endif
#endif
