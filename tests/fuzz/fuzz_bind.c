// A plan of any content and a model that is whole: mask, run, resumed search, pictures and exports
// either refuse it or take it for what it says. Input: model, candidates, search, then changes to
// the JSON of a plan that a search made.
//   build/fuzz/fuzz_bind -max_total_time=60 -max_len=64 build/fuzz/corpus/fuzz_bind
// tests/fuzz/corpus/bind
#include "world.h"

enum { BIND_MODELS = 4, BIND_STEPS = 3 };
static const size_t bind_bases[BIND_MODELS] = {0, 1, 2, 14}; // dense, windowed, expert; a directory

typedef struct bind_model { // opened once
    fuzz_disk disk;
    fc_model *m;
    fc_text plans[FC_CANDIDATES_COUNT][FC_SEARCH_COUNT];
} bind_model;
static bind_model bind_models[BIND_MODELS];
static uint32_t bind_ids[8] = {1, 5, 9, 13, 2, 4, 8, 16};
static size_t bind_starts[3] = {0, 4, 8};

static void bind_settings(fc_prune_desc *desc, fc_tokens *text, size_t candidates, size_t search) {
    memset(desc, 0, sizeof *desc);
    memset(text, 0, sizeof *text);
    text->ids = bind_ids;
    text->starts = bind_starts;
    text->n_sequences = 2;
    desc->calibration = text;
    desc->candidates = (fc_candidates)candidates;
    desc->search = (fc_search)search;
    desc->remove = candidates == FC_CANDIDATES_BLOCKS || candidates == FC_CANDIDATES_FFN ? 1 : 2;
}

static bind_model *bind_open(size_t i) {
    bind_model *b = &bind_models[i];
    if (b->m) return b;
    fuzz_input nothing = {NULL, 0};
    uint8_t base = (uint8_t)bind_bases[i];
    fuzz_input in = {&base, 1};
    fuzz_world *w = fuzz_world_make(&in);
    fuzz_world_change(w, &nothing);
    b->disk = w->disk;
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    for (size_t k = 0; k < b->disk.files.n_files; k++) { // of its own from here on
        memory_file *f = &b->disk.files.files[k];
        void *p = malloc(f->size);
        FUZZ_MUST(p != NULL);
        memcpy(p, f->data, f->size);
        f->data = p;
    }
    desc.env = fuzz_disk_env(&b->disk);
    b->m = fc_model_open(fuzz_world_path(w), &desc, &err);
    FUZZ_GOOD(b->m != NULL, err);
    fuzz_world_end(w);
    return b;
}

static const fc_text *bind_plan(bind_model *b, size_t candidates, size_t search) {
    fc_text *t = &b->plans[candidates][search];
    fc_prune_desc desc;
    fc_tokens text;
    fc_error err;
    if (t->bytes) return t;
    bind_settings(&desc, &text, candidates, search);
    fc_plan *p = fc_prune(b->m, &desc, &err);
    FUZZ_GOOD(p && fc_plan_save(p, "p.json", &err) == FC_OK, err);
    t->bytes = (char *)malloc(b->disk.n_out);
    FUZZ_MUST(t->bytes != NULL);
    t->length = b->disk.n_out;
    memcpy(t->bytes, b->disk.out, t->length);
    fc_plan_free(p);
    return t;
}

T_FN void bind_close(void) {
    for (size_t i = 0; i < BIND_MODELS; i++) {
        bind_model *b = &bind_models[i];
        fc_model_close(b->m);
        for (size_t k = 0; b->m && k < b->disk.files.n_files; k++)
            if (b->disk.files.files[k].data != b->disk.out)
                free((void *)(uintptr_t)b->disk.files.files[k].data);
        for (size_t k = 0; k < FC_CANDIDATES_COUNT * FC_SEARCH_COUNT; k++)
            free(b->plans[k / FC_SEARCH_COUNT][k % FC_SEARCH_COUNT].bytes);
        free(b->disk.out);
        memset(b, 0, sizeof *b);
    }
}

