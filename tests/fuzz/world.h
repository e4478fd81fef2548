// A model made of an input: one of the models in tests/data, changed by fields. The input is a base
// and a list of changes: settings, tensors (type, shape, name, place), values in weights, the
// header's text. `fit` makes the tensors that the changed settings ask for, so that what runs is
// not only what was there. Weights are noise: small numbers in every type.
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H
#include "json.h"

#define FUZZ_KEYS 64
#define FUZZ_TENSORS 256
#define FUZZ_DATA ((size_t)384 << 10) // bytes of all tensors
#define FUZZ_LATER 16                 // changes to what has been written

typedef struct fuzz_key { // of GGUF metadata
    char name[72];
    uint32_t type, element_type;
    uint64_t count;
    size_t n;
    uint8_t value[96];
    const void *far; // where `value` is too small
} fuzz_key;

typedef struct fuzz_tensor {
    char name[FCI_NAME_MAX];
    size_t n; // of its name
    uint32_t rank;
    uint64_t shape[FINERCUT_MAX_RANK]; // slowest first
    fc_dtype type;
    uint64_t offset, bytes, moved; // `moved` is added to the offset that is written
} fuzz_tensor;

typedef struct fuzz_world {
    bool gguf;
    fc_dtype type; // of matrices that `fit` adds
    fuzz_key keys[FUZZ_KEYS];
    size_t n_keys;
    fuzz_tensor tensors[FUZZ_TENSORS];
    size_t n_tensors;
    uint64_t n_data;
    fuzz_text config, header, tokenizer, settings, generation; // JSON; but the first two n may be 0
    fuzz_input weights[FUZZ_LATER], raw[FUZZ_LATER];
    size_t n_weights, n_raw;
    bool unfit;    // `fit` is to do
    memory own;    // of the file, which is of exactly its size
    uint8_t *file;
    size_t n_file;
    fuzz_disk disk;
} fuzz_world;

typedef struct fuzz_base { // read once, and cut to two blocks where it has three
    const char *path;
    fc_container *container;
    fc_text config;
    fuzz_world *world;
} fuzz_base;

#define FUZZ_BASE(name) {"tests/data/" name, NULL, {0}, NULL}
static fuzz_base fuzz_bases[] = {
    FUZZ_BASE("llama_q4_0.gguf"), FUZZ_BASE("gemma2.gguf"), FUZZ_BASE("mixtral.gguf"),
    FUZZ_BASE("qwen3.gguf"), FUZZ_BASE("phi3.gguf"), FUZZ_BASE("gpt2.gguf"),
    FUZZ_BASE("gpt_neox.gguf"), FUZZ_BASE("stablelm.gguf"), FUZZ_BASE("olmo2.gguf"),
    FUZZ_BASE("granite.gguf"), FUZZ_BASE("starcoder2.gguf"), FUZZ_BASE("qwen2.gguf"),
    FUZZ_BASE("mistral"), FUZZ_BASE("mixtral"), FUZZ_BASE("qwen3_moe"), FUZZ_BASE("gemma2"),
    FUZZ_BASE("qwen2_window"), FUZZ_BASE("qwen3"), FUZZ_BASE("phi3_long"), FUZZ_BASE("gpt2"),
    FUZZ_BASE("gpt_neox"), FUZZ_BASE("stablelm"), FUZZ_BASE("smollm3"), FUZZ_BASE("olmo2"),
    FUZZ_BASE("granite"), FUZZ_BASE("starcoder2"), FUZZ_BASE("gemma3"), FUZZ_BASE("gemma3.gguf")};
#define FUZZ_N_BASES (sizeof fuzz_bases / sizeof *fuzz_bases)

static const struct fuzz_dtype {
    int gguf;
    const char *name;
} fuzz_dtypes[FC_DTYPE_COUNT] = {
    {-1, ""},
#define FUZZ_X(id, name, bits, block, gguf, st) {gguf, st},
    FINERCUT_DTYPES(FUZZ_X)
#undef FUZZ_X
};

