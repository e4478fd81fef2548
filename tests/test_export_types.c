// Exports of a model whose rows are whole blocks of every type, to each type that has an encoder:
// which type each matrix gets, what is read back, from both kinds of file.
#include "private.h"
#include "memory.h"
#include "tiny.h"
#include "export.h"

static char noted[256];

static void take_note(void *user, int level, const char *message) {
    (void)user;
    if (level == 0 && strstr(message, "matrices of each type"))
        snprintf(noted, sizeof noted, "%s", message);
}

static const struct {
    fc_dtype type;
    double error;         // most, of the logits, as a part of the largest
    uint64_t file_type;   // the key
    const char *note;     // of its matrices, NULL: none
} types[] = {
    {FC_DTYPE_F32, 2e-6, 0, NULL},      {FC_DTYPE_F16, 8e-4, 1, NULL},
    {FC_DTYPE_BF16, 8e-3, 32, NULL}, {FC_DTYPE_Q8_0, 2e-2, 7, NULL},
    {FC_DTYPE_Q4_0, 0.25, 2, "Q4_0: 8, Q6_K: 1"}, {FC_DTYPE_Q4_1, 0.25, 3, "Q4_1: 8, Q6_K: 1"},
    {FC_DTYPE_Q5_0, 0.15, 8, "Q5_0: 8, Q6_K: 1"}, {FC_DTYPE_Q5_1, 0.13, 9, "Q5_1: 8, Q6_K: 1"},
    {FC_DTYPE_Q4_K, 0.25, 14, "Q4_K: 8, Q6_K: 1"}, {FC_DTYPE_Q5_K, 0.1, 16, "Q5_K: 8, Q6_K: 1"},
    {FC_DTYPE_Q6_K, 0.05, 18, NULL},
};
enum { N_TYPES = sizeof types / sizeof *types };

static double largest(kept a) {
    double most = 0;
    for (size_t i = 0; i < a.n; i++) most = fmax(most, fabs((double)a.rows[i]));
    free(a.rows);
    return most;
}

// The file at `path` has the matrices in the type, close to those of m.
static void check(const char *what, fc_model *m, const char *path, int i) {
    fc_error err;
    uint64_t id = 99;
    fc_model *again = open_f32(path, &err);
    if (!T_OK(again != NULL, "%s: %s", what, err.msg)) return;
    const double d =
        apart(logits_of(m, NULL), logits_of(again, NULL)) / largest(logits_of(m, NULL));
    const fc_tensor *q = fc_container_find(again->container, "blk.0.attn_q.weight"),
                    *norm = fc_container_find(again->container, "blk.0.attn_norm.weight");
    const fci_kv *kv = fci_gguf_find(again->container, "general.file_type");
    T_OK(d <= types[i].error, "%s: logits differ by %g of the largest", what, d);
    T_OK(q && q->type == types[i].type && norm && norm->type == FC_DTYPE_F32, "%s: types", what);
    T_OK(kv && fci_kv_u64(kv, &id) && id == types[i].file_type, "%s: file_type %d", what, (int)id);
    fc_model_close(again);
}

static void export_to(const char *what, fc_model *m, const char *path, int i) {
    fc_error err;
    fc_export_desc to;
    memset(&to, 0, sizeof to);
    to.format = FC_EXPORT_GGUF;
    to.path = path;
    to.type = types[i].type;
    noted[0] = 0;
    if (T_OK(fc_export(m, NULL, &to, &err) == FC_OK, "%s: %s", what, err.msg))
        check(what, m, path, i);
    T_OK(types[i].note ? strstr(noted, types[i].note) != NULL : !noted[0], "%s: said \"%s\"", what,
         noted);
}

static fc_model *open_noted(const char *path, uint32_t threads, fc_error *err) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = threads;
    desc.env.log.fn = take_note;
    return fc_model_open(path, &desc, err);
}

