/* A preloaded library that records every change of files below a directory, for power_cut.py.
 *
 * RECORD_DIR is that directory and RECORD_LOG a file elsewhere. A record is a line of operation,
 * inode, offset, number of bytes, path and second path, with tabs between, and then that many
 * bytes: what was written to the file or, for "say", to standard output or error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
typedef char Path[PATH_MAX + NAME_MAX + 2];

static int is_recorded(const char *path) {
    const char *folder = getenv("RECORD_DIR");
    size_t n = folder ? strlen(folder) : 0;
    return n && getenv("RECORD_LOG") && !strncmp(path, folder, n) && (!path[n] || path[n] == '/');
}

/* The path of an open file; whether it is recorded. */
static int of_descriptor(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX);
    out[n < 0 ? 0 : n] = 0;
    return is_recorded(out);
}

/* The absolute path of one that is relative to a directory; whether it is recorded. */
static int resolve(int directory, const char *path, char *out) {
    Path base = "";
    if (path[0] != '/' && directory != AT_FDCWD) of_descriptor(directory, base);
    else if (path[0] != '/' && !getcwd(base, PATH_MAX)) return 0;
    snprintf(out, sizeof(Path), "%s%s%s", base, *base ? "/" : "", path);
    return is_recorded(out);
}

static unsigned long inode_at(const char *path) {
    struct stat status;
    return lstat(path, &status) ? 0 : status.st_ino;
}

static unsigned long inode_of(int fd) {
    struct stat status;
    return fstat(fd, &status) ? 0 : status.st_ino;
}

static void record(const char *operation, unsigned long inode, long offset, const char *path,
                   const char *second, void *data, size_t n) {
    char line[sizeof(Path) * 2 + 128];
    int size = snprintf(line, sizeof line, "%s\t%lu\t%ld\t%zu\t%s\t%s\n", operation, inode, offset,
                        n, path, second);
    struct iovec parts[] = {{line, size}, {data, n}};
    int log = syscall(SYS_openat, AT_FDCWD, getenv("RECORD_LOG"), O_WRONLY | O_APPEND, 0);
    if (log < 0 || syscall(SYS_writev, log, parts, 2) != (long)(size + n)) abort();
    syscall(SYS_close, log);
}

/* Records the bytes that a file has now where it was just written. */
static void record_data(int fd, long offset, long n) {
    Path path, link;
    if (n <= 0 || !of_descriptor(fd, path)) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int in = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY, 0);
    void *data = malloc(n);
    if (in < 0 || pread(in, data, n, offset) != n) abort();
    record("write", inode_of(fd), offset, path, "", data, n);
    free(data);
    syscall(SYS_close, in);
}

static void say(int fd, const void *data, long n) {
    Path path;
    if ((fd == 1 || fd == 2) && n > 0 && getenv("RECORD_LOG") && !of_descriptor(fd, path))
        record("say", 0, 0, "", "", (void *)data, n);
}

static void record_at(const char *operation, int directory, const char *path) {
    Path full;
    if (resolve(directory, path, full)) record(operation, inode_at(full), 0, full, "", 0, 0);
}

static void record_two(const char *operation, int from_fd, const char *from, int to_fd,
                       const char *to) {
    Path first, second;
    if (resolve(from_fd, from, first) | resolve(to_fd, to, second))
        record(operation, inode_at(second), 0, first, second, 0, 0);
}

/* Keeps errno, which the program is going to look at. */
#define AFTER(succeeded, statement) do { int kept = errno; if (succeeded) statement; errno = kept; \
    } while (0)

static int open_and_record(int directory, const char *path, int flags, mode_t mode) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "openat");
    Path full;
    int changes = flags & (O_CREAT | O_TRUNC) && resolve(directory, path, full);
    int is_new = changes && !inode_at(full);
    int fd = real(directory, path, flags, mode);
    AFTER(fd >= 0 && is_new, record("create", inode_of(fd), 0, full, "", 0, 0));
    AFTER(fd >= 0 && changes && !is_new && flags & O_TRUNC,
          record("truncate", inode_of(fd), 0, full, "", 0, 0));
    return fd;
}

#define OPEN(at) { va_list rest; va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest); \
    return open_and_record(at, path, flags, mode); }
int open(const char *path, int flags, ...) OPEN(AT_FDCWD)
int open64(const char *path, int flags, ...) OPEN(AT_FDCWD)
int openat(int at, const char *path, int flags, ...) OPEN(at)
int openat64(int at, const char *path, int flags, ...) OPEN(at)

#define POSITION(fd, n) (lseek(fd, 0, SEEK_CUR) - (n))
ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    ssize_t done = real(fd, data, n);
    AFTER(done > 0, { say(fd, data, done); record_data(fd, POSITION(fd, done), done); });
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    ssize_t done = real(fd, parts, count);
    AFTER(done > 0, record_data(fd, POSITION(fd, done), done));
    return done;
}
#define PWRITE(name, type) ssize_t name(int fd, const void *data, size_t n, type offset) { \
    REAL(name); ssize_t done = real(fd, data, n, offset); \
    AFTER(done > 0, record_data(fd, offset, done)); return done; }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
#define SENDFILE(name, type) ssize_t name(int to, int from, type *offset, size_t n) { \
    REAL(name); ssize_t done = real(to, from, offset, n); \
    AFTER(done > 0, record_data(to, POSITION(to, done), done)); return done; }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t n, unsigned flags) {
    REAL(copy_file_range);
    ssize_t done = real(from, in, to, out, n, flags);
    AFTER(done > 0, record_data(to, out ? *out - done : POSITION(to, done), done));
    return done;
}
#define TRUNCATE(name, type) int name(int fd, type size) { \
    REAL(name); int failed = real(fd, size); Path path; \
    AFTER(!failed && of_descriptor(fd, path), \
          record("truncate", inode_of(fd), size, path, "", 0, 0)); return failed; }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name) int name(int fd) { REAL(name); int failed = real(fd); Path path; \
    AFTER(!failed && of_descriptor(fd, path), \
          record("fsync", inode_of(fd), 0, path, "", 0, 0)); return failed; }
SYNC(fsync)
SYNC(fdatasync)

#define ONE(name, operation, at, ...) { REAL(name); int failed = real(__VA_ARGS__); \
    AFTER(!failed, record_at(operation, at, path)); return failed; }
int mkdir(const char *path, mode_t mode) ONE(mkdir, "mkdir", AT_FDCWD, path, mode)
int mkdirat(int at, const char *path, mode_t mode) ONE(mkdirat, "mkdir", at, at, path, mode)
int rmdir(const char *path) ONE(rmdir, "remove", AT_FDCWD, path)
int unlink(const char *path) ONE(unlink, "remove", AT_FDCWD, path)
int unlinkat(int at, const char *path, int flags) ONE(unlinkat, "remove", at, at, path, flags)

#define TWO(name, operation, from_fd, to_fd, ...) { REAL(name); int failed = real(__VA_ARGS__); \
    AFTER(!failed, record_two(operation, from_fd, from, to_fd, to)); return failed; }
int rename(const char *from, const char *to) TWO(rename, "rename", AT_FDCWD, AT_FDCWD, from, to)
int renameat(int from_fd, const char *from, int to_fd, const char *to)
    TWO(renameat, "rename", from_fd, to_fd, from_fd, from, to_fd, to)
int link(const char *from, const char *to) TWO(link, "link", AT_FDCWD, AT_FDCWD, from, to)
int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
    TWO(linkat, "link", from_fd, to_fd, from_fd, from, to_fd, to, flags)