static void fuzz_add(fuzz_text *t, const void *p, size_t n) {
    if (n > sizeof t->p - t->n) return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

static void fuzz_put_number(fuzz_text *t, uint64_t value, int bytes) {
    char p[8];
    for (int i = 0; i < bytes; i++) p[i] = (char)(value >> 8 * i & 255);
    fuzz_add(t, p, (size_t)bytes);
}

static void fuzz_put_text(fuzz_text *t, const char *s) {
    fuzz_add(t, s, strlen(s));
}

static void fuzz_put_digits(fuzz_text *t, uint64_t value) {
    char p[20];
    size_t i = sizeof p;
    for (p[--i] = (char)('0' + value % 10); value /= 10; p[--i] = (char)('0' + value % 10)) {}
    fuzz_add(t, p + i, sizeof p - i);
}

static uint8_t fuzz_noise[FUZZ_DATA]; // filled once

static void fuzz_make_noise(void) {
    uint32_t x = 1;
    for (size_t i = 0; i < FUZZ_DATA; i += 2) { // bf16 below 0.13, f16 from 1 to 1.5, f32 as bf16
        x = x * 1664525u + 1013904223u;
        uint32_t bits = (x >> 16 & 0x8000) | 0x3c00 | (x >> 12 & 0x1ff);
        fuzz_noise[i] = (uint8_t)bits;
        fuzz_noise[i + 1] = (uint8_t)(bits >> 8);
    }
}

static fc_text fuzz_tokenizers[8]; // read once

static void fuzz_key_set(fuzz_key *k, uint32_t type, const void *value, size_t n) { // little-endian
    k->type = type;
    k->count = 1;
    k->n = n < sizeof k->value ? n : sizeof k->value;
    k->far = NULL;
    memcpy(k->value, value, k->n);
}

static void fuzz_key_number(fuzz_key *k, uint32_t type, uint64_t value, double real) {
    uint8_t bytes[8];
    float f = (float)real;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (type == FCI_KV_F32) value = bits;
    if (type == FCI_KV_F64) memcpy(&value, &real, sizeof value);
    if (type == FCI_KV_BOOL) value &= 1;
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> 8 * i);
    fuzz_key_set(k, type, bytes, fci_gguf_kv_size(type));
}

static void fuzz_tensor_name(fuzz_tensor *t, const char *name) {
    const size_t n = strlen(name);
    t->n = n < sizeof t->name ? n : sizeof t->name - 1;
    memmove(t->name, name, t->n); // it may be its own
    t->name[t->n] = 0;
}

static void fuzz_world_begin(fuzz_world *w, const fuzz_base *b) {
    const fc_container *c = b->container;
    w->gguf = c->gguf;
    w->type = FC_DTYPE_BF16;
    w->n_keys = w->n_tensors = w->n_weights = w->n_raw = 0;
    w->config.n = w->header.n = w->tokenizer.n = w->settings.n = w->generation.n = 0;
    w->file = NULL;
    for (size_t i = 0; c->gguf && i < c->n_kvs && w->n_keys < FUZZ_KEYS; i++) {
        fuzz_key *k = &w->keys[w->n_keys++];
        const fci_kv *kv = &c->kvs[i];
        snprintf(k->name, sizeof k->name, "%s", kv->key.p);
        fuzz_key_set(k, kv->type, kv->data, (size_t)fci_min(kv->bytes, sizeof k->value));
        k->count = kv->count;
        k->element_type = kv->element_type;
        k->n = (size_t)kv->bytes;
        if (k->n > sizeof k->value) k->far = kv->data;
    }
    if (!c->gguf) fuzz_json_put(&w->config, 0, 0, b->config.bytes, b->config.length);
    for (size_t i = 0; i < c->n_tensors && w->n_tensors < FUZZ_TENSORS; i++) {
        fuzz_tensor *t = &w->tensors[w->n_tensors++];
        memset(t, 0, sizeof *t);
        fuzz_tensor_name(t, c->tensors[i].name);
        t->rank = c->tensors[i].rank;
        memcpy(t->shape, c->tensors[i].shape, sizeof t->shape);
        t->type = c->tensors[i].type;
    }
}

static void fuzz_world_cut(fuzz_world *w) {
    static const char *const counts[] = {"\"num_hidden_layers\":", "\"n_layer\":"};
    size_t n = 0;
    bool three = false;
    for (size_t i = 0; i < 2 && !w->gguf; i++) {
        w->config.p[w->config.n] = 0;
        char *p = strstr(w->config.p, counts[i]);
        if (p) p += strlen(counts[i]) + (p[strlen(counts[i])] == ' ');
        if (p && *p == '3') *p = '2', three = true;
    }
    for (size_t i = 0; i < w->n_keys; i++)
        if (strstr(w->keys[i].name, ".block_count") && w->keys[i].value[0] == 3)
            w->keys[i].value[0] = 2, three = true;
    for (size_t i = 0; i < w->n_tensors; i++)
        if (!three || !strstr(w->tensors[i].name, ".2.")) w->tensors[n++] = w->tensors[i];
    w->n_tensors = n;
}

