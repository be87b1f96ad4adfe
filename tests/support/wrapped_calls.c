/* For what is linked with --wrap, and not for libraries: counts the calls for memory, and lets
 * fsync fail. */
#include <errno.h>
#include <stddef.h>

long memory_calls;
int fsync_error;   /* 0: it works */

int __real_fsync(int file);
int __wrap_fsync(int file) {
    errno = fsync_error;
    return fsync_error ? -1 : __real_fsync(file);
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *memory);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size) { return memory_calls++, __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return memory_calls++, __real_calloc(n, size); }
void *__wrap_realloc(void *old, size_t size) { return memory_calls++, __real_realloc(old, size); }
void __wrap_free(void *memory) { memory_calls++, __real_free(memory); }
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    return memory_calls++, __real_posix_memalign(memory, alignment, size);
}
