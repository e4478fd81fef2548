// Models with holes: offsets past 2^37, a tensor above 4 GiB, exports that stay sparse and have the
// bytes of dense ones. Their files take no disk where the file system has holes, else skipped.
#include "private.h"
#include "export.h"
#include <signal.h>

enum { HIDDEN = 128, FF = 256, SMALL = 2048, DISK = 8 << 20 };
#define LARGE ((uint64_t)1 << 28) // tokens: an embedding of 2^37 bytes

static const struct {
    const char *name;
    uint64_t rows, cols; // rows 0: of the embedding; cols 0: a norm
    bool filled;
} parts[] = {
    {"token_embd", 0, HIDDEN, false},       {"blk.0.attn_norm", HIDDEN, 0, true},
    {"blk.0.attn_q", HIDDEN, HIDDEN, true}, {"blk.0.attn_k", HIDDEN, HIDDEN, true},
    {"blk.0.attn_v", HIDDEN, HIDDEN, true}, {"blk.0.attn_output", HIDDEN, HIDDEN, true},
    {"blk.0.ffn_norm", HIDDEN, 0, true},    {"blk.0.ffn_gate", FF, HIDDEN, false},
    {"blk.0.ffn_up", FF, HIDDEN, false},    {"blk.0.ffn_down", HIDDEN, FF, true},
    {"output_norm", HIDDEN, 0, true},
};
enum { N_PARTS = sizeof parts / sizeof *parts };

static float number(size_t part, uint64_t i) {
    return (float)((i * 7 + part * 31) % 61) / 32 - 0.9f;
}

static void put_head(fci_keys *k, uint64_t vocab) {
    static const char arch[] = "llama";
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {{"llama.block_count", 1},          {"llama.context_length", 64},
                  {"llama.embedding_length", HIDDEN}, {"llama.feed_forward_length", FF},
                  {"llama.attention.head_count", 4}};
    fci_keys keys;
    memset(&keys, 0, sizeof keys);
    keys.b.c = k->b.c;
    fci_keys_str(&keys, "general.architecture", fci_s(arch));
    for (size_t i = 0; i < 5; i++) fci_keys_u32(&keys, counts[i].key, counts[i].value);
    fci_keys_f32(&keys, "llama.attention.layer_norm_rms_epsilon", 1e-5);
    fci_puts(&k->b, "GGUF");
    fci_keys_number(&k->b, 3, 4);
    fci_keys_number(&k->b, N_PARTS, 8);
    fci_keys_number(&k->b, keys.n, 8);
    fci_put(&k->b, keys.b.p, keys.b.n);
    fci_buffer_free(&keys.b);
    for (size_t i = 0, at = 0; i < N_PARTS; i++) {
        const uint64_t rows = parts[i].rows ? parts[i].rows : vocab, cols = parts[i].cols;
        char name[64];
        snprintf(name, sizeof name, "%s.weight", parts[i].name);
        fci_keys_text(&k->b, fci_s(name));
        fci_keys_number(&k->b, cols ? 2 : 1, 4);
        if (cols) fci_keys_number(&k->b, cols, 8);
        fci_keys_number(&k->b, rows, 8);
        fci_keys_number(&k->b, 0, 4);
        fci_keys_number(&k->b, at, 8);
        at += rows * (cols ? cols : 1) * 4;
    }
    while (k->b.n % 32) fci_put(&k->b, "", 1);
}

static bool put_numbers(int fd, uint64_t at, size_t part, uint64_t first, uint64_t n) {
    static unsigned char bytes[4 * FF * HIDDEN];
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = fci_float_bits(number(part, first + i));
        for (int k = 0; k < 4; k++) bytes[4 * i + (size_t)k] = (unsigned char)(bits >> 8 * k);
    }
    return pwrite(fd, bytes, 4 * n, (off_t)(at + 4 * first)) == (ssize_t)(4 * n);
}