static void fuzz_world_copy(fuzz_world *w, const fuzz_world *from) {
    w->gguf = from->gguf;
    w->type = from->type;
    w->n_keys = from->n_keys;
    w->n_tensors = from->n_tensors;
    memcpy(w->keys, from->keys, from->n_keys * sizeof *w->keys);
    memcpy(w->tensors, from->tensors, from->n_tensors * sizeof *w->tensors);
    w->n_weights = w->n_raw = 0;
    w->unfit = false;
    w->config.n = w->header.n = w->tokenizer.n = w->settings.n = w->generation.n = 0;
    fuzz_add(&w->config, from->config.p, from->config.n);
    w->file = NULL;
}

static fuzz_base *fuzz_base_open(size_t i) {
    fuzz_base *b = &fuzz_bases[i];
    char path[256];
    fc_error err;
    if (b->container) return b;
    if (!fuzz_noise[1]) fuzz_make_noise();
    b->container = fc_container_open(b->path, NULL, &err);
    FUZZ_MUST(b->container != NULL);
    snprintf(path, sizeof path, "%s/config.json", b->path);
    if (!b->container->gguf) FUZZ_MUST(fc_file_read(path, NULL, &b->config, &err) == FC_OK);
    b->world = (fuzz_world *)malloc(sizeof *b->world);
    FUZZ_MUST(b->world != NULL);
    fuzz_world_begin(b->world, b);
    fuzz_world_cut(b->world);
    return b;
}

T_FN void fuzz_world_forget(void) {
    for (size_t i = 0; i < 8; i++) fc_text_free(&fuzz_tokenizers[i]);
    for (size_t i = 0; i < FUZZ_N_BASES; i++) {
        fc_container_close(fuzz_bases[i].container);
        fc_text_free(&fuzz_bases[i].config);
        free(fuzz_bases[i].world);
        fuzz_bases[i].container = NULL;
    }
}

// ---- writing

static uint64_t fuzz_tensor_bytes(const fuzz_tensor *t) { // 0 where it is nothing to write
    uint64_t n = 1, block = fci_number_block(t->type);
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->shape[i] && n > FUZZ_DATA / t->shape[i]) return 0;
        n *= t->shape[i];
    }
    if (!block || !t->rank || t->shape[t->rank - 1] % block) return 0;
    return fci_number_bytes(t->type, n);
}

static void fuzz_layout(fuzz_world *w) {
    w->n_data = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        fuzz_tensor *t = &w->tensors[i];
        t->bytes = fuzz_tensor_bytes(t);
        if (w->n_data + t->bytes + 32 > FUZZ_DATA) t->bytes = 0;
        t->offset = w->n_data;
        w->n_data += w->gguf ? (t->bytes + 31) / 32 * 32 : t->bytes;
    }
}

static void fuzz_put_string(fuzz_text *t, const char *s) {
    fuzz_put_number(t, strlen(s), 8);
    fuzz_put_text(t, s);
}

static void fuzz_write_gguf(fuzz_world *w) {
    fuzz_text *t = &w->header;
    fuzz_json_put(t, 0, 0, "GGUF\3\0\0", 8);
    fuzz_put_number(t, w->n_tensors, 8);
    fuzz_put_number(t, w->n_keys, 8);
    for (size_t i = 0; i < w->n_keys; i++) {
        const fuzz_key *k = &w->keys[i];
        fuzz_put_string(t, k->name);
        fuzz_put_number(t, k->type, 4);
        if (k->type == FCI_KV_STRING) fuzz_put_number(t, k->n, 8);
        if (k->type == FCI_KV_ARRAY) {
            fuzz_put_number(t, k->element_type, 4);
            fuzz_put_number(t, k->count, 8);
        }
        fuzz_add(t, k->far ? k->far : k->value, k->n);
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        const fuzz_tensor *x = &w->tensors[i];
        fuzz_put_string(t, x->name);
        fuzz_put_number(t, x->rank, 4);
        for (uint32_t k = x->rank; k-- > 0;) fuzz_put_number(t, x->shape[k], 8);
        fuzz_put_number(t, (uint64_t)(int64_t)fuzz_dtypes[x->type].gguf, 4);
        fuzz_put_number(t, x->offset + x->moved, 8);
    }
    while (t->n % 32) fuzz_put_number(t, 0, 1);
}

