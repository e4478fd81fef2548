// What all fuzzing targets share: the name of a target, what must hold, and an input that is read
// as numbers. tests/test_fuzz.c includes all targets and runs them on the files of
// tests/fuzz/corpus.
#ifndef FUZZ_H
#define FUZZ_H
#include "../private.h"
#include "../memory.h"

#ifdef FUZZ_REPLAY
#  define FUZZ_TARGET(name) static int fuzz_##name(const uint8_t *data, size_t size)
#else
#  define FUZZ_TARGET(name)                                                                        \
    static int fuzz_##name(const uint8_t *data, size_t size);                                      \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                                  \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {                                 \
        fuzz_##name(data, size);                                                                   \
        fuzz_next();                                                                               \
        return 0;                                                                                  \
    }                                                                                              \
    static int fuzz_##name(const uint8_t *data, size_t size)
#endif

#define FUZZ_MUST(x) ((x) ? (void)0 : fuzz_stop(#x, __FILE__, __LINE__, "no error asked for"))
#define FUZZ_GOOD(x, err) ((x) ? (void)0 : fuzz_stop(#x, __FILE__, __LINE__, (err).msg))

static char fuzz_now[512]; // the file that is run, where there is one

static void fuzz_stop(const char *what, const char *file, int line, const char *why) {
    fprintf(stderr, "%s:%d: %s: expected %s (%s)\n", file, line, fuzz_now, what, why);
    abort();
}

#if defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define FUZZ_ASAN 1
#  endif
#elif defined(__SANITIZE_ADDRESS__)
#  define FUZZ_ASAN 1
#endif
#if defined(FUZZ_ASAN) && !defined(FUZZ_REPLAY)
const char *__asan_default_options(void);
const char *__asan_default_options(void) { // of the sanitizer's own work, what costs most
    return "max_malloc_fill_size=0:quarantine_size_mb=16:malloc_context_size=8";
}
#endif
#ifdef FUZZ_ASAN
#  include <sanitizer/asan_interface.h>
#else
#  define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#  define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

// The library's memory is a stretch of this program's own: what is not given out, or was given
// back, is out of bounds, and used again only by the next run. So a run makes no system call.
enum { FUZZ_STRETCH = 1 << 24, FUZZ_GAP = 64 };
static struct fuzz_stretch {
    uint8_t *p;
    size_t used, kept, n_above; // from `kept` on it is this run's, which holds n_above pieces of it
} fuzz_own;

static void *fuzz_take(memory *m, size_t size) { // NULL where it does not fit
    struct fuzz_stretch *o = &fuzz_own;
    if (!o->p) {
        o->p = (uint8_t *)malloc(FUZZ_STRETCH + FUZZ_GAP);
        FUZZ_MUST(o->p != NULL);
        o->used = o->kept = FUZZ_GAP - (size_t)o->p % FUZZ_GAP;
        ASAN_POISON_MEMORY_REGION(o->p, FUZZ_STRETCH + FUZZ_GAP);
    }
    if (size > FUZZ_STRETCH - o->used || FUZZ_STRETCH - o->used - size < 2 * FUZZ_GAP) return NULL;
    void *p = o->p + o->used;
    o->used += (size + 2 * FUZZ_GAP - 1) / FUZZ_GAP * FUZZ_GAP;
    o->n_above++;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    m->live++;
    m->bytes += size;
    if (m->bytes > m->peak) m->peak = m->bytes;
    return p;
}

static bool fuzz_is_own(const void *p) {
    return p && fuzz_own.p && (uintptr_t)p - (uintptr_t)fuzz_own.p < FUZZ_STRETCH + FUZZ_GAP;
}

static void *fuzz_realloc(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    memory *m = (memory *)user;
    void *q = new_size ? fuzz_take(m, new_size) : NULL;
    if (!q && !fuzz_is_own(p)) return memory_realloc(user, p, old_size, new_size, align);
    if (!q && new_size) q = memory_realloc(user, NULL, 0, new_size, align);
    if (!q && new_size) return NULL;
    if (p && q) memcpy(q, p, old_size < new_size ? old_size : new_size);
    if (p && !fuzz_is_own(p)) memory_realloc(user, p, old_size, 0, align);
    else if (p) {
        ASAN_POISON_MEMORY_REGION(p, old_size);
        if ((size_t)((uint8_t *)p - fuzz_own.p) >= fuzz_own.kept) fuzz_own.n_above--;
        m->live--;
        m->bytes -= old_size;
    }
    return q;
}

// The run ends: what it still holds is kept.
static void fuzz_next(void) {
    struct fuzz_stretch *o = &fuzz_own;
    if (o->n_above) o->kept = o->used;
    o->used = o->kept;
    o->n_above = 0;
}

