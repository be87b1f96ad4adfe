/* A brain of Seed Brain in C or C++: reads exported files as seed/runtime does, and gives its bits.
 *
 *     char error[SEED_ERROR_BYTES];
 *     seed_brain *brain = seed_open("brain.tflite", NULL, error);      NULL: read `error`
 *     const float *logits = seed_step(brain, 65);                      256 after one byte
 *     seed_begin(brain, NULL, 0);                                      an episode of its body
 *     const double *action = seed_act(brain, observation, count, NULL);
 *     seed_close(brain);
 *
 * A call that fails returns NULL or -1, seed_error(brain) says why in one line, and nothing has
 * changed. One brain is for one thread at a time. After seed_open nothing here allocates, locks or
 * opens a file, but seed_save_state and seed_load_state, which do the last. See docs/embedding.md.
 */
#ifndef SEED_BRAIN_H
#define SEED_BRAIN_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEED_ERROR_BYTES 400
#define SEED_LOGITS 256
typedef struct seed_brain seed_brain;

typedef struct {                 /* the body that acts; all 0 if the brain has none */
    int channels, parts;         /* numbers of an observation and of an action */
    int choices;                 /* of all parts of an action */
    double rate_hz;              /* ticks per second; 0: not said */
    const float *control;        /* logits of the last tick: 64 of its value, then of all choices */
    int control_count;           /* 0: no tick yet */
    long absent, clipped;        /* numbers of this episode: not finite; beyond their range */
} seed_body_info;

/* Opens a file and resets it. `library`: NULL for the libLiteRt.so that the dynamic loader finds,
 * or its path. `error`, which may be NULL, says why it returns NULL. */
seed_brain *seed_open(const char *path, const char *library, char error[SEED_ERROR_BYTES]);
void seed_close(seed_brain *brain);                  /* NULL is allowed */
const char *seed_error(const seed_brain *brain);     /* of the last call that failed */

int seed_reset(seed_brain *brain);                   /* the state before the first byte */
const float *seed_step(seed_brain *brain, int byte); /* SEED_LOGITS, until the next call */

/* Whether this machine computes what was verified where the file was exported: 16 steps. An
 * episode ends, and the state is a fresh one. `difference`: the largest of a logit, as a fraction
 * of their range. */
int seed_selftest(seed_brain *brain, double *difference);

/* An episode of a body begins; NULL: of the only one. It starts afresh, or with what the brain
 * remembers. */
int seed_begin(seed_brain *brain, const char *body, int keep_state);
seed_body_info seed_body(const seed_brain *brain);
/* The action, a number for each part, until the next call. A number of the observation that is not
 * finite is absent. The likeliest action, or with `noise`, a number for each choice that is added
 * to its logit, another: -log(-log(u)), u uniform in (0, 1), draws each by its probability. */
const double *seed_act(seed_brain *brain, const double *observation, size_t count,
                       const double *noise);

/* A file that seed/runtime reads too: written whole or not at all, and on the disk. */
int seed_save_state(seed_brain *brain, const char *path);
int seed_load_state(seed_brain *brain, const char *path);

/* *next, which another thread may have opened, continues with the state of *brain, and the two
 * change places: close the old one outside of the loop. Their states and bodies must be alike. */
int seed_swap(seed_brain **brain, seed_brain **next);

#ifdef __cplusplus
}
#endif
#endif