// What a mask lacks is what the steps say.
static void bind_mask(bind_model *b, const fc_plan *p, size_t n_steps, const fc_tokens *text) {
    static fuzz_rows rows;
    uint8_t mask[2 * 16];
    fc_error err;
    size_t n = 2 * (size_t)b->m->hyper.n_blocks, gone = 0;
    memset(mask, 7, sizeof mask);
    if (fc_plan_mask(p, b->m, n_steps, mask, sizeof mask, &err)) return;
    for (size_t i = 0; i < n; i++) {
        FUZZ_MUST(mask[i] < 2);
        gone += !mask[i];
    }
    FUZZ_MUST(mask[n] == 7);
    FUZZ_MUST(gone == n_steps * (fc_plan_about(p)->candidates == FC_CANDIDATES_BLOCKS ? 2 : 1));
    FUZZ_MUST(fuzz_logits(b->m, text, mask, &rows) == FC_OK);
}

static void bind_export(bind_model *b, const fc_plan *p, size_t steps, uint32_t format) {
    fc_env env = fuzz_disk_env(&b->disk);
    fc_model_desc open;
    fc_export_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    memset(&open, 0, sizeof open);
    desc.format = format ? FC_EXPORT_GGUF : FC_EXPORT_GGUF_MASKED;
    desc.path = "out.gguf";
    desc.steps = steps;
    if (fc_export(b->m, p, &desc, &err)) return;
    open.env = env;
    fc_model *m = fc_model_open("out.gguf", &open, &err);
    FUZZ_GOOD(m != NULL, err);
    fc_model_close(m);
}

static void bind_use(bind_model *b, const fc_plan *p, fuzz_input *in, fc_prune_desc *desc) {
    fc_env env = fuzz_disk_env(&b->disk);
    fc_error err;
    size_t n = fc_plan_about(p)->n_steps, steps = fuzz_below(in, n + 2);
    FUZZ_MUST(!fc_report_svg(p, "p.svg", &err) && !fc_report_csv(p, "p.csv", &err));
    bind_mask(b, p, steps, desc->calibration);
    desc->resume = p;
    desc->remove = (uint32_t)fuzz_below(in, BIND_STEPS);
    fc_plan *more = fc_prune(b->m, desc, &err);
    FUZZ_MUST((more != NULL) == (err.code == FC_OK));
    if (more) {
        FUZZ_MUST(!fc_plan_save(more, "p.json", &err));
        fc_plan *again = fc_plan_load("p.json", &env, &err);
        FUZZ_GOOD(again && fc_plan_about(again)->n_steps == fc_plan_about(more)->n_steps, err);
        bind_mask(b, again, fc_plan_about(again)->n_steps, desc->calibration);
        fc_plan_free(again);
    }
    fc_plan_free(more);
    if (fuzz_byte(in) & 1) bind_export(b, p, steps, fuzz_byte(in) & 1);
}

FUZZ_TARGET(bind) {
    static fuzz_text json;
    fuzz_input in = {data, size}, late;
    bind_model *b = bind_open(fuzz_below(&in, BIND_MODELS));
    size_t candidates = fuzz_below(&in, FC_CANDIDATES_COUNT),
           search = fuzz_below(&in, FC_SEARCH_COUNT);
    const fc_text *t = bind_plan(b, candidates, search);
    fc_prune_desc desc;
    fc_tokens text;
    fc_error err;
    size_t n_files = b->disk.files.n_files;
    bind_settings(&desc, &text, candidates, search);
    json.n = 0;
    fuzz_json_put(&json, 0, 0, t->bytes, t->length);
    late.n = in.n < 4 ? in.n : 4;
    late.p = in.p;
    in.p += late.n;
    in.n -= late.n;
    for (int i = 0; i < 12 && in.n; i++) fuzz_json_edit(&json, &in);
    memory_add(&b->disk.files, "in.json", json.p, json.n);
    fc_env env = fuzz_disk_env(&b->disk);
    long live = b->disk.files.live;
    fc_plan *p = fc_plan_load("in.json", &env, &err);
    FUZZ_MUST((p != NULL) == (err.code == FC_OK));
    if (p) bind_use(b, p, &late, &desc);
    fc_plan_free(p);
    for (size_t i = 0; i < b->disk.files.n_files;) // the model's own stay
        if (strcmp(b->disk.files.files[i].path, "in.json") == 0 ||
            b->disk.files.files[i].data == b->disk.out)
            b->disk.files.files[i] = b->disk.files.files[--b->disk.files.n_files];
        else i++;
    FUZZ_MUST(b->disk.files.n_files <= n_files && b->disk.files.live == live);
    return 0;
}