static void fuzz_write_header(fuzz_world *w) { // of safetensors, without its length
    fuzz_text *h = &w->header;
    fuzz_put_text(h, "{");
    for (size_t i = 0; i < w->n_tensors; i++) {
        const fuzz_tensor *t = &w->tensors[i];
        fuzz_put_text(h, i ? ",\"" : "\"");
        fuzz_put_text(h, t->name);
        fuzz_put_text(h, "\":{\"dtype\":\"");
        fuzz_put_text(h, fuzz_dtypes[t->type].name);
        fuzz_put_text(h, "\",\"shape\":[");
        for (uint32_t k = 0; k < t->rank; k++) {
            if (k) fuzz_put_text(h, ",");
            fuzz_put_digits(h, t->shape[k]);
        }
        fuzz_put_text(h, "],\"data_offsets\":[");
        fuzz_put_digits(h, t->offset + t->moved);
        fuzz_put_text(h, ",");
        fuzz_put_digits(h, t->offset + t->moved + t->bytes);
        fuzz_put_text(h, "]}");
    }
    fuzz_put_text(h, "}");
}

static void fuzz_write_weights(fuzz_world *w, uint8_t *data, fuzz_input in) { // NaN, infinity ...
    static const uint32_t values[] = {0x7fc00000, 0xffc00000, 0x7f800000, 0xff800000, 0x7f7fffff,
                                      0xff7fffff, 1,          0x80000000, 0,          0x3f800000,
                                      0x7149f2ca, 0xf149f2ca, 0x0da24260, 0x477fe000, 0x5f000000};
    const fuzz_tensor *t = &w->tensors[fuzz_below(&in, w->n_tensors)];
    uint32_t bits = values[fuzz_below(&in, sizeof values / sizeof *values)];
    uint64_t width = t->type == FC_DTYPE_F32 ? 4 : t->type == FC_DTYPE_F64 ? 8 : 2;
    uint64_t n = t->bytes / width, first = 0, place = fuzz_byte(&in);
    if (t->type == FC_DTYPE_F16)
        bits = bits >> 16 & 0x8000 ? 0xfc00 : bits > 0x477f0000 ? 0x7c00 : bits & 0x3ff;
    else if (width == 2) bits >>= 16;
    if (!w->n_tensors || !n) return;
    if (place == 1) n = 1;
    else if (place == 2) first = n - 1, n = 1;
    else if (place > 2) {
        first = fuzz_below(&in, n < 65536 ? (size_t)n : 65536);
        n = fci_min(n - first, place - 2);
    }
    for (uint64_t i = first; i < first + n; i++)
        for (uint64_t k = 0; k < width; k++)
            data[t->offset + i * width + k] = (uint8_t)(bits >> 8 * (k % 4));
}

// The file of weights, then all files by their names.
static void fuzz_write(fuzz_world *w) {
    fuzz_text *h = &w->header;
    h->n = 0;
    fuzz_layout(w);
    if (w->gguf) fuzz_write_gguf(w);
    else fuzz_write_header(w);
    for (size_t i = 0; i < w->n_raw; i++) {
        fuzz_input in = w->raw[i];
        if (!w->gguf) fuzz_json_edit(h, &in);
        else h->p[fuzz_below(&in, h->n)] = (char)fuzz_byte(&in);
    }
    size_t front = w->gguf ? 0 : 8;
    w->n_file = front + h->n + (size_t)w->n_data;
    w->file = (uint8_t *)fuzz_realloc(&w->own, NULL, 0, w->n_file, 64);
    FUZZ_MUST(w->file != NULL);
    for (size_t i = 0; i < front; i++) w->file[i] = (uint8_t)((uint64_t)h->n >> 8 * i);
    memcpy(w->file + front, h->p, h->n);
    memcpy(w->file + front + h->n, fuzz_noise, (size_t)w->n_data);
    for (size_t i = 0; i < w->n_weights; i++)
        fuzz_write_weights(w, w->file + front + h->n, w->weights[i]);
    memset(&w->disk, 0, sizeof w->disk);
    w->disk.files.map = 1;
    memory_add(&w->disk.files, w->gguf ? "m.gguf" : "m/model.safetensors", w->file, w->n_file);
    if (w->config.n) memory_add(&w->disk.files, "m/config.json", w->config.p, w->config.n);
    if (w->tokenizer.n)
        memory_add(&w->disk.files, "m/tokenizer.json", w->tokenizer.p, w->tokenizer.n);
    if (w->settings.n)
        memory_add(&w->disk.files, "m/tokenizer_config.json", w->settings.p, w->settings.n);
    if (w->generation.n)
        memory_add(&w->disk.files, "m/generation_config.json", w->generation.p, w->generation.n);
}

static const char *fuzz_world_path(const fuzz_world *w) {
    return w->gguf ? "m.gguf" : "m";
}