// The embedding's first and last rows are filled, and the other tensors that are to be.
static bool make(const char *path, uint64_t vocab, const fci_context *c) {
    fci_keys k;
    memset(&k, 0, sizeof k);
    k.b.c = c;
    put_head(&k, vocab);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint64_t at = k.b.n;
    bool good = fd >= 0 && write(fd, k.b.p, k.b.n) == (ssize_t)k.b.n;
    for (size_t i = 0; i < N_PARTS; i++) {
        const uint64_t n = (parts[i].rows ? parts[i].rows : vocab) *
                           (parts[i].cols ? parts[i].cols : 1);
        if (parts[i].filled) good = good && put_numbers(fd, at, i, 0, n);
        if (!parts[i].rows)
            good = good && put_numbers(fd, at, i, 0, HIDDEN) &&
                   put_numbers(fd, at, i, n - HIDDEN, HIDDEN);
        at += 4 * n;
    }
    good = good && ftruncate(fd, (off_t)at) == 0;
    if (fd >= 0) close(fd);
    fci_buffer_free(&k.b);
    return good;
}

static uint64_t disk, size; // of the files counted

static int count(void *user, const char *name) {
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s%s%s", (const char *)user, *name ? "/" : "", name);
    if (stat(path, &st) != 0) return errno;
    if (S_ISDIR(st.st_mode)) return fci_platform_list(path, count, path);
    disk += (uint64_t)st.st_blocks * 512;
    size += (uint64_t)st.st_size;
    return 0;
}

static void measure(const char *path) {
    char name[128];
    disk = size = 0;
    snprintf(name, sizeof name, "%s", path);
    T_OK(count(name, "") == 0, "%s: %s", path, strerror(errno));
}

static bool same_floats(const fc_tensor *t, size_t part, uint64_t first, uint64_t n, bool zero) {
    float values[HIDDEN];
    for (uint64_t at = first; at < first + n; at += HIDDEN) {
        fci_number_decode(t->type, t->data, at, HIDDEN, values);
        for (size_t i = 0; i < HIDDEN; i++) {
            const float want = zero ? 0 : number(part, at + i);
            if (memcmp(&values[i], &want, sizeof want) != 0) return false;
        }
    }
    return true;
}

// Every number that is not far from both ends of the embedding.
static void check_numbers(const char *what, const char *path, uint64_t vocab) {
    fc_error err;
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s: %s", what, err.msg)) return;
    const fc_container *c = fc_model_container(m);
    const fc_tensor *embedding = fc_container_find(c, "token_embd.weight");
    T_OK(embedding && embedding->bytes == vocab * HIDDEN * 4, "%s: embedding", what);
    for (size_t i = 0; embedding && i < N_PARTS; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight", parts[i].name);
        const fc_tensor *t = fc_container_find(c, name);
        if (!T_OK(t != NULL, "%s: %s", what, name)) continue;
        const uint64_t n = t->bytes / 4;
        if (parts[i].rows)
            T_OK(same_floats(t, i, 0, n, !parts[i].filled), "%s: %s", what, name);
        else
            T_OK(same_floats(t, i, 0, HIDDEN, false) && same_floats(t, i, HIDDEN, HIDDEN, true) &&
                     same_floats(t, i, n - 2 * HIDDEN, HIDDEN, true) &&
                     same_floats(t, i, n - HIDDEN, HIDDEN, false), "%s: %s", what, name);
        if (i && vocab == LARGE) T_OK(t->offset > (uint64_t)1 << 37, "%s: %s", what, name);
    }
    fc_model_close(m);
}

static bool export_as(const char *path, fc_export_format format, fc_dtype type, const char *names) {
    fc_export_desc d;
    fc_error err;
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return false;
    fc_plan *plan = plan_of(m, names);
    memset(&d, 0, sizeof d);
    d.format = format;
    d.type = type;
    d.path = out;
    const fc_code code = fc_export(m, plan, &d, &err);
    fc_plan_free(plan);
    fc_model_close(m);
    return T_OK(code == FC_OK, "%s of %s: %s", fc_export_format_name(format), path, err.msg);
}