T_FN void fuzz_drop_all(void) {
    if (!fuzz_own.p) return;
    ASAN_UNPOISON_MEMORY_REGION(fuzz_own.p, FUZZ_STRETCH + FUZZ_GAP);
    free(fuzz_own.p);
    memset(&fuzz_own, 0, sizeof fuzz_own);
}

T_FN fc_env fuzz_env(memory *m) {
    fc_env env = memory_env(m);
    env.alloc.realloc = fuzz_realloc;
    env.par.n_threads = 1;
    return env;
}

// Files in memory that can be written, too. What was written last is `out`; commit makes it a file.
typedef struct fuzz_disk {
    memory files; // first: it is what the other functions get
    char *out;
    size_t n_out, size;
    char path[64];
} fuzz_disk;

T_FN int fuzz_create(void *user, const char *path, void **file) {
    fuzz_disk *d = (fuzz_disk *)user;
    for (size_t i = 0; i < d->files.n_files; i++) // what was there is written over
        if (d->out && d->files.files[i].data == d->out)
            d->files.files[i--] = d->files.files[--d->files.n_files];
    snprintf(d->path, sizeof d->path, "%s", path);
    d->n_out = 0;
    *file = d;
    d->files.live++;
    return 0;
}

T_FN int fuzz_put(void *user, void *file, const void *data, size_t length) {
    fuzz_disk *d = (fuzz_disk *)user;
    (void)file;
    if (d->n_out + length > d->size) {
        d->size = 2 * (d->n_out + length);
        d->out = (char *)realloc(d->out, d->size);
        FUZZ_MUST(d->out != NULL);
    }
    memcpy(d->out + d->n_out, data, length);
    d->n_out += length;
    return 0;
}

T_FN int fuzz_commit(void *user, void *file) {
    fuzz_disk *d = (fuzz_disk *)user;
    (void)file;
    d->files.live--;
    memory_add(&d->files, d->path, d->out, d->n_out);
    return 0;
}

T_FN void fuzz_discard(void *user, void *file) {
    (void)file;
    ((fuzz_disk *)user)->files.live--;
}

T_FN fc_env fuzz_disk_env(fuzz_disk *d) {
    fc_env env = fuzz_env(&d->files);
    env.io.user = d;
    env.io.create = fuzz_create;
    env.io.write = fuzz_put;
    env.io.commit = fuzz_commit;
    env.io.discard = fuzz_discard;
    return env;
}

T_FN void fuzz_disk_end(fuzz_disk *d) {
    free(d->out);
    d->out = NULL;
    d->size = 0;
    FUZZ_MUST(d->files.live == 0 && d->files.bytes == 0);
}

typedef struct fuzz_input { // its rest; zeros follow the end
    const uint8_t *p;
    size_t n;
} fuzz_input;

T_FN uint32_t fuzz_byte(fuzz_input *in) {
    if (!in->n) return 0;
    in->n--;
    return *in->p++;
}

T_FN size_t fuzz_below(fuzz_input *in, size_t n) { // 0 where n is 0
    size_t value = fuzz_byte(in);
    if (n > 256) value = value << 8 | fuzz_byte(in);
    return n ? value % n : 0;
}

// Numbers at which something may change: small ones as they are, then a table, then any.
T_FN uint64_t fuzz_number(fuzz_input *in) {
    static const uint64_t edges[] = {
        100, 127, 128, 129, 255, 256, 257, 511, 512, 1000, 1023, 1024, 4095, 4096, 4097, 32767,
        65535, 65536, 1 << 20, 1 << 24, 1 << 28, 1 << 30, 0x7fffffff, 0x80000000, 0xffffffff,
        0x100000000, 0x100000001, 0x1fffffffffffff, 0x20000000000000, 0x3fffffffffffffff,
        0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffffff8, 0xffffffffffffffff};
    const size_t n = sizeof edges / sizeof *edges;
    uint32_t first = fuzz_byte(in);
    if (first < 96) return first;
    if (first < 96 + 2 * n) return edges[(first - 96) / 2];
    uint64_t value = 0;
    for (uint32_t i = 0; i < (first & 7) + 1; i++) value = value << 8 | fuzz_byte(in);
    return value;
}

T_FN double fuzz_real(fuzz_input *in) {
    static const double edges[] = {0,     1,     -1,     0.5,  1e-3, 1e-4, 1e-5,  1e-6,
                                   1e-30, 1e-45, 1e-320, 1e3,  1e6,  1e15, 1e38,  1e39,
                                   1e308, -0.0,  -1e30,  2,    4,    8,    10000, 1.0001,
                                   0.999, 3.5,   1e9,    0.25, 16,   32};
    uint32_t first = fuzz_byte(in);
    if (first < sizeof edges / sizeof *edges) return edges[first];
    if (first == 253) return (double)NAN;
    if (first == 254) return (double)INFINITY;
    if (first == 255) return -(double)INFINITY;
    return ((double)first - 128) / 16;
}
#endif