T_FN void fuzz_world_end(fuzz_world *w) {
    fuzz_realloc(&w->own, w->file, w->n_file, 0, 64);
    w->file = NULL;
    fuzz_disk_end(&w->disk);
}

// ---- changes

typedef struct fuzz_fitting { // what the settings ask for
    fuzz_world *w;
    const fc_model *m;
    fuzz_tensor *out;
    size_t n;
} fuzz_fitting;

static const fuzz_tensor *fuzz_find(const fuzz_world *w, const char *name) {
    const size_t n = strlen(name);
    for (size_t i = 0; i < w->n_tensors; i++)
        if (w->tensors[i].n == n && memcmp(w->tensors[i].name, name, n) == 0) return &w->tensors[i];
    return NULL;
}

static void fuzz_fit_add(fuzz_fitting *f, const char *name, uint64_t rows, uint64_t cols,
                         bool matrix) {
    const fuzz_tensor *old = fuzz_find(f->w, name);
    if (f->n == FUZZ_TENSORS) return;
    fuzz_tensor *t = &f->out[f->n++];
    memset(t, 0, sizeof *t);
    fuzz_tensor_name(t, name);
    t->rank = matrix ? 2 : 1;
    t->shape[0] = rows;
    t->shape[1] = matrix ? cols : 0;
    t->type = old ? old->type : matrix ? f->w->type : FC_DTYPE_F32;
    if (t->shape[t->rank - 1] % fci_number_block(t->type)) t->type = FC_DTYPE_BF16;
}

static void fuzz_fit_row(fuzz_fitting *f, const fci_tensor_row *row, uint32_t block,
                         uint32_t expert) {
    const fci_hyper *h = &f->m->hyper;
    const char *pattern = fci_tensor_pattern(f->m->architecture->names, row, f->w->gguf);
    const bool matrix = row->cols != FCI_DIM_NONE;
    uint64_t rows = fci_slot_dim(h, row->rows), cols = fci_slot_dim(h, row->cols);
    char name[FCI_NAME_MAX], bias[FCI_NAME_MAX];
    fci_tensor_name(pattern, block, expert, ".weight", name, sizeof name);
    fci_tensor_name(pattern, block, expert, ".bias", bias, sizeof bias);
    if ((row->need & FCI_TRAIT_MAYBE) && !fuzz_find(f->w, name)) return;
    if (matrix && fci_config_has(f->m, FCI_TRAIT_TRANSPOSED) && row->slot >= FCI_FIRST_BLOCK_SLOT)
        fuzz_fit_add(f, name, cols, rows, matrix);
    else fuzz_fit_add(f, name, rows, cols, matrix);
    if (row->bias && (f->w->gguf ? fuzz_find(f->w, bias) != NULL : fci_config_has(f->m, row->bias)))
        fuzz_fit_add(f, bias, rows, 0, false);
}

static void fuzz_fit_all(fuzz_fitting *f) {
    const fci_hyper *h = &f->m->hyper;
    if (h->n_blocks > 8 || h->n_experts > 16) return;
    for (const fci_tensor_row *row = fci_tensor_rows(); row->gguf; row++) {
        uint32_t times = row->slot >= FCI_FIRST_BLOCK_SLOT ? (uint32_t)h->n_blocks : 1;
        uint32_t experts = fci_weights_is_expert(row->slot) ? (uint32_t)h->n_experts : 1;
        for (uint32_t b = 0; b < times; b++)
            for (uint32_t e = 0; e < experts && fci_weights_needs(f->m, row, b); e++)
                fuzz_fit_row(f, row, b, e);
    }
}

// The settings are read by the library itself, before the weights would be; those of a directory do
// not depend on them.
static void fuzz_fit(fuzz_world *w) {
    static fuzz_tensor out[FUZZ_TENSORS];
    fuzz_fitting f = {w, NULL, out, 0};
    const size_t n_weights = w->n_weights, n_raw = w->n_raw, n_tensors = w->n_tensors;
    w->unfit = false;
    w->n_weights = w->n_raw = 0;
    if (!w->gguf && n_tensors) w->n_tensors = 1;
    fuzz_write(w);
    w->n_tensors = n_tensors;
    fc_env env = fuzz_disk_env(&w->disk);
    fc_error err;
    fci_context c;
    fci_context_basic(&c, &env);
    fc_model *m = (fc_model *)fci_alloc(&c, 1, sizeof *m, "model", &err);
    FUZZ_GOOD(m && fci_context_begin(&m->c, &env, &err) == FC_OK, err);
    m->arena.c = &m->c;
    m->path = fci_arena_copy(&m->arena, fci_s(fuzz_world_path(w)), &err);
    m->container = fci_container_open_with(&m->c, m->path, &err);
    f.m = m;
    if (m->container && fci_model_configure_all(m, &err) == FC_OK) fuzz_fit_all(&f);
    fc_model_close(m);
    fuzz_world_end(w);
    w->n_weights = n_weights;
    w->n_raw = n_raw;
    if (!f.n) return;
    memcpy(w->tensors, out, f.n * sizeof *out);
    w->n_tensors = f.n;
}

