/* A preloaded library that fails or kills at chosen steps of a checkpoint's save.
 *
 * FAULT=operation:first:last:what;... where operation is write, fsync, previous, newest or directory
 * (the two renames and the directory's fsync after them), first..last are its occurrences, counted
 * from 1, and what is before or after (SIGKILL there), eio or enospc (the operation fails), or slow
 * (it takes two seconds).
 * FAULT_CLOCK=1 lets the wall clock jump ten years forth and back, each time it is read. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *operations[] = {"write", "fsync", "previous", "newest", "directory"};

/* Counts this occurrence of the operation; sets *what if there is a fault for it. */
static int due(const char *operation, const char **what) {
    static int occurrences[5];
    static char kind[16];
    char name[32];
    int first, last, count = 0;
    for (int i = 0; i < 5; i++)
        if (!strcmp(operation, operations[i])) count = ++occurrences[i];
    const char *fault = getenv("FAULT");
    for (; fault; fault = strchr(fault, ';') ? strchr(fault, ';') + 1 : NULL)
        if (sscanf(fault, "%31[^:]:%d:%d:%15[^;]", name, &first, &last, kind) == 4
            && !strcmp(name, operation) && count >= first && count <= last) return *what = kind, 1;
    return 0;
}

/* The name of an open file without its folders; "" if there is none. */
static const char *leaf_of(int fd) {
    static __thread char path[4096];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    const char *leaf = strrchr(path, '/');
    return leaf ? leaf + 1 : "";
}

static int is_partial(int fd) {   /* the temporary file of a checkpoint */
    const char *start = ".checkpoint.safetensors.";
    return !strncmp(leaf_of(fd), start, strlen(start));
}

#define FAULTY(operation, call)                                  \
    const char *what;                                            \
    if (!(operation) || !due(operation, &what)) return call;     \
    if (!strcmp(what, "before")) kill(getpid(), SIGKILL);        \
    if (!strcmp(what, "eio")) return errno = EIO, -1;            \
    if (!strcmp(what, "enospc")) return errno = ENOSPC, -1;      \
    if (!strcmp(what, "slow")) return sleep(2), call;            \
    long result = call;                                          \
    kill(getpid(), SIGKILL);                                     \
    return result;

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    FAULTY(is_partial(fd) ? "write" : 0, real(fd, parts, count))
}

static int is_renamed;   /* a journal's first line syncs the directory too, outside a save */

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    int ends_save = is_renamed && getenv("FAULT_DIR") && !strcmp(leaf_of(fd), getenv("FAULT_DIR"));
    if (ends_save) is_renamed = 0;
    FAULTY(is_partial(fd) ? "fsync" : ends_save ? "directory" : 0, real(fd))
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    static int (*real)(int, const char *, int, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "renameat");
    is_renamed |= strstr(to, "checkpoint.safetensors") != NULL;
    FAULTY(strstr(to, "checkpoint.previous") ? "previous"
           : strstr(to, "checkpoint.safetensors") ? "newest" : 0, real(from_fd, from, to_fd, to))
}

int clock_gettime(clockid_t id, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    static int calls;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, out);
    if (!failed && id == CLOCK_REALTIME && getenv("FAULT_CLOCK"))
        out->tv_sec += (++calls % 2 ? 1 : -1) * 315360000L;
    return failed;
}
