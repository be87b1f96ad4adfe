/* A team of THREADS threads runs kernel_body in phases, which barriers end.
 *
 * The tiles of a phase are taken from a counter that the threads share. Which thread takes a tile
 * never changes a bit of the result: a tile has one owner, and partial sums are added in tile
 * order. */
#include "simd.h"
typedef unsigned long size_t;
int pthread_create(size_t *, const void *, void *(*)(void *), void *);
int pthread_join(size_t, void **);
int sched_yield(void);

#define MAX_PHASES 8
#define SPINS_BEFORE_YIELD 4000

typedef struct {
    int arrived, generation, next[MAX_PHASES]; /* next tile of each phase */
    const args_t *args;
} team_t;
typedef struct {
    team_t *team;
    int thread, phase;
} member_t;

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() __asm__ volatile("yield")
#endif

static void kernel_body(member_t *me, args_t a);

/* Ends a phase: all threads wait here until the last has arrived. */
INLINE void barrier(member_t *me) {
    team_t *team = me->team;
    if (++me->phase == MAX_PHASES) __builtin_trap();
    if (THREADS == 1) return;
    int generation = __atomic_load_n(&team->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == THREADS) {
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&team->generation, __ATOMIC_ACQUIRE) == generation;)
        if (++spins < SPINS_BEFORE_YIELD) RELAX(); else sched_yield();
}

INLINE int take_tile(member_t *me) {
    return __atomic_fetch_add(&me->team->next[me->phase], 1, __ATOMIC_RELAXED);
}

/* Runs the statement for i = 0 .. count-1, each i on the thread that takes it first; one loop a
 * phase. */
#define FOR_TILES(i, count) for (int i; (i = take_tile(me)) < (count);)

/* Runs the statement for each row tile; GROUP_TILES in a row are a group, which one thread takes
 * and goes through in order. */
#define FOR_GROUPED_TILES(tile) \
    FOR_TILES(group, GROUPS) \
        for (int tile = group * GROUP_TILES, end = MIN(tile + GROUP_TILES, ROW_TILES); \
             tile < end; tile++)

static void *member_main(void *member) {
    kernel_body(member, *((member_t *)member)->team->args);
    return 0;
}

/* The barrier needs THREADS arrivals, so a thread that cannot be created now (a process limit) is
 * tried again until it can. */
INLINE void run_team(const args_t *args) {
    team_t team;
    team.arrived = team.generation = 0;
    for (int i = 0; i < MAX_PHASES; i++) team.next[i] = 0;
    team.args = args;
    member_t members[THREADS];
    size_t handles[THREADS];
    for (int i = 0; i < THREADS; i++) {
        members[i].team = &team;
        members[i].thread = i;
        members[i].phase = 0;
    }
    for (int i = 1; i < THREADS; i++)
        while (pthread_create(&handles[i], 0, member_main, &members[i])) sched_yield();
    member_main(&members[0]);
    for (int i = 1; i < THREADS; i++) pthread_join(handles[i], 0);
}
