// Models larger than memory: what a wave reads ahead and gives back, and in which order; which
// sublayers stay; plans and answers of the same bits; limits of groups of processes.
#include "private.h"
#include "t.h"
#include "engine.h"

#if defined(__linux__) && !defined(FINERCUT_NO_POSIX)
#  include <sys/stat.h>
#endif

#define DATA "tests/data/"

// What was read ahead and given back, in order. Both are called by one thread at a time.
enum { MOST = 4096 };
typedef struct event {
    bool leaves;
    const void *p;
} event;
static event events[MOST];
static size_t n_events;

static void note(bool leaves, const void *p) {
    if (n_events == MOST) exit(2);
    events[n_events].leaves = leaves;
    events[n_events++].p = p;
}

static void on_read(const fc_model *m, const void *p, uint64_t n) {
    fci_disk_read(m, p, n);
    note(false, p);
}

static void on_leave(const fc_model *m, const void *p, uint64_t n) {
    fci_disk_leave(m, p, n);
    note(true, p);
}

// The place of an event of a matrix, or n_events; `from`: where to look.
static size_t when(bool leaves, const fci_matrix *w, size_t from) {
    while (from < n_events && !(events[from].leaves == leaves && events[from].p == w->data)) from++;
    return from;
}

static fc_model *open_model(const char *path) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.env.par.n_threads = 2;
    desc.compute = FC_COMPUTE_F32;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

// One wave with memory for `spare` bytes of weights; its last rows, which the caller frees.
static float *run(fc_model *m, uint64_t spare, const uint8_t *mask, size_t *stays) {
    enum { N = 12 };
    uint32_t ids[N];
    fci_engine e;
    fci_lane lane;
    fc_error err;
    for (uint32_t i = 0; i < N; i++) ids[i] = (i * i * 11 + i * 7 + 3) % m->config.vocab_size;
    memset(&lane, 0, sizeof lane);
    lane.ids = ids;
    lane.length = N;
    T_OK(open_engine(&e, m, N, N, 0, &err) == FC_OK, "%s", err.msg);
    e.disk.spare = spare;
    e.disk.read = on_read;
    e.disk.leave = on_leave;
    n_events = 0;
    T_OK(fci_wave_run(&e, &lane, 1, mask, &err) == FC_OK, "%s", err.msg);
    const size_t n = N * (size_t)m->hyper.hidden;
    float *x = (float *)malloc(n * sizeof *x);
    if (!x) exit(2);
    memcpy(x, e.x, n * sizeof *x);
    *stays = e.disk.stays;
    T_OK(!e.disk.reading, "nothing is being read after a wave");
    fci_engine_close(&e);
    return x;
}

static uint64_t head_bytes(const fc_model *m) {
    return m->output.rows * m->output.row_bytes;
}

// Every sublayer of the mask is read once, before the one before it is given back, and given back
// once, before the second after it is read; what stays is read and not given back.
static void test_order(const fc_model *m, const uint8_t *mask, size_t stays, const char *what) {
    const fci_matrix *before = NULL;
    for (size_t s = 0; s < 2 * m->hyper.n_blocks; s++) {
        const fci_disk_part part = fci_disk_sublayer(m, s);
        const fci_matrix *w = part.all[0];
        const size_t read = when(false, w, 0), left = when(true, w, 0);
        if (!mask[s]) {
            T_OK(read == n_events && left == n_events, "%s: %zu does not run", what, s);
            continue;
        }
        for (size_t i = 0; i < part.n; i++) {
            const size_t at = when(false, part.all[i], 0);
            T_OK(at < n_events && when(false, part.all[i], at + 1) == n_events,
                 "%s: part %zu of sublayer %zu is read once", what, i, s);
            const size_t gone = when(true, part.all[i], 0);
            T_OK(s < stays ? gone < n_events && when(true, part.all[i], gone + 1) == n_events
                           : gone == n_events,
                 "%s: part %zu of sublayer %zu is given back once, or stays", what, i, s);
            T_OK(s >= stays || at < gone, "%s: sublayer %zu goes after it came", what, s);
        }
        if (before && s <= stays) {
            const size_t gone = when(true, before, 0);
            T_OK(read < gone, "%s: sublayer %zu is read before the last one is given back", what,
                 s);
            T_OK(gone < left, "%s: sublayer %zu goes after the last one", what, s);
        }
        before = w;
    }
}

