/* BLAKE2b (RFC 7693), JSON and files, for seed_open.c and seed_brain.c. */
#include "seed_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files are little-endian: this CPU is not"
#endif
#define MAX_DEPTH 32
#define CHECKSUM_KEY "{\"blake2b\":\""   /* what a description begins with */

static const uint64_t IV[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};
static const uint8_t SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static uint64_t rotated(uint64_t x, int bits) { return x >> bits | x << (64 - bits); }

static void mix(uint64_t *v, int i, uint64_t x, uint64_t y) {
    uint64_t *a = v + i % 4, *b, *c, *d;
    int shift = i / 4;   /* 0: a column; 1: a diagonal */
    b = v + 4 + (i + shift) % 4;
    c = v + 8 + (i + 2 * shift) % 4;
    d = v + 12 + (i + 3 * shift) % 4;
    *a += *b + x;
    *d = rotated(*d ^ *a, 32);
    *c += *d;
    *b = rotated(*b ^ *c, 24);
    *a += *b + y;
    *d = rotated(*d ^ *a, 16);
    *c += *d;
    *b = rotated(*b ^ *c, 63);
}

static void compress(blake2b *hash, bool is_last) {
    uint64_t v[16], m[16];
    memcpy(m, hash->block, sizeof m);
    memcpy(v, hash->h, sizeof hash->h);
    memcpy(v + 8, IV, sizeof IV);
    v[12] ^= hash->count;
    if (is_last) v[14] = ~v[14];
    for (int round = 0; round < 12; round++)
        for (int i = 0; i < 8; i++)
            mix(v, i, m[SIGMA[round % 10][2 * i]], m[SIGMA[round % 10][2 * i + 1]]);
    for (int i = 0; i < 8; i++) hash->h[i] ^= v[i] ^ v[i + 8];
}

void blake2b_begin(blake2b *hash) {
    memset(hash, 0, sizeof *hash);
    memcpy(hash->h, IV, sizeof IV);
    hash->h[0] ^= 0x01010000u ^ DIGEST_BYTES;
}

void blake2b_add(blake2b *hash, const void *data, size_t count) {
    const uint8_t *bytes = (const uint8_t *)data;
    while (count) {
        if (hash->used == sizeof hash->block) {   /* more follows: it is not the last */
            hash->count += hash->used;
            compress(hash, false);
            hash->used = 0;
        }
        size_t room = sizeof hash->block - hash->used, n = count < room ? count : room;
        memcpy(hash->block + hash->used, bytes, n);
        hash->used += n;
        bytes += n;
        count -= n;
    }
}

void blake2b_end(blake2b *hash, uint8_t digest[DIGEST_BYTES]) {
    hash->count += hash->used;
    memset(hash->block + hash->used, 0, sizeof hash->block - hash->used);
    compress(hash, true);
    memcpy(digest, hash->h, DIGEST_BYTES);
}

static const char *skip_space(const char *at, const char *end) {
    while (at < end && strchr(" \t\r\n", *at) && *at) at++;
    return at;
}

/* Behind the string that begins at `at`; NULL if it has no end. */
static const char *skip_text(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\') at++;
    return at < end ? at + 1 : NULL;
}

/* Behind the value that begins at `at`; NULL if there is none. */
static const char *skip_value(const char *at, const char *end, int depth) {
    const char *start = at;
    if (at >= end || depth > MAX_DEPTH) return NULL;
    if (*at == '"') return skip_text(at, end);
    if (*at != '{' && *at != '[') {   /* a number or a name: whoever reads it checks it */
        while (at < end && *at && !strchr(" \t\r\n,:]}[{\"", *at)) at++;
        return at > start ? at : NULL;
    }
    char close = *at == '{' ? '}' : ']';
    at = skip_space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    while (at) {
        if (close == '}') {
            at = at < end && *at == '"' ? skip_text(at, end) : NULL;
            at = at ? skip_space(at, end) : NULL;
            if (!at || at >= end || *at != ':') return NULL;
            at = skip_space(at + 1, end);
        }
        at = skip_value(at, end, depth + 1);
        at = at ? skip_space(at, end) : NULL;
        if (!at || at >= end) return NULL;
        if (*at == close) return at + 1;
        if (*at != ',') return NULL;
        at = skip_space(at + 1, end);
    }
    return NULL;
}

bool json_is_whole(span text) {
    const char *end = skip_value(text.start, text.end, 0);
    return end && skip_space(end, text.end) == text.end;
}

bool json_next(span container, const char **at, span *key, span *value) {
    const char *p, *end = container.end;
    bool is_object = *container.start == '{';
    if (!is_object && *container.start != '[') return false;
    p = skip_space(*at ? *at : container.start + 1, end);
    if (*at && p < end && *p == ',') p = skip_space(p + 1, end);
    if (p >= end || *p == '}' || *p == ']') return false;
    if (is_object) {
        key->start = p;
        key->end = p = skip_text(p, end);
        if (!p) return false;
        p = skip_space(skip_space(p, end) + 1, end);   /* the colon: the whole was checked */
    }
    value->start = p;
    *at = value->end = skip_value(p, end, 0);
    return *at != NULL;
}

bool json_get(span object, const char *name, span *value) {
    const char *at = NULL;
    span key, other;
    bool is_there = false;
    if (object.start >= object.end || *object.start != '{') return false;
    while (json_next(object, &at, &key, &other))
        if (json_text(key, name)) {   /* the last of two, as in Python */
            *value = other;
            is_there = true;
        }
    return is_there;
}

