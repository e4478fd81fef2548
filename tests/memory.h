// A world for tests: named files in memory, an allocator that counts and fails when told, reads
// that fail when told. Include after finercut.h.
#ifndef MEMORY_H
#define MEMORY_H
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct memory_file {
    const char *path;
    const void *data;
    size_t size;
} memory_file;

enum { MEMORY_OUTPUTS = 64 };

typedef struct memory_output { // a file that was written
    char path[64];
    char *data;
    size_t size;
    int whole; // committed
} memory_output;

typedef struct memory {
    memory_file files[16];
    memory_output outputs[MEMORY_OUTPUTS];
    memory_file opened; // one of the outputs, read again
    size_t n_files;
    int map;            // files are mapped, as if by mmap
    long fail_alloc;    // the allocation that fails, from 1 on; 0: none
    int fail_always;    // and all that follow it
    long fail_read;     // the read that fails
    long fail_open, fail_write; // the same of opening, and of creating, writing and finishing
    long allocs, reads, opens, writes; // so far
    long grown;         // allocations that became larger
    long live;          // allocations and open files that were not given back
    size_t bytes, peak;
} memory;

static int memory_due(long n, long fail, int always) {
    return fail && (n == fail || (always && n > fail));
}

static void *memory_realloc(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    memory *m = (memory *)user;
    void *q = NULL;
    (void)align;
    if (new_size) {
        m->allocs++;
        if (memory_due(m->allocs, m->fail_alloc, m->fail_always)) return NULL;
#if defined(_WIN32)
        q = _aligned_malloc(new_size, 64);
#else
        if (posix_memalign(&q, 64, new_size)) q = NULL;
#endif
        if (!q) return NULL;
        if (p && new_size > old_size) m->grown++;
        if (p) memcpy(q, p, old_size < new_size ? old_size : new_size);
        m->live++;
        m->bytes += new_size;
        if (m->bytes > m->peak) m->peak = m->bytes;
    }
    if (p) {
#if defined(_WIN32)
        _aligned_free(p);
#else
        free(p);
#endif
        m->live--;
        m->bytes -= old_size;
    }
    return q;
}

static int memory_open(void *user, const char *path, void **file, uint64_t *size) {
    memory *m = (memory *)user;
    if (memory_due(++m->opens, m->fail_open, m->fail_always)) return EMFILE;
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].path, path) == 0) {
            *file = &m->files[i];
            *size = m->files[i].size;
            m->live++;
            return 0;
        }
    for (memory_output *o = m->outputs; o < m->outputs + MEMORY_OUTPUTS; o++)
        if (o->whole && strcmp(o->path, path) == 0) {
            m->opened.path = o->path;
            m->opened.data = o->data;
            m->opened.size = o->size;
            *file = &m->opened;
            *size = o->size;
            m->live++;
            return 0;
        }
    return ENOENT;
}

static int memory_read(void *user, void *file, void *buffer, uint64_t offset, size_t length) {
    memory *m = (memory *)user;
    const memory_file *f = (const memory_file *)file;
    if (memory_due(++m->reads, m->fail_read, m->fail_always) || offset > f->size ||
        length > f->size - offset)
        return EIO;
    memcpy(buffer, (const char *)f->data + offset, length);
    return 0;
}

static int memory_map(void *user, void *file, uint64_t length, const void **data) {
    memory *m = (memory *)user;
    (void)length;
    if (!m->map) return EINVAL;
    *data = ((const memory_file *)file)->data;
    return 0;
}

static void memory_unmap(void *user, void *file, const void *data, uint64_t length) {
    (void)user, (void)file, (void)data, (void)length;
}

static void memory_close(void *user, void *file) {
    (void)file;
    ((memory *)user)->live--;
}

static void memory_add(memory *m, const char *path, const void *data, size_t size) {
    m->files[m->n_files].path = path;
    m->files[m->n_files].data = data;
    m->files[m->n_files++].size = size;
}

static int memory_write_fails(memory *m) {
    return memory_due(++m->writes, m->fail_write, m->fail_always);
}

static void memory_drop(memory *m, memory_output *o) {
    free(o->data);
    memset(o, 0, sizeof *o);
    m->live--;
}

static int memory_create(void *user, const char *path, void **file) {
    memory *m = (memory *)user;
    memory_output *o = m->outputs;
    if (memory_write_fails(m)) return EACCES;
    while (o < m->outputs + MEMORY_OUTPUTS && o->path[0]) o++;
    if (o == m->outputs + MEMORY_OUTPUTS || strlen(path) >= sizeof o->path) return ENOSPC;
    strcpy(o->path, path);
    m->live++;
    *file = o;
    return 0;
}

static int memory_write(void *user, void *file, const void *data, size_t length) {
    memory_output *o = (memory_output *)file;
    char *p;
    if (memory_write_fails((memory *)user)) return ENOSPC;
    p = (char *)realloc(o->data, o->size + length + 1);
    if (!p) return ENOMEM;
    if (length) memcpy(p + o->size, data, length);
    o->data = p;
    o->size += length;
    return 0;
}

static int memory_commit(void *user, void *file) {
    memory *m = (memory *)user;
    memory_output *o = (memory_output *)file;
    if (memory_write_fails(m)) {
        memory_drop(m, o);
        return EIO;
    }
    for (memory_output *old = m->outputs; old < m->outputs + MEMORY_OUTPUTS; old++)
        if (old->whole && strcmp(old->path, o->path) == 0) memory_drop(m, old);
    o->whole = 1;
    return 0;
}

static void memory_discard(void *user, void *file) {
    memory_drop((memory *)user, (memory_output *)file);
}

// Lets the world be written to: outputs are kept until memory_forget.
static void memory_writable(fc_env *env) {
    env->io.create = memory_create;
    env->io.write = memory_write;
    env->io.commit = memory_commit;
    env->io.discard = memory_discard;
}

static void memory_forget(memory *m) {
    for (int i = 0; i < MEMORY_OUTPUTS; i++)
        if (m->outputs[i].whole) memory_drop(m, &m->outputs[i]);
}

static fc_env memory_env(memory *m) {
    fc_env env;
    (void)memory_add;
    (void)memory_writable;
    (void)memory_forget;
    memset(&env, 0, sizeof env);
    env.alloc.realloc = memory_realloc;
    env.io.open = memory_open;
    env.io.read_at = memory_read;
    env.io.map = memory_map;
    env.io.unmap = memory_unmap;
    env.io.close = memory_close;
    env.alloc.user = env.io.user = m;
    return env;
}
#endif