// Experts are read where rows go to them, one ahead, and given back one by one.
static void test_experts(const fc_model *m, const uint8_t *mask, const char *what) {
    size_t used = 0, ahead = 0, blocks = 0;
    for (size_t b = 0; b < m->hyper.n_blocks; b++) {
        blocks += m->layers[b].experts && mask[2 * b + 1];
        for (size_t x = 0; m->layers[b].experts && x < m->hyper.n_experts; x++) {
            const fci_disk_part part = fci_disk_expert(&m->layers[b].experts[x]);
            const size_t read = when(false, part.all[0], 0), gone = when(true, part.all[0], 0);
            T_OK(read == n_events || read < gone, "%s: an expert goes after it came", what);
            T_OK(read == n_events || gone < n_events, "%s: what is read is given back", what);
            T_OK(gone == n_events || when(true, part.all[0], gone + 1) == n_events,
                 "%s: an expert is given back once", what);
            used += gone < n_events;
            ahead += read < n_events;
        }
    }
    T_OK(used >= 2 * blocks && ahead + blocks == used,
         "%s: of %zu experts all but the first of each block were read ahead, got %zu", what, used,
         ahead);
}

static size_t last_of(const uint8_t *mask, size_t n) { // the last below n that runs
    while (n > 0 && !mask[n - 1]) n--;
    return n - 1;
}

static void test_waves(const char *path) {
    fc_model *m = open_model(path);
    uint8_t all[64], some[64];
    size_t stays, n;
    if (!m) return;
    n = 2 * (size_t)m->hyper.n_blocks;
    memset(all, 1, sizeof all);
    memcpy(some, all, sizeof some);
    some[1] = some[n - 1] = 0;
    for (int masked = 0; masked < 2; masked++) {
        const uint8_t *mask = masked ? some : all;
        float *fits = run(m, UINT64_MAX, mask, &stays);
        const size_t bytes = 12 * (size_t)m->hyper.hidden * sizeof *fits;
        T_OK(stays == 0 && n_events == 0, "%s: nothing is read ahead where all fits", path);
        float *x = run(m, 0, mask, &stays);
        T_OK(stays > last_of(mask, n), "%s: nothing stays, got %zu", path, stays);
        T_OK(memcmp(x, fits, bytes) == 0, "%s: the same bits without memory", path);
        test_order(m, mask, n, path);
        test_experts(m, mask, path);
        free(x);
        // room for the head, two at work, and the last sublayer that runs
        uint64_t most = 0, last = 0;
        const size_t at = last_of(mask, n);
        for (size_t s = 0; s < n; s++) {
            const uint64_t own = m->layers[s / 2].n_bytes[s % 2];
            if (!mask[s]) continue;
            most = fci_max(most, m->layers[s / 2].experts && s % 2 ? own / m->hyper.n_experts
                                                                    : own);
            last = own;
        }
        x = run(m, head_bytes(m) + 2 * most + last, mask, &stays);
        T_OK(stays <= at && stays > last_of(mask, at), "%s: only sublayer %zu stays, got %zu",
             path, at, stays);
        T_OK(memcmp(x, fits, bytes) == 0, "%s: the same bits with the last in memory", path);
        test_order(m, mask, stays, path);
        free(x);
        free(fits);
    }
    fc_model_close(m);
}

// ---- searches and answers