// Writes the model's two files to `in`.
static void put_folder(const tiny *t) {
    char path[200];
    fci_platform_make_folder(in);
    snprintf(path, sizeof path, "%s/config.json", in);
    FILE *f = fopen(path, "wb");
    T_OK(f && fwrite(t->config, 1, strlen(t->config), f) == strlen(t->config), "%s", path);
    if (f) fclose(f);
    snprintf(path, sizeof path, "%s/model.safetensors", in);
    f = fopen(path, "wb");
    const size_t n = 8 + (t->n_header + 8) / 8 * 8 + 4 * t->n_data;
    T_OK(f && fwrite(t->file, 1, n, f) == n, "%s", path);
    if (f) fclose(f);
}

// Every family to every type: an export compares what it wrote with what the type makes of the
// model, number by number. The logits are another model's, but not far.
static void check_family(const char *name) {
    char path[128];
    fc_error err;
    snprintf(path, sizeof path, "tests/data/%s", name);
    fc_model *m = open_f32(path, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    for (int i = 0; i < N_TYPES; i++) {
        fc_export_desc to;
        memset(&to, 0, sizeof to);
        to.format = FC_EXPORT_GGUF;
        to.path = out;
        to.type = types[i].type;
        const fc_code code = fc_export(m, NULL, &to, &err);
        T_OK(code == FC_OK, "%s as %s: %s", name, fc_dtype_name(to.type), err.msg);
        fc_model *again = code ? NULL : open_f32(out, &err);
        if (!T_OK(again != NULL, "%s: %s", name, err.msg)) continue;
        const double d =
            apart(logits_of(m, NULL), logits_of(again, NULL)) / largest(logits_of(m, NULL));
        T_OK(d <= 1, "%s as %s: logits differ by %g of the largest", name, fc_dtype_name(to.type),
             d);
        fc_model_close(again);
    }
    fc_model_close(m);
}

int main(void) {
    static const char *const families[] = {
        "gemma", "gemma.gguf", "gemma2.gguf", "gemma3.gguf", "gpt2", "gpt2.gguf", "gpt_neox.gguf",
        "granite", "granite.gguf", "llama_bf16.gguf", "llama_q4_0.gguf", "mistral", "mixtral",
        "mixtral.gguf", "olmo2", "olmo2.gguf", "phi3", "phi3.gguf", "phi3_long.gguf", "qwen2",
        "qwen2.gguf", "qwen3", "qwen3.gguf", "stablelm", "stablelm.gguf", "starcoder2.gguf"};
    tiny t;
    fc_error err;
    own_paths("test_export_types");
    tiny_llama(&t, 1, 256, 64, 64, 64);
    for (size_t i = 0; i < t.n_slots; i++)
        for (size_t k = 0; k < t.slots[i].n && !strstr(t.slots[i].name, "norm"); k++)
            t.slots[i].at[k] *= 0.125f;
    fc_model *first = tiny_open(&t, 0, 1, &err);
    if (T_OK(first != NULL, "%s", err.msg)) put_folder(&t);
    fc_model_close(first);
    fc_model *m = open_noted(in, 2, &err);
    for (int i = 0; m && i < N_TYPES; i++) {
        char what[64];
        snprintf(what, sizeof what, "%s, from a directory", fc_dtype_name(types[i].type));
        export_to(what, m, out, i);
        if (i) continue;
        fc_model *gguf = NULL;
        T_OK(rename(out, back) == 0 && (gguf = open_noted(back, 1, &err)) != NULL, "%s", err.msg);
        for (int k = 1; gguf && k < N_TYPES; k++) {
            snprintf(what, sizeof what, "%s, from GGUF", fc_dtype_name(types[k].type));
            export_to(what, gguf, out, k);
        }
        fc_model_close(gguf);
    }
    T_OK(m != NULL, "%s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) check_family(families[i]);
    remove_tree(in);
    remove_tree(out);
    remove_tree(back);
    return t_end("export_types");
}