static void fuzz_family(fuzz_world *w, fuzz_input *in) { // the same settings under another name
    const size_t n_families = sizeof fci_architecture_table / sizeof(fci_architecture) - 1;
    const fci_architecture *a = fci_architectures() + fuzz_below(in, n_families);
    char text[64];
    if (!w->gguf) {
        int n = snprintf(text, sizeof text, "\"model_type\":\"%s\",", a->name);
        char *old = NULL;
        w->config.p[w->config.n < sizeof w->config.p ? w->config.n : sizeof w->config.p - 1] = 0;
        if ((old = strstr(w->config.p, "\"model_type\"")) != NULL) old[1] = '_';
        fuzz_json_put(&w->config, 1, 1, text, (size_t)n);
        return;
    }
    for (size_t i = 0; a->gguf && i < w->n_keys; i++) {
        fuzz_key *k = &w->keys[i];
        const char *dot = strchr(k->name, '.');
        if (strcmp(k->name, "general.architecture") == 0)
            fuzz_key_set(k, FCI_KV_STRING, a->gguf, strlen(a->gguf));
        else if (dot && strncmp(k->name, "general", 7) != 0 &&
                 strncmp(k->name, "tokenizer", 9) != 0) {
            snprintf(text, sizeof text, "%.16s%.44s", a->gguf, dot);
            snprintf(k->name, sizeof k->name, "%s", text);
        }
    }
}

static void fuzz_key_name(const fuzz_world *w, fuzz_input *in, char *name, size_t size) {
    static const char *const more[] = {"rope.scaling.type",
                                       "rope.scaling.factor",
                                       "rope.scaling.original_context_length",
                                       "rope.scaling.attn_factor",
                                       "rope.scaling.yarn_beta_fast",
                                       "rope.scaling.yarn_beta_slow",
                                       "attention.value_length",
                                       "attention.causal",
                                       "expert_shared_count",
                                       "expert_gating_func",
                                       "rope.scaling.yarn_log_multiplier",
                                       "attention.head_count_kv",
                                       "attention.key_length"};
    const size_t n_fields = sizeof fci_fields_table / sizeof(fci_field) - 1,
                 n_more = sizeof more / sizeof *more;
    size_t i = fuzz_below(in, n_fields + n_more), n = 0;
    const char *suffix = i < n_fields ? fci_fields()[i].gguf : more[i - n_fields];
    if (w->n_keys && w->keys[0].type == FCI_KV_STRING) n = fci_min(w->keys[0].n, 24);
    n = suffix ? strcspn(suffix, "|") : 0;
    snprintf(name, size, "%.*s.%.*s",
             w->n_keys && w->keys[0].type == FCI_KV_STRING ? (int)fci_min(w->keys[0].n, 24) : 0,
             w->n_keys ? (const char *)w->keys[0].value : "", (int)n, suffix ? suffix : "");
}

static void fuzz_key_array(fuzz_key *k, fuzz_input *in) { // of small numbers
    static const uint32_t types[] = {FCI_KV_U32, FCI_KV_BOOL, FCI_KV_F32, FCI_KV_I32, FCI_KV_U8};
    k->type = FCI_KV_ARRAY;
    k->element_type = types[fuzz_below(in, 5)];
    k->count = fuzz_below(in, 12);
    k->far = NULL;
    size_t size = fci_gguf_kv_size(k->element_type);
    k->n = (size_t)k->count * size;
    memset(k->value, 0, sizeof k->value);
    for (size_t i = 0; i < k->count; i++) k->value[i * size] = (uint8_t)fuzz_byte(in);
}