static fc_plan *prune(const char *path, uint64_t spare, fc_search search, char *hash) {
    enum { N = 4, LENGTH = 16 };
    uint32_t ids[N * LENGTH];
    size_t starts[N + 1];
    fc_model *m = open_model(path);
    fc_prune_desc d;
    fc_tokens t;
    fc_error err;
    if (!m) exit(2);
    if (spare) m->spare = spare;
    for (uint32_t i = 0; i < N * LENGTH; i++)
        ids[i] = (i * i * 5 + i * 3 + 1) % m->config.vocab_size;
    for (size_t i = 0; i <= N; i++) starts[i] = i * LENGTH;
    memset(&t, 0, sizeof t);
    memset(&d, 0, sizeof d);
    t.ids = ids;
    t.starts = starts;
    t.n_sequences = N;
    d.calibration = &t;
    d.search = search;
    d.remove = 3;
    fc_plan *plan = fc_prune(m, &d, &err);
    T_OK(plan != NULL, "%s: %s", path, err.msg);
    snprintf(hash, 32, "%s", fc_model_content(m));
    fc_model_close(m);
    return plan;
}

static void test_plans(const char *path) {
    char hashes[2][32];
    for (int search = 0; search < 3; search++) {
        const fc_search how = search == 0   ? FC_SEARCH_EXHAUSTIVE
                              : search == 1 ? FC_SEARCH_RACE
                                            : FC_SEARCH_CONFIDENT;
        fc_plan *a = prune(path, 0, how, hashes[0]), *b = prune(path, 1, how, hashes[1]);
        T_OK(strcmp(hashes[0], hashes[1]) == 0, "%s: one hash of the bytes", path);
        for (size_t i = 0; a && b && i < 3; i++)
            T_OK(a->steps[i].removed == b->steps[i].removed &&
                     memcmp(&a->steps[i].score, &b->steps[i].score, sizeof(double)) == 0,
                 "%s: step %zu: the same with memory for nothing", path, i);
        fc_plan_free(a);
        fc_plan_free(b);
    }
}

static void test_share(void) {
    fc_model *m = open_model(DATA "llama_f32.gguf");
    if (!m) return;
    const uint64_t file = m->config.file_bytes;
    m->memory_limit = 0;
    m->spare = file;
    fci_model_share(m);
    T_OK(m->memory_limit == 0, "no limit where the model fits");
    m->spare = file - 1;
    fci_model_share(m);
    T_OK(m->memory_limit == (file - 1) / 2, "half of the memory where it does not");
    m->memory_limit = 5;
    fci_model_share(m);
    T_OK(m->memory_limit == 5, "a limit that is given stays");
    fci_disk d = fci_disk_of(m, 0);
    T_OK(d.spare < file, "weights are short of memory");
    m->spare = file + 100;
    d = fci_disk_of(m, 100);
    T_OK(d.spare == UINT64_MAX, "they are not where all fits");
    d = fci_disk_of(m, 101);
    T_OK(d.spare < file, "buffers count");
    m->spare = 0;
    d = fci_disk_of(m, 101);
    T_OK(d.spare == UINT64_MAX, "an unknown size is enough");
    fc_model_close(m);
}

static void test_bytes(void) { // a model in memory never leaves it
    size_t size;
    char *data = t_read(DATA "llama_f32.gguf", &size);
    fc_memory_file file;
    fc_error err;
    memset(&file, 0, sizeof file);
    file.name = "m.gguf";
    file.data = data;
    file.size = size;
    fc_model *m = fc_model_open_memory(&file, 1, NULL, &err);
    if (T_OK(m != NULL, "%s", err.msg)) T_OK(m->spare == 0, "there is nothing to give back");
    fc_model_close(m);
    free(data);
}

// The last block is read from its first byte to its last, stored transposed too: a tool for
// addresses tells what is past it.
static void test_estimate(void) {
    fc_memory_file files[2] = {{"config.json", NULL, 0}, {"model.safetensors", NULL, 0}};
    char *texts[2], path[64];
    fc_error err;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, DATA "gpt2/%s", files[i].name);
        files[i].data = texts[i] = t_read(path, &files[i].size);
    }
    fc_model *m = fc_model_open_memory(files, 2, NULL, &err);
    if (T_OK(m != NULL, "%s", err.msg)) T_OK(fci_estimate_disk(m) >= 0, "seconds a byte");
    fc_model_close(m);
    for (int i = 0; i < 2; i++) free(texts[i]);
}