static void try_large(const fci_context *c) {
    if (!make(in, LARGE, c)) {
        t_skip("files above 2^37 bytes", strerror(errno));
        return;
    }
    measure(in);
    if (disk > DISK) {
        t_skip("files above 2^37 bytes", "no holes in this file system");
        return;
    }
    check_numbers("the model", in, LARGE);
    if (export_as(in, FC_EXPORT_GGUF, FC_DTYPE_INVALID, "")) {
        measure(out);
        T_OK(disk < DISK && size > LARGE * HIDDEN * 4, "%llu bytes of disk",
             (unsigned long long)disk);
        check_numbers("its export", out, LARGE);
        remove_tree(out);
    }
    if (export_as(in, FC_EXPORT_HF_MASKED, FC_DTYPE_INVALID, "ffn.0")) {
        measure(out);
        T_OK(disk < DISK && size > LARGE * HIDDEN * 4, "%llu bytes of disk",
             (unsigned long long)disk);
    }
    remove_tree(out);
}

// 32 bits have no addresses for it.
static void try_too_large(const fci_context *c) {
    fc_error err;
    if (!make(in, LARGE, c)) t_skip("files above 2^37 bytes", strerror(errno));
    else if (T_OK(!fc_model_open(in, NULL, &err), "a file above 2^37 bytes was opened"))
        T_OK(strstr(err.msg, "address"), "%s", err.msg);
}

static bool fill(const char *path) { // its holes
    size_t n;
    char *bytes = t_read(path, &n);
    FILE *f = bytes ? fopen(path, "wb") : NULL;
    bool good = f && fwrite(bytes, 1, n, f) == n;
    if (f) good = fclose(f) == 0 && good;
    free(bytes);
    return good;
}

// A model without holes gives the same bytes.
static void try_small(const fci_context *c) {
    static const struct {
        fc_export_format format;
        fc_dtype type;
        const char *names, *file;
    } cases[] = {{FC_EXPORT_GGUF, FC_DTYPE_INVALID, "", ""},
                 {FC_EXPORT_GGUF, FC_DTYPE_Q8_0, "", ""},
                 {FC_EXPORT_GGUF, FC_DTYPE_Q4_0, "", ""},
                 {FC_EXPORT_GGUF, FC_DTYPE_F16, "attn.0", ""},
                 {FC_EXPORT_GGUF_MASKED, FC_DTYPE_INVALID, "ffn.0", ""},
                 {FC_EXPORT_HF, FC_DTYPE_BF16, "", "/model.safetensors"},
                 {FC_EXPORT_HF_MASKED, FC_DTYPE_INVALID, "attn.0", "/model.safetensors"}};
    char path[160];
    T_OK(make(in, SMALL, c), "%s: %s", in, strerror(errno));
    check_numbers("a small model", in, SMALL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n[2] = {0, 1};
        char *bytes[2] = {NULL, NULL};
        for (int filled = 0; filled < 2; filled++) {
            if (!T_OK(make(in, SMALL, c) && (!filled || fill(in)), "%s", strerror(errno))) return;
            snprintf(path, sizeof path, "%s%s", out, cases[i].file);
            if (export_as(in, cases[i].format, cases[i].type, cases[i].names))
                bytes[filled] = t_read(path, &n[filled]);
            remove_tree(out);
        }
        T_OK(bytes[0] && bytes[1] && n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0,
             "case %d", (int)i);
        free(bytes[0]);
        free(bytes[1]);
    }
}

int main(void) {
    fci_context c;
    fci_context_basic(&c, NULL);
    own_paths("sparse");
    signal(SIGXFSZ, SIG_IGN); // then a limit of file sizes is an error
    try_small(&c);
    if (sizeof(size_t) >= 8) try_large(&c);
    else try_too_large(&c);
    remove_tree(in);
    return t_end("test_sparse");
}
