/* The threads of all kernels of a process. They are started once, and sleep between launches.
 *
 * run_in_team(threads, body, work) calls body(work, thread, members) for thread = 0 .. members - 1,
 * the first on the caller's thread, and returns when all have returned. Members are `threads`, or
 * as many as may be started: a limit of processes or memory may last. One launch has the team at a
 * time; others wait. After a fork the child starts threads of its own. They take no signals, and
 * the end of the process ends them: nothing waits for them.
 *
 * The memory of this text is never freed, because threads stand in it. */
#include "wait.h"
typedef unsigned long size_t;
typedef void (*body_fn_t)(void *work, int thread, int members);
typedef struct { unsigned long words[16]; } signals_t; /* as sigset_t has them */
typedef struct { long s, ns; } timespec_t;
int clock_gettime(int, timespec_t *);
int getpid(void);
int pthread_create(size_t *, const void *, void *(*)(void *), void *);
int pthread_detach(size_t);
int pthread_sigmask(int, const signals_t *, signals_t *);
int sigdelset(signals_t *, int);
int sigfillset(signals_t *);
long syscall(long, ...);

#if defined(__x86_64__)
#define FUTEX 202
#else
#define FUTEX 98
#endif
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#define CLOCK_MONOTONIC 1
#define SET_MASK 2
#define MEMBERS_BITS 8 /* of an order, for the number of members */
#define MAX_REST_NS 200000 /* for the rest of a launch, and */
#define MAX_SPIN_NS 20000  /* from one launch to the next, before a thread sleeps */
#define LOOKS_A_CLOCK 16
#define MAX_WAKES 0x7fffffff
#define PAGE 4096
#define LINE __attribute__((aligned(64)))

static struct {
    int holder;       /* process of the launch that has the team, or 0 */
    int process;      /* whose threads these are */
    int workers;      /* threads there are, but for the caller's */
    body_fn_t body;
    void *work;
    int order LINE;   /* changes with each launch; its last bits are its members */
    int sleepers;
    int running LINE; /* workers that have not returned from the body */
} team __attribute__((section(".data"), aligned(PAGE))); /* a write near code would stop it */

static long now_ns(void) {
    timespec_t t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.s * 1000000000 + t.ns;
}

/* The order that comes after the order `seen`. Who is done early stays awake for the rest of its
 * launch, as at a barrier: to be woken takes longer than most first phases. */
static int next_order(int seen) {
    long start = now_ns(), over = start;
    for (int looks = 1;; looks++) {
        int order = __atomic_load_n(&team.order, __ATOMIC_ACQUIRE);
        if (order != seen) return order;
        RELAX();
        if (looks % LOOKS_A_CLOCK) continue;
        long now = now_ns();
        if (now - start < MAX_REST_NS && __atomic_load_n(&team.holder, __ATOMIC_RELAXED))
            over = now;
        if (now - over < MAX_SPIN_NS) continue;
        __atomic_add_fetch(&team.sleepers, 1, __ATOMIC_SEQ_CST);
        syscall(FUTEX, &team.order, FUTEX_WAIT_PRIVATE, seen, 0);
        __atomic_sub_fetch(&team.sleepers, 1, __ATOMIC_SEQ_CST);
    }
}

static void *worker_main(void *number_and_order) {
    int me = (int)((size_t)number_and_order >> 32), order = (int)(size_t)number_and_order;
    for (;;) {
        order = next_order(order);
        int members = order & ((1 << MEMBERS_BITS) - 1);
        if (me >= members) continue;
        team.body(team.work, me, members);
        __atomic_sub_fetch(&team.running, 1, __ATOMIC_RELEASE);
    }
    return 0;
}

/* Whether there is one more. Signals that tell of a fault stay with the thread that has made it. */
static int start_worker(void) {
    static const int faults[] = {4, 5, 6, 7, 8, 11}; /* ILL, TRAP, ABRT, BUS, FPE, SEGV */
    signals_t all, before;
    size_t handle, argument = (size_t)(team.workers + 1) << 32 | (unsigned)team.order;
    sigfillset(&all);
    for (int i = 0; i < 6; i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SET_MASK, &all, &before);
    int failed = pthread_create(&handle, 0, worker_main, (void *)argument);
    pthread_sigmask(SET_MASK, &before, 0);
    if (failed) return 0;
    pthread_detach(handle);
    team.workers++;
    return 1;
}

/* A holder that is another process has left its copy in this one, as it was at the fork. */
static void take_team(void) {
    int process = getpid();
    for (int looks = 0;; looks++) {
        int holder = __atomic_load_n(&team.holder, __ATOMIC_RELAXED);
        if (holder != process && __atomic_compare_exchange_n(
                &team.holder, &holder, process, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) break;
        wait_a_little(looks);
    }
    if (team.process == process) return;
    team.process = process;
    team.workers = team.sleepers = 0;
}

void run_in_team(int threads, body_fn_t body, void *work) {
    take_team();
    while (team.workers < threads - 1 && start_worker()) {}
    int members = team.workers + 1 < threads ? team.workers + 1 : threads;
    team.body = body;
    team.work = work;
    __atomic_store_n(&team.running, members - 1, __ATOMIC_RELAXED);
    int number = (team.order >> MEMBERS_BITS) + 1;
    __atomic_store_n(&team.order, (int)((unsigned)number << MEMBERS_BITS) | members,
                     __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&team.sleepers, __ATOMIC_SEQ_CST))
        syscall(FUTEX, &team.order, FUTEX_WAKE_PRIVATE, MAX_WAKES);
    body(work, 0, members);
    for (int looks = 0; __atomic_load_n(&team.running, __ATOMIC_ACQUIRE); looks++)
        wait_a_little(looks);
    __atomic_store_n(&team.holder, 0, __ATOMIC_RELEASE);
}