// ---- groups of processes

#if defined(__linux__) && !defined(FINERCUT_NO_POSIX)
static char folder[200];

static void put(const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f) exit(2);
    fputs(text, f);
    fclose(f);
}

static void drop(const char *name) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    remove(path);
}

// A key is found wherever it stands, though the text takes a part of the file only.
static void test_peek(void) {
    char path[300], text[32], file[200];
    snprintf(path, sizeof path, "%s/stat", folder);
    for (int at = 0; at < 120; at++) {
        snprintf(file, sizeof file, "%*s\nkey 123456\nke", at, "");
        put("stat", file);
        const char *found = fci_platform_peek(path, "\nkey ", text, sizeof text);
        T_OK(strcmp(found, "123456\nke") == 0, "a key at %d: \"%s\"", at, found);
        T_OK(!*fci_platform_peek(path, "\nkeys ", text, sizeof text), "no such key, %d", at);
    }
    T_OK(!*fci_platform_peek("/nowhere", "", text, sizeof text), "no file");
    drop("stat");
}

static void test_groups(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/finercut-disk-%ld", tmp ? tmp : "/tmp", (long)getpid());
    if (mkdir(folder, 0700) != 0) exit(2);
    test_peek();
    T_OK(fci_machine_group(folder, 2, true, 5000) == 5000, "no files, no limit");
    put("memory.max", "max\n");
    T_OK(fci_machine_group(folder, 2, true, 5000) == 5000, "max is no limit");
    put("memory.max", "4000\n");
    put("memory.current", "1500\n");
    put("memory.stat", "anon 700\nactive_file 300\ninactive_file 500\nslab 1\n");
    T_OK(fci_machine_group(folder, 2, false, 5000) == 4000, "a limit");
    T_OK(fci_machine_group(folder, 2, true, 5000) == 3300, "less what is used but cached files");
    T_OK(fci_machine_group(folder, 2, true, 3000) == 3000, "a lower limit above it");
    T_OK(fci_machine_group(folder, 2, true, 3500) == 3300, "little left of a higher limit");
    put("memory.limit_in_bytes", "2000\n");
    put("memory.usage_in_bytes", "1500\n");
    put("memory.stat", "inactive_file 1\ntotal_inactive_file 400\ntotal_active_file 600\n");
    T_OK(fci_machine_group(folder, 1, true, 5000) == 1500, "the first version's files");
    char *base = strrchr(folder, '/'), path[200], below[300];
    snprintf(path, sizeof path, "%s/not/there\nmore", base);
    snprintf(below, sizeof below, "%.*s", (int)(base - folder), folder);
    T_OK(fci_machine_groups(below, path, 1, false, 5000) == 2000, "groups above count");
    T_OK(fci_machine_groups(folder, "/elsewhere", 1, false, 5000) == 2000,
         "so does the mount itself, as in a container");
    drop("memory.max");
    drop("memory.current");
    drop("memory.stat");
    drop("memory.limit_in_bytes");
    drop("memory.usage_in_bytes");
    remove(folder);
}
#else
static void test_groups(void) {
    t_skip("groups of processes", "Linux has them");
}
#endif

int main(void) {
    static const char *const models[] = {DATA "llama_f32_bias", DATA "llama_q4_1.gguf",
                                         DATA "mixtral",        DATA "mixtral.gguf",
                                         DATA "gpt2",           DATA "gpt_neox"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) test_waves(models[i]);
    test_plans(DATA "llama_f32.gguf");
    test_plans(DATA "mixtral");
    test_share();
    test_bytes();
    test_estimate();
    test_groups();
    return t_end("test_disk");
}
