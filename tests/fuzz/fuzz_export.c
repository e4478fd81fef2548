// A model of any bytes, pruned and exported: where the export says that all went well, the result
// opens and gives the logits that the model gives without what was removed. GGUF files are written
// to memory; directories to a folder of the system, and read from one where files are copied.
//   build/fuzz/fuzz_export -max_total_time=60 -max_len=96 build/fuzz/corpus/fuzz_export
// tests/fuzz/corpus/export
#include "world.h"

static char export_root[128]; // "" where no folder can be made

static int export_remove_file(void *user, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)user, name);
    if (fci_platform_is_folder(path)) {
        fci_platform_list(path, export_remove_file, path);
        fci_platform_remove(path, true);
    } else fci_platform_remove(path, false);
    return 0;
}

static void export_clear(void) { // all that is in the folder
    fci_platform_list(export_root, export_remove_file, export_root);
}

static void export_end(void) {
    if (!export_root[0]) return;
    export_clear();
    fci_platform_remove(export_root, true);
    export_root[0] = 0;
}

static const char *export_folder(void) {
    static const char *const roots[] = {"/dev/shm", "/tmp", "."};
    for (size_t i = 0; i < 3 && !export_root[0]; i++) {
        snprintf(export_root, sizeof export_root, "%s/fuzz-export.%ld", roots[i],
                 (long)(fci_platform_seconds() * 1e6) % 100000000);
        if (fci_platform_make_folder(export_root)) export_root[0] = 0;
        else atexit(export_end);
    }
    return export_root;
}

static void export_store(const fuzz_world *w) { // the world's files, in the folder
    char path[256];
    snprintf(path, sizeof path, "%s/m", export_root);
    if (!w->gguf) fci_platform_make_folder(path);
    for (size_t i = 0; i < w->disk.files.n_files; i++) {
        const memory_file *f = &w->disk.files.files[i];
        snprintf(path, sizeof path, "%s/%s", export_root, f->path);
        FILE *out = fopen(path, "wb");
        FUZZ_MUST(out && fwrite(f->data, 1, f->size, out) == f->size && fclose(out) == 0);
    }
}

// Sums may be made in another order where rows of q and k are.
static bool export_close(const fuzz_rows *a, const fuzz_rows *b, bool plain) {
    double most = 0, apart = 0;
    FUZZ_MUST(a->n == b->n && a->vocab == b->vocab);
    for (size_t i = 0; i < a->n * a->vocab; i++) {
        double x = (double)a->logits[i], y = (double)b->logits[i];
        if (!(fabs(x) < 1e30) || !(fabs(y) < 1e30)) {
            if (!plain) return true; // overflows here or there
            continue;
        }
        most = fabs(x) > most ? fabs(x) : most;
        apart = fabs(x - y) > apart ? fabs(x - y) : apart;
    }
    return apart <= 1e-3 * most + 1e-6;
}

typedef struct export_job {
    fuzz_world *w;
    fc_model *m;
    fc_plan *plan;
    fc_tokens text;
    fc_export_desc desc;
    bool real; // files of the system
    bool plain; // weights are noise
} export_job;

static fc_model *export_open(export_job *j, const char *path) {
    fc_model_desc open;
    fc_error err;
    memset(&open, 0, sizeof open);
    open.env = fuzz_disk_env(&j->w->disk);
    if (j->real) memset(&open.env.io, 0, sizeof open.env.io);
    return fc_model_open(path, &open, &err);
}

static void export_compare(export_job *j) {
    static fuzz_rows before, after;
    uint8_t mask[2 * 8];
    fc_error err;
    FUZZ_MUST(fc_plan_mask(j->plan, j->m, fc_plan_about(j->plan)->n_steps, mask, sizeof mask,
                           &err) == FC_OK);
    fc_model *again = export_open(j, j->desc.path);
    FUZZ_GOOD(again != NULL, err);
    fc_code code = fuzz_logits(j->m, &j->text, mask, &before);
    fc_code now = fuzz_logits(again, &j->text, NULL, &after);
    if (j->plain) FUZZ_MUST(code == now);
    if (!code && !now && j->desc.type == FC_DTYPE_INVALID)
        FUZZ_MUST(export_close(&before, &after, j->plain));
    fc_model_close(again);
}

static void export_model(export_job *j, fuzz_input *how) {
    fc_prune_desc desc;
    fc_error err;
    char path[256];
    memset(&desc, 0, sizeof desc);
    desc.calibration = &j->text;
    desc.search = FC_SEARCH_RANDOM;
    desc.candidates = (fc_candidates)fuzz_below(how, FC_CANDIDATES_COUNT);
    desc.remove = 1 + (uint32_t)fuzz_below(how, 3);
    desc.seed = fuzz_byte(how);
    static const fc_dtype types[] = {FC_DTYPE_INVALID, FC_DTYPE_INVALID, FC_DTYPE_F32, FC_DTYPE_F16,
                                     FC_DTYPE_BF16, FC_DTYPE_Q8_0};
    j->desc.type = types[fuzz_below(how, 6)];
    if (fuzz_byte(how) & 1) j->desc.shard_bytes = 1 + fuzz_number(how);
    snprintf(path, sizeof path, "%s/out", export_root);
    j->desc.path = j->real ? path : "out.gguf";
    j->plan = fc_prune(j->m, &desc, &err);
    if (j->plan && fc_export(j->m, j->plan, &j->desc, &err) == FC_OK) export_compare(j);
    fc_plan_free(j->plan);
}

FUZZ_TARGET(export) {
    static uint32_t ids[12];
    static size_t starts[2];
    fuzz_input in = {data, size};
    fuzz_world *w = fuzz_world_make(&in);
    uint8_t bytes[16];
    export_job j;
    memset(&j, 0, sizeof j);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = i < 10 ? (uint8_t)fuzz_byte(&in) : 0;
    fuzz_input how = {bytes, sizeof bytes};
    fuzz_world_tokenizer(w, fuzz_below(&how, 8));
    fuzz_world_change(w, &in);
    j.w = w;
    j.plain = w->n_weights == 0;
    j.desc.format = (fc_export_format)fuzz_below(&how, FC_EXPORT_COUNT);
    j.real = j.desc.format == FC_EXPORT_HF || j.desc.format == FC_EXPORT_HF_MASKED;
    if (j.real && *export_folder()) export_store(w);
    char path[256];
    snprintf(path, sizeof path, "%s%s%s", j.real ? export_root : "", j.real ? "/" : "",
             fuzz_world_path(w));
    if (!j.real || export_root[0]) j.m = export_open(&j, path);
    j.text.ids = ids;
    j.text.starts = starts;
    j.text.n_sequences = 1;
    starts[1] = 2 + fuzz_below(&how, 10);
    if (j.m && !fuzz_is_slow(j.m)) {
        for (uint32_t i = 0; i < 12; i++) ids[i] = (i * 37 + 5) % j.m->config.vocab_size;
        export_model(&j, &how);
    }
    fc_model_close(j.m);
    if (j.real) export_clear();
    fuzz_world_end(w);
    return 0;
}
