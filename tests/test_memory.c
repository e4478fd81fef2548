// Models, containers, tokenizers and plans from bytes in memory, plans and reports into memory: the
// same as from and to files, while no file is opened at all.
#include "private.h"
#include "memory.h"
#include "t.h"

#define DATA "tests/data/"

static fc_error err;

// ---- a world without files

static int no_open(void *user, const char *path, void **file, uint64_t *size) {
    (void)user, (void)file, (void)size;
    T_OK(0, "%s was opened", path);
    return EACCES;
}

static int no_read(void *user, void *file, void *buffer, uint64_t offset, size_t length) {
    (void)user, (void)file, (void)buffer, (void)offset, (void)length;
    return EACCES;
}

static void no_close(void *user, void *file) {
    (void)user, (void)file;
}

static fc_env nothing(memory *m) {
    fc_env env = memory_env(m);
    memset(&env.io, 0, sizeof env.io);
    env.io.open = no_open;
    env.io.read_at = no_read;
    env.io.close = no_close;
    env.par.n_threads = 1;
    return env;
}

// ---- files of tests/data, read into memory

typedef struct loaded {
    fc_memory_file files[8];
    size_t n;
} loaded;

static void load(loaded *l, const char *folder, const char *name) {
    char path[256];
    fc_memory_file *f = &l->files[l->n];
    snprintf(path, sizeof path, "%s%s", folder, name);
    f->data = t_read(path, &f->size);
    f->name = name;
    if (f->data) l->n++;
}

static void forget(loaded *l) {
    for (size_t i = 0; i < l->n; i++) {
        void *p;
        memcpy(&p, &l->files[i].data, sizeof p);
        free(p);
    }
}

typedef struct rows {
    float data[8 * 4096];
    size_t n, vocab;
} rows;

static int keep(void *user, const float *data, size_t n) {
    rows *r = (rows *)user;
    for (size_t i = 0; i < n * r->vocab && r->n < sizeof r->data / sizeof *data; i++)
        r->data[r->n++] = data[i];
    return 0;
}

static void compare_logits(fc_model *a, fc_model *b) {
    uint32_t ids[] = {1, 5, 9, 2};
    size_t starts[] = {0, 4};
    const fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    static rows got[2];
    got[0].n = got[1].n = 0;
    got[0].vocab = got[1].vocab = fc_model_config(a)->vocab_size;
    T_OK(fc_logits(a, &t, NULL, NULL, keep, &got[0], &err) == FC_OK &&
             fc_logits(b, &t, NULL, NULL, keep, &got[1], &err) == FC_OK,
         "%s", err.msg);
    T_OK(got[0].n > 0 && got[0].n == got[1].n &&
             memcmp(got[0].data, got[1].data, got[0].n * sizeof(float)) == 0,
         "logits differ");
}

static void compare_tokenizers(const fc_tokenizer *a, const fc_tokenizer *b) {
    static const char text[] = "The quick brown fox, 12 times.";
    fc_tokens x, y;
    if (!T_OK(a && b, "a tokenizer: %s", err.msg)) return;
    T_OK(fc_tokenize(a, text, sizeof text - 1, 0, &x, &err) == FC_OK &&
             fc_tokenize(b, text, sizeof text - 1, 0, &y, &err) == FC_OK &&
             x.starts[1] == y.starts[1] && !memcmp(x.ids, y.ids, x.starts[1] * sizeof *x.ids),
         "%s", err.msg);
    fc_tokens_free(&x);
    fc_tokens_free(&y);
}

