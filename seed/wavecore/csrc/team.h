/* A team of at most THREADS threads (thread_team.c) runs kernel_body in phases, which barriers end.
 *
 * The tiles of a phase are taken from a counter that the threads share. Which thread takes a tile
 * never changes a bit of the result: a tile has one owner, and partial sums are added in tile
 * order. */
#include "simd.h"
#include "wait.h"
void run_in_team(int threads, void (*body)(void *work, int thread, int members), void *work);

#define MAX_PHASES 8

typedef struct {
    int arrived, generation, next[MAX_PHASES]; /* next tile of each phase */
    const args_t *args;
} team_t;
typedef struct {
    team_t *team;
    int thread, members, phase;
} member_t;

static void kernel_body(member_t *me, args_t a);

/* Ends a phase: all threads wait here until the last has arrived. */
INLINE void barrier(member_t *me) {
    team_t *team = me->team;
    if (++me->phase == MAX_PHASES) __builtin_trap();
    if (THREADS == 1) return;
    int generation = __atomic_load_n(&team->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == me->members) {
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int looks = 0; __atomic_load_n(&team->generation, __ATOMIC_ACQUIRE) == generation; looks++)
        wait_a_little(looks);
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

static void member_main(void *team, int thread, int members) {
    member_t me = {team, thread, members, 0};
    kernel_body(&me, *me.team->args);
}

/* One thread needs no team, and is the slow twin of more. */
INLINE void run_team(const args_t *args) {
    team_t team;
    team.arrived = team.generation = 0;
    for (int i = 0; i < MAX_PHASES; i++) team.next[i] = 0;
    team.args = args;
    if (THREADS == 1) member_main(&team, 0, 1);
    else run_in_team(THREADS, member_main, &team);
}
