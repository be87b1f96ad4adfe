/* A control loop in C or C++ with an exported brain; prints how long its ticks take.
 *
 *     clang -O2 step.c seed_*.c -o step -ldl -lm
 *     ./step brain.tflite [LIBRARY [TICKS [RATE_HZ]]]
 *
 * LIBRARY: the libLiteRt.so of the wheel ai-edge-litert, without it the one that the dynamic loader
 * finds. RATE_HZ 0: without pauses, which no robot ever sees. As SCHED_FIFO (chrt --fifo 50 ./step
 * ...) it keeps its memory in RAM too. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "seed_brain.h"

#define WARM_UP_TICKS 20
#define MAX_CHANNELS 512

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(int64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {}
}

/* Put your sensors and motors here. A brain without a body gets a byte. */
static int tick(seed_brain *brain, int channels, long i) {
    static double observation[MAX_CHANNELS];
    if (!channels) return seed_step(brain, (int)(i & 127)) ? 0 : -1;
    const double *action = seed_act(brain, observation, (size_t)channels, NULL);
    return action ? 0 : -1;   /* action[0], ...: to the motors */
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_quantiles(const char *name, int64_t *ns, long n) {
    qsort(ns, (size_t)n, sizeof *ns, by_value);
    printf("%s us: p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n", name, 1e-3 * (double)ns[n / 2],
           1e-3 * (double)ns[n * 99 / 100], 1e-3 * (double)ns[n * 999 / 1000],
           1e-3 * (double)ns[n - 1]);
}

static void print_memory(void) {
    char line[256];
    long kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "VmHWM: %ld", &kb);
    if (file) fclose(file);
    printf("resident: %.1f MB at most\n", 1e-3 * (double)kb);
}

/* Until all ticks are done or one fails: the number of those that ended after the next was due. */
static long loop(seed_brain *brain, long ticks, double rate_hz, int64_t *took, int64_t *woke) {
    int channels = seed_body(brain).channels;
    int64_t period = rate_hz > 0 ? (int64_t)(1e9 / rate_hz) : 0;
    long late = 0;
    for (long i = 0; i < WARM_UP_TICKS; i++)
        if (tick(brain, channels, i)) return -1;
    int64_t due = now_ns();
    for (long i = 0; i < ticks; i++) {
        due += period;
        if (period) sleep_until(due);
        int64_t start = now_ns();
        if (tick(brain, channels, i)) return -1;
        int64_t end = now_ns();
        took[i] = end - start;
        woke[i] = start - due;
        late += period && end > due + period;
    }
    return late;
}

int main(int argc, char **argv) {
    char error[SEED_ERROR_BYTES];
    long ticks = argc > 3 ? strtol(argv[3], NULL, 10) : 1000;
    if (argc < 2 || ticks < 1) {
        fprintf(stderr, "usage: step FILE [LIBRARY [TICKS [RATE_HZ]]]\n");
        return 2;
    }
    int64_t before = now_ns();
    seed_brain *brain = seed_open(argv[1], argc > 2 && *argv[2] ? argv[2] : NULL, error);
    if (!brain) {
        fprintf(stderr, "%s\n", error);
        return 2;
    }
    printf("open ms: %.1f\n", 1e-6 * (double)(now_ns() - before));
    int is_real_time = sched_getscheduler(0) == SCHED_FIFO;
    if (is_real_time && mlockall(MCL_CURRENT | MCL_FUTURE)) perror("its memory is not locked");
    double rate_hz = argc > 4 ? strtod(argv[4], NULL) : seed_body(brain).rate_hz;
    int64_t *took = (int64_t *)calloc((size_t)ticks, sizeof *took);
    int64_t *woke = (int64_t *)calloc((size_t)ticks, sizeof *woke);
    long late = took && woke ? loop(brain, ticks, rate_hz, took, woke) : -1;
    if (late < 0) {
        fprintf(stderr, "%s\n", took && woke ? seed_error(brain) : "no memory: fewer ticks");
        return 2;
    }
    printf("ticks: %ld at %g Hz%s, late: %ld\n", ticks, rate_hz, is_real_time ? ", FIFO" : "",
           late);
    print_quantiles("tick", took, ticks);
    if (rate_hz > 0) print_quantiles("woken after", woke, ticks);
    print_memory();
    seed_close(brain);
    free(took);
    free(woke);
    return 0;
}