static void compare_models(const char *path, const loaded *l, int words) {
    memory world;
    memset(&world, 0, sizeof world);
    const fc_env env = nothing(&world);
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = env;
    fc_model *from_file = fc_model_open(path, NULL, &err);
    T_OK(from_file != NULL, "%s", err.msg);
    fc_model *m = fc_model_open_memory(l->files, l->n, &desc, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    T_OK(!strcmp(fc_model_fingerprint(m), fc_model_fingerprint(from_file)), "%s: %s", path,
         fc_model_fingerprint(m));
    compare_logits(m, from_file);
    if (words) compare_tokenizers(fc_model_tokenizer(m, &err), fc_model_tokenizer(from_file, &err));
    fc_tokens ends;
    T_OK(fc_end_tokens(m, &ends, &err) == FC_OK, "%s", err.msg);
    fc_tokens_free(&ends);
    fc_tokenizer *t = fc_tokenizer_open_memory(l->files, l->n, &env, &err);
    if (words) compare_tokenizers(t, fc_model_tokenizer(from_file, &err));
    else T_OK(!t && err.code == FC_ERR_IO && strstr(err.msg, "tokenizer.json"), "%s", err.msg);
    fc_tokenizer_close(t);
    fc_container *c = fc_container_open_memory(l->files, l->n, &env, &err);
    T_OK(c && fc_container_tensor_count(c) == fc_container_tensor_count(fc_model_container(m)) &&
             fc_container_bytes(c) == fc_container_bytes(fc_model_container(from_file)),
         "%s: %s", path, err.msg);
    fc_container_close(c);
    fc_model_close(m);
    fc_model_close(from_file);
    T_OK(world.live == 0, "%s: %ld left", path, world.live);
}

static void test_folder(const char *path, const char *const *names, size_t n, int words) {
    loaded l = {{{NULL, NULL, 0}}, 0};
    for (size_t i = 0; i < n; i++) load(&l, path, names[i]);
    compare_models(path, &l, words);
    for (size_t i = 0; i < l.n; i++) { // each is needed, but for the tokenizer and the index
        const int model = strstr(names[i], "tokenizer.json") || strstr(names[i], ".index.json");
        loaded less = l;
        less.files[i] = less.files[--less.n];
        fc_model *m = fc_model_open_memory(less.files, less.n, NULL, &err);
        T_OK(model ? m != NULL : !m && err.msg[0], "without %s: %s", names[i], err.msg);
        if (m) T_OK(!fc_model_tokenizer(m, &err) && err.code == FC_ERR_IO, "%s", err.msg);
        fc_model_close(m);
    }
    forget(&l);
}

static void test_models(void) {
    static const char *const demo[] = {"config.json", "model.safetensors", "tokenizer.json"},
                            *const shards[] = {"config.json", "model.safetensors.index.json",
                                               "model-00001-of-00003.safetensors",
                                               "model-00002-of-00003.safetensors",
                                               "model-00003-of-00003.safetensors"};
    loaded l = {{{NULL, NULL, 0}}, 0};
    load(&l, DATA, "llama_f16.gguf");
    compare_models(DATA "llama_f16.gguf", &l, 1);
    forget(&l);
    test_folder("examples/demo/", demo, 3, 1);
    test_folder(DATA "llama_f16_sharded/", shards, 5, 0);
}

// ---- plans and reports

static fc_plan *plan_of(fc_model *m) {
    uint32_t ids[] = {1, 5, 9, 2, 7, 3};
    size_t starts[] = {0, 3, 6};
    const fc_tokens t = {ids, starts, 2, {NULL, NULL}};
    fc_prune_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    desc.remove = 2;
    fc_plan *p = fc_prune(m, &desc, &err);
    T_OK(p != NULL, "%s", err.msg);
    return p;
}

// What is written to a file is what is written to memory.
static void same_as_file(const memory *w, const fc_text *text, size_t output, const char *what) {
    const memory_output *o = &w->outputs[output];
    T_OK(text->length > 0 && text->length == o->size && !memcmp(text->bytes, o->data, o->size) &&
             text->bytes[text->length] == 0,
         "%s: %zu bytes in memory, %zu in the file", what, text->length, o->size);
}

static void test_plans(void) {
    memory w;
    loaded l = {{{NULL, NULL, 0}}, 0};
    fc_model_desc desc;
    fc_text plan, svg, csv, again;
    memset(&w, 0, sizeof w);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&w);
    memory_writable(&desc.env);
    load(&l, DATA, "llama_f16.gguf");
    fc_model *m = fc_model_open_memory(l.files, l.n, &desc, &err);
    fc_plan *p = m ? plan_of(m) : NULL;
    if (!T_OK(p != NULL, "%s", err.msg)) return;
    T_OK(!fc_plan_save(p, "p.json", &err) && !fc_report_svg(p, "p.svg", &err) &&
             !fc_report_csv(p, "p.csv", &err),
         "%s", err.msg);
    T_OK(!fc_plan_save_memory(p, &plan, &err) && !fc_report_svg_memory(p, &svg, &err) &&
             !fc_report_csv_memory(p, &csv, &err),
         "%s", err.msg);
    same_as_file(&w, &plan, 0, "plan");
    same_as_file(&w, &svg, 1, "svg");
    same_as_file(&w, &csv, 2, "csv");
    fc_env env = nothing(&w);
    fc_plan *back = fc_plan_load_memory(plan.bytes, plan.length, &env, &err);
    T_OK(back && !fc_plan_save_memory(back, &again, &err) && again.length == plan.length &&
             !memcmp(again.bytes, plan.bytes, plan.length),
         "%s", err.msg);
    T_OK(!strcmp(fc_plan_about(p)->model.name, "llama_f16.gguf"), "%s",
         fc_plan_about(p)->model.name);
    for (size_t cut = 0; cut < plan.length - 2; cut += 37) {
        fc_plan *part = fc_plan_load_memory(plan.bytes, cut, &env, &err);
        T_OK(!part && err.code == FC_ERR_FORMAT, "%zu bytes of a plan: %s", cut, err.msg);
        fc_plan_free(part);
    }
    fc_text_free(&plan);
    fc_text_free(&svg);
    fc_text_free(&csv);
    fc_text_free(&again);
    // A model from memory is exported by fc_io.
    fc_export_desc export = {FC_EXPORT_GGUF, "p.gguf", 0, FC_DTYPE_INVALID, 0, {NULL, NULL}};
    T_OK(fc_export(m, p, &export, &err) == FC_OK && w.outputs[3].whole, "%s", err.msg);
    fc_memory_file pruned = {"p.gguf", w.outputs[3].data, w.outputs[3].size};
    fc_model *small = fc_model_open_memory(&pruned, 1, NULL, &err);
    T_OK(small && fc_model_config(small)->n_sublayers == fc_model_config(m)->n_sublayers - 2, "%s",
         err.msg);
    fc_model_close(small);
    fc_plan_free(back);
    fc_plan_free(p);
    fc_model_close(m);
    memory_forget(&w);
    T_OK(w.live == 0, "%ld left", w.live);
    forget(&l);
}