static void fuzz_key_edit(fuzz_world *w, fuzz_input *in) {
    static const uint32_t types[] = {FCI_KV_U32, FCI_KV_F32, FCI_KV_U64, FCI_KV_I32, FCI_KV_BOOL,
                                     FCI_KV_U16, FCI_KV_F64, FCI_KV_I64, FCI_KV_U8};
    uint32_t op = fuzz_byte(in) % 9;
    fuzz_key *k = &w->keys[fuzz_below(in, w->n_keys)];
    const char *word;
    if (op == 4 || op == 6) { // one more, a copy or of another name
        if (w->n_keys == FUZZ_KEYS) return;
        fuzz_key *added = &w->keys[w->n_keys++];
        *added = *k;
        if (op == 6) fuzz_key_name(w, in, added->name, sizeof added->name);
        if (op == 6)
            fuzz_key_number(added, types[fuzz_below(in, 9)], fuzz_number(in), fuzz_real(in));
        return;
    }
    if (!w->n_keys) return;
    switch (op) {
    case 0:
    case 8:
        if (fci_gguf_kv_size(k->type)) fuzz_key_number(k, k->type, fuzz_number(in), fuzz_real(in));
        break;
    case 1: fuzz_key_number(k, types[fuzz_below(in, 9)], fuzz_number(in), fuzz_real(in)); break;
    case 2:
        word = fuzz_words[fuzz_below(in, FUZZ_N_WORDS)];
        fuzz_key_set(k, FCI_KV_STRING, word, strlen(word));
        break;
    case 3: *k = w->keys[--w->n_keys]; break;
    case 5: fuzz_key_name(w, in, k->name, sizeof k->name); break;
    default: fuzz_key_array(k, in); break;
    }
}

static void fuzz_types(fuzz_world *w, fuzz_input *in) { // of all matrices
    w->type = (fc_dtype)fuzz_below(in, FC_DTYPE_COUNT);
    if (w->gguf ? fuzz_dtypes[w->type].gguf < 0 : !fuzz_dtypes[w->type].name[0])
        w->type = FC_DTYPE_F32;
    for (size_t i = 0; i < w->n_tensors; i++) {
        fuzz_tensor *t = &w->tensors[i];
        if (t->rank > 1 && t->shape[t->rank - 1] % fci_number_block(w->type) == 0)
            t->type = w->type;
    }
}

static void fuzz_tensor_edit(fuzz_world *w, fuzz_input *in) {
    uint32_t op = fuzz_byte(in) % 8;
    fuzz_tensor *t = &w->tensors[fuzz_below(in, w->n_tensors)], copy;
    const fuzz_tensor *other = &w->tensors[fuzz_below(in, w->n_tensors)];
    if (!w->n_tensors) return;
    switch (op) {
    case 0: t->type = (fc_dtype)fuzz_below(in, FC_DTYPE_COUNT); break;
    case 1: t->shape[fuzz_below(in, t->rank)] = fuzz_number(in); break;
    case 2: t->rank = (uint32_t)fuzz_below(in, FINERCUT_MAX_RANK); break;
    case 3: fuzz_tensor_name(t, other->name); break;
    case 4: *t = w->tensors[--w->n_tensors]; break;
    case 5: // one more
        if (w->n_tensors == FUZZ_TENSORS) break;
        copy = *t;
        fuzz_tensor_name(&copy, other->name);
        w->tensors[w->n_tensors++] = copy;
        break;
    case 6: t->moved = fuzz_number(in); break;
    default: fuzz_types(w, in); break;
    }
}

static void fuzz_side_edit(fuzz_world *w, fuzz_input *in) { // what stands beside the weights
    fuzz_text *texts[] = {&w->tokenizer, &w->settings, &w->generation};
    fuzz_text *t = texts[fuzz_below(in, 3)];
    if (t->n) fuzz_json_edit(t, in);
}

// One change: a byte says of what kind, the next ones what.
static void fuzz_change(fuzz_world *w, fuzz_input *in) {
    const uint32_t kind = fuzz_byte(in) % 8;
    if (w->unfit && kind == 2) fuzz_fit(w);
    switch (kind) {
    case 0:
    case 1:
        if (w->gguf) fuzz_key_edit(w, in);
        else fuzz_json_edit(&w->config, in);
        break;
    case 2: fuzz_tensor_edit(w, in); break;
    case 3:
        if (w->n_weights < FUZZ_LATER) w->weights[w->n_weights++] = *in;
        for (int i = 0; i < 4; i++) fuzz_byte(in);
        break;
    case 4: fuzz_family(w, in); break;
    case 5:
        if (w->n_raw < FUZZ_LATER) w->raw[w->n_raw++] = *in;
        for (int i = 0; i < 5; i++) fuzz_byte(in);
        break;
    case 6: fuzz_side_edit(w, in); break;
    default: w->unfit = true; break;
    }
}