int json_count(span container) {
    const char *at = NULL;
    span key, value;
    int count = 0;
    while (count < INT_MAX && json_next(container, &at, &key, &value)) count++;
    return count;
}

bool json_text(span value, const char *text) {
    size_t count = strlen(text);
    return (size_t)(value.end - value.start) == count + 2 && *value.start == '"'
        && !memcmp(value.start + 1, text, count);
}

bool json_same(span a, span b) {
    size_t count = (size_t)(a.end - a.start);
    return (size_t)(b.end - b.start) == count && !memcmp(a.start, b.start, count);
}

static bool is_name(span value, const char *name) {
    return (size_t)(value.end - value.start) == strlen(name)
        && !memcmp(value.start, name, strlen(name));
}

bool json_bool(span value, bool *is_true) {
    *is_true = is_name(value, "true");
    return *is_true || is_name(value, "false");
}

bool json_number(span value, double *number) {
    char text[64], *end;
    size_t count = (size_t)(value.end - value.start);
    if (count == 0 || count >= sizeof text || !strchr("-0123456789", *value.start)) return false;
    memcpy(text, value.start, count);
    text[count] = 0;
    *number = strtod(text, &end);
    return !*end && isfinite(*number) && !strpbrk(text, "xX");
}

bool json_integer(span value, long low, long high, long *number) {
    double exact;
    if (!json_number(value, &exact) || memchr(value.start, '.', (size_t)(value.end - value.start))
        || memchr(value.start, 'e', (size_t)(value.end - value.start)) || exact < (double)low
        || exact > (double)high)
        return false;
    *number = (long)exact;
    return true;
}

/* Up to `count` bytes of an open file; -1 with errno. */
static long read_bytes(int file, void *data, size_t count) {
    size_t done = 0;
    while (done < count) {
        ssize_t n = read(file, (char *)data + done, count - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        done += (size_t)n;
    }
    return (long)done;
}

long read_regular(const char *path, void *data, size_t max_bytes, bool is_start) {
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return -1;
    long result = fstat(file, &status) ? -1 : !S_ISREG(status.st_mode) ? -2
        : (uint64_t)status.st_size <= max_bytes ? (long)status.st_size
        : is_start ? (long)max_bytes : -3;
    if (data && result >= 0) result = read_bytes(file, data, (size_t)result);
    int error = errno;
    close(file);
    errno = error;
    return result;
}

static int sync_directory_of(const char *path) {
    char folder[PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    int file = open(folder, O_RDONLY | O_CLOEXEC), failed = file < 0 || fsync(file);
    if (file >= 0) close(file);
    return failed ? -1 : 0;
}

int write_whole(const char *path, const void *data, size_t count) {
    char temporary[PATH_MAX];
    size_t done = 0;
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.partial", path) >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return -1;
    }
    unlink(temporary);   /* of a robot that lost its power */
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), failed = file < 0;
    while (!failed && done < count) {
        ssize_t n = write(file, (const char *)data + done, count - done);
        if (n < 0 && errno == EINTR) continue;
        failed = n <= 0;
        if (n > 0) done += (size_t)n;
    }
    failed = failed || fsync(file);
    int error = errno;
    if (file >= 0 && close(file) && !failed) {
        failed = 1;
        error = errno;
    }
    if (!failed && rename(temporary, path)) {
        failed = 1;
        error = errno;
    }
    if (failed) {
        if (file >= 0) unlink(temporary);
        errno = error;
        return -1;
    }
    return sync_directory_of(path);
}

const char *description_of(const uint8_t *data, size_t count, span *description) {
    const uint8_t *start = NULL;
    size_t key = strlen(CHECKSUM_KEY);
    uint8_t digest[DIGEST_BYTES];
    char digits[DIGEST_DIGITS + 1];
    uint32_t size;
    if (count < 8 || memcmp(data + 4, "TFL3", 4))
        return "is not a TFLite file: export a brain with python -m seed export";
    start = (const uint8_t *)memmem(data + 8, count - 8, CHECKSUM_KEY, key);
    if (!start) return "is not a brain of seed: export one with python -m seed export";
    const uint8_t *at = start + key, *end = data + count;
    static const char damaged[] = "is damaged: its checksum is wrong; copy it again";
    if ((size_t)(end - at) < DIGEST_DIGITS) return damaged;
    blake2b hash;
    blake2b_begin(&hash);
    blake2b_add(&hash, data, (size_t)(at - data));
    blake2b_add(&hash, "00000000000000000000000000000000", DIGEST_DIGITS);
    blake2b_add(&hash, at + DIGEST_DIGITS, (size_t)(end - at) - DIGEST_DIGITS);
    blake2b_end(&hash, digest);
    for (int i = 0; i < DIGEST_BYTES; i++) snprintf(digits + 2 * i, 3, "%02x", digest[i]);
    if (memcmp(at, digits, DIGEST_DIGITS)) return damaged;
    memcpy(&size, start - 4, sizeof size);   /* of the vector that holds it */
    description->start = (const char *)start;
    description->end = (const char *)start + size;
    if (size > (size_t)(end - start) || !json_is_whole(*description))
        return "has a description that is no JSON: export it again";
    return NULL;
}