// One name twice would leave it open which file was meant.
static void test_twice(void) {
    const fc_memory_file files[] = {{"config.json", "{}", 2}, {"x", "", 0}, {"config.json", "", 0}};
    T_OK(!fc_model_open_memory(files, 3, NULL, &err) && strstr(err.msg, "twice"), "%s", err.msg);
    T_OK(!fc_container_open_memory(files, 3, NULL, &err) && strstr(err.msg, "twice"), "%s",
         err.msg);
    T_OK(!fc_tokenizer_open_memory(files, 3, NULL, &err) && strstr(err.msg, "twice"), "%s",
         err.msg);
}

// A model of few positions is calibrated on sequences that fit.
static void test_short(void) {
    static const char *const names[] = {"d/config.json", "d/model.safetensors", "d/tokenizer.json",
                                        "d/calibration.txt"};
    memory world;
    fc_env env;
    fc_prune_desc desc;
    char path[64], *data[4];
    memset(&world, 0, sizeof world);
    memset(&desc, 0, sizeof desc);
    for (size_t i = 0; i < 4; i++) {
        size_t size = 0;
        snprintf(path, sizeof path, "examples/demo/%s", names[i] + 2);
        data[i] = t_read(path, &size);
        memory_add(&world, names[i], data[i], size);
    }
    char *most = data[0] ? strstr(data[0], "\"max_position_embeddings\": 512") : NULL;
    if (most && data[1]) {
        memcpy(most + 27, " 32", 3);
        env = memory_env(&world);
        memory_writable(&env);
        env.par.n_threads = 1;
        desc.remove = 1;
        desc.search = FC_SEARCH_RANDOM; // the quickest
        T_OK(!fc_prune_file("d", "d/calibration.txt", &desc, "p.json", &env, &err), "%s", err.msg);
        fc_plan *p = fc_plan_load("p.json", &env, &err);
        if (T_OK(p != NULL, "%s", err.msg))
            T_OK(fc_plan_about(p)->calibration.length == 32, "expected length 32, got %u",
                 fc_plan_about(p)->calibration.length);
        fc_plan_free(p);
    } else t_skip("a model of few positions", "no demo model");
    for (size_t i = 0; i < 4; i++) free(data[i]);
    memory_forget(&world);
    T_OK(world.live == 0, "expected nothing left, got %ld", world.live);
}

int main(void) {
    test_twice();
    test_short();
    test_models();
    test_plans();
    return t_end("memory");
}