// The world of an input; its last bytes are the changes, at most 24.
T_FN fuzz_world *fuzz_world_make(fuzz_input *in) {
    static fuzz_world w;
    fuzz_world_copy(&w, fuzz_base_open(fuzz_below(in, FUZZ_N_BASES))->world);
    return &w;
}

// What stands beside the weights of a directory, from the corpus of fuzz_tokenizer; 0 is nothing.
T_FN void fuzz_world_tokenizer(fuzz_world *w, size_t which) {
    static const char *const names[] = {NULL,    "plain",  "smollm", "llama2",
                                        "gemma", "llama3", "gpt2",   "metaspace"};
    static const char settings[] =
        "{\"chat_template\":\"{{ a }}\",\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},"
        "\"add_bos_token\":true,\"auto_map\":{\"AutoTokenizer\":[\"x\",null]}}";
    static const char generation[] = "{\"eos_token_id\":[1,2],\"bos_token_id\":1}";
    char path[128];
    fc_error err;
    if (w->gguf || !which || which >= 8) return;
    fc_text *t = &fuzz_tokenizers[which];
    snprintf(path, sizeof path, "tests/fuzz/corpus/tokenizer/%s", names[which]);
    if (!t->bytes) FUZZ_MUST(fc_file_read(path, NULL, t, &err) == FC_OK && t->length > 2);
    const uint8_t *p = (const uint8_t *)t->bytes;
    size_t n = (size_t)(p[0] | p[1] << 8);
    fuzz_json_put(&w->tokenizer, 0, 0, t->bytes + 2, n < t->length - 2 ? n : t->length - 2);
    fuzz_json_put(&w->settings, 0, 0, settings, sizeof settings - 1);
    fuzz_json_put(&w->generation, 0, 0, generation, sizeof generation - 1);
}

T_FN void fuzz_world_change(fuzz_world *w, fuzz_input *in) {
    for (int i = 0; i < 24 && in->n; i++) fuzz_change(w, in);
    if (w->unfit) fuzz_fit(w);
    fuzz_write(w);
}

T_FN fc_model *fuzz_world_open(fuzz_world *w, const fc_par *par, fc_simd simd, uint64_t limit) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.env = fuzz_disk_env(&w->disk);
    if (par) desc.env.par = *par;
    desc.env.simd_max = simd;
    desc.memory_limit = limit;
    fc_model *m = fc_model_open(fuzz_world_path(w), &desc, &err);
    FUZZ_MUST((m != NULL) == (err.code == FC_OK));
    FUZZ_MUST(m || *err.msg);
    return m;
}

// What a text of tokens gives: rows of logits.
enum { FUZZ_ROWS = 20, FUZZ_VOCAB = 4096 };

typedef struct fuzz_rows {
    float logits[FUZZ_ROWS * FUZZ_VOCAB];
    size_t n, vocab;
} fuzz_rows;

static int fuzz_rows_take(void *user, const float *rows, size_t n_rows) {
    fuzz_rows *r = (fuzz_rows *)user;
    FUZZ_MUST(r->n + n_rows <= FUZZ_ROWS);
    memcpy(r->logits + r->n * r->vocab, rows, n_rows * r->vocab * sizeof *rows);
    r->n += n_rows;
    return 0;
}

T_FN fc_code fuzz_logits(fc_model *m, const fc_tokens *text, const uint8_t *mask,
                           fuzz_rows *rows) {
    fc_error err;
    rows->n = 0;
    rows->vocab = (size_t)m->hyper.vocab;
    fc_code code = fc_logits(m, text, mask, NULL, fuzz_rows_take, rows, &err);
    FUZZ_MUST(code == err.code && (code != FC_OK) == (*err.msg != 0));
    FUZZ_MUST(code || rows->n == text->starts[text->n_sequences]);
    return code;
}

// Equal in bits; of NaN, any.
T_FN bool fuzz_rows_same(const fuzz_rows *a, const fuzz_rows *b) {
    if (a->n != b->n || a->vocab != b->vocab) return false;
    for (size_t i = 0; i < a->n * a->vocab; i++)
        if (memcmp(&a->logits[i], &b->logits[i], sizeof(float)) != 0 &&
            !(isnan(a->logits[i]) && isnan(b->logits[i])))
            return false;
    return true;
}

// Too large a model of a small file would be a fault of its own; these only take long.
T_FN bool fuzz_is_slow(const fc_model *m) {
    const fci_hyper *h = &m->hyper;
    const uint64_t row = h->hidden + h->n_heads * h->head_dim + h->ff + h->expert_ff + h->vocab;
    return row > 4096 || h->n_blocks > 8;
}
#endif
