// The hooks of fc_env fail: the Nth allocation, open, read, or write (creating and finishing are
// writes, too), once or from then on, for every N, in everything the library does with models,
// texts and plans. The error is of its kind, nothing stays allocated or open, no output is half
// there, and where a failure is got over the result is the same.
#include "private.h"
#include "memory.h"
#include "t.h"

#define DATA "tests/data/"

typedef struct world {
    memory m;
    fc_model_desc desc;
    uint64_t digest; // of what a call gave
} world;

static void digest(world *w, const void *data, size_t n) {
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < n; i++) w->digest = (w->digest ^ p[i]) * 1099511628211u;
}

static const char text[] = "The quick brown fox jumps over the lazy dog.\nPack my box with jugs.\n";

// ---- what is done, each from opening the model to closing it

typedef fc_code (*task)(world *w, fc_model *m, fc_error *err);

static fc_code tokens_of(fc_model *m, fc_tokens *out, fc_error *err) {
    const fc_tokenizer *t = fc_model_tokenizer(m, err);
    memset(out, 0, sizeof *out);
    return t ? fc_calibration_cut(t, text, sizeof text - 1, 2, 8, out, err) : err->code;
}

static fc_code task_open(world *w, fc_model *m, fc_error *err) {
    fc_tokens tokens;
    fc_text back;
    fc_code code = tokens_of(m, &tokens, err);
    memset(&back, 0, sizeof back);
    if (!code)
        code = fc_detokenize(fc_model_tokenizer(m, err), tokens.ids, tokens.starts[1], &back, err);
    digest(w, fc_model_fingerprint(m), strlen(fc_model_fingerprint(m)));
    digest(w, back.bytes, back.length);
    fc_text_free(&back);
    fc_tokens_free(&tokens);
    return code;
}

static fc_plan *plan_of(fc_model *m, fc_search search, fc_error *err) {
    fc_tokens tokens;
    fc_prune_desc desc;
    fc_plan *p = NULL;
    memset(&desc, 0, sizeof desc);
    desc.calibration = &tokens;
    desc.search = search;
    desc.remove = 2;
    if (!tokens_of(m, &tokens, err)) p = fc_prune(m, &desc, err);
    fc_tokens_free(&tokens);
    return p;
}

static fc_code prune_by(world *w, fc_model *m, fc_search search, fc_error *err) {
    fc_plan *p = plan_of(m, search, err);
    for (size_t i = 0; p && i < fc_plan_about(p)->n_steps; i++)
        digest(w, &fc_plan_step(p, i)->score, sizeof(double));
    fc_code code = p ? FC_OK : err->code;
    fc_plan_free(p);
    return code;
}

static fc_code task_race(world *w, fc_model *m, fc_error *err) {
    return prune_by(w, m, FC_SEARCH_RACE, err);
}

static fc_code task_confident(world *w, fc_model *m, fc_error *err) {
    return prune_by(w, m, FC_SEARCH_CONFIDENT, err);
}

static fc_code task_plan(world *w, fc_model *m, fc_error *err) {
    fc_plan *p = plan_of(m, FC_SEARCH_RANDOM, err), *again = NULL;
    fc_code code = p ? fc_plan_save(p, "plan.json", err) : err->code;
    if (!code) again = fc_plan_load("plan.json", &w->desc.env, err);
    if (!code && !again) code = err->code;
    if (!code) code = fc_report_svg(again, "plan.svg", err);
    if (!code) code = fc_report_csv(again, "plan.csv", err);
    if (!code) digest(w, w->m.outputs[2].data, w->m.outputs[2].size); // no seconds in it
    fc_plan_free(p);
    fc_plan_free(again);
    return code;
}

static int take_rows(void *user, const float *rows, size_t n_rows) {
    digest((world *)user, rows, n_rows * 280 * sizeof *rows);
    return 0;
}

static fc_code task_eval(world *w, fc_model *m, fc_error *err) {
    fc_tokens tokens;
    fc_perplexity result;
    fc_code code = tokens_of(m, &tokens, err);
    if (!code) code = fc_eval_perplexity(m, &tokens, NULL, NULL, &result, err);
    if (!code) digest(w, &result.nll, sizeof result.nll);
    if (!code) code = fc_logits(m, &tokens, NULL, NULL, take_rows, w, err);
    fc_tokens_free(&tokens);
    return code;
}

static fc_code task_generate(world *w, fc_model *m, fc_error *err) {
    fc_generate_desc desc;
    fc_generated result;
    memset(&desc, 0, sizeof desc);
    desc.max_tokens = 4;
    fc_code code = fc_generate(m, "The fox", 7, &desc, &result, err);
    if (!code) digest(w, result.text.bytes, result.text.length);
    fc_text_free(&result.text);
    return code;
}

static fc_code task_export(world *w, fc_model *m, fc_error *err) {
    fc_export_desc desc;
    fc_plan *p = plan_of(m, FC_SEARCH_RANDOM, err);
    memset(&desc, 0, sizeof desc);
    desc.format = FC_EXPORT_GGUF;
    desc.path = "out.gguf";
    desc.steps = 1;
    fc_code code = p ? fc_export(m, p, &desc, err) : err->code;
    if (!code) digest(w, w->m.outputs[0].data, w->m.outputs[0].size);
    fc_plan_free(p);
    return code;
}

// ---- progress: every long call tells soon what it does, and ends when told to

typedef struct listener {
    const char *what; // one of these words, in any order
    int calls, stop;  // stop: at this call
} listener;

static int listen(void *user, const fc_progress *p) {
    listener *l = (listener *)user;
    T_OK(p->what[0] && !strchr(p->what, ' ') && strstr(l->what, p->what) && p->done >= 0 &&
             p->done <= 1 && p->step_done >= 0 && p->step_done <= 1 && p->seconds >= 0,
         "%s: \"%s\", %g done, %g of the step, %g s", l->what, p->what, p->done, p->step_done,
         p->seconds);
    T_OK(!p->plan || p->n_steps > 0, "%s: %zu steps", p->what, p->n_steps);
    return ++l->calls == l->stop;
}

static fc_code watched(fc_model *m, int call, const fc_watch *watch, fc_error *err) {
    uint32_t ids[] = {1, 2, 3, 4, 5, 6};
    size_t starts[] = {0, 3, 6};
    const fc_tokens tokens = {ids, starts, 2, {NULL, NULL}};
    const float w[16] = {0};
    const fc_product product = {.m = 4, .n = 4, .k = 4, .w = w, .type = FC_DTYPE_F32};
    const fc_speed_desc speed = {.tokens = 4, .repeat = 2, .watch = *watch};
    const fc_generate_desc generate = {.max_tokens = 3, .watch = *watch};
    const fc_export_desc export = {.format = FC_EXPORT_GGUF, .path = "out.gguf", .watch = *watch};
    const fc_prune_desc prune = {.calibration = &tokens, .remove = 2, .watch = *watch};
    world w0;
    fc_perplexity p;
    fc_generated g;
    fc_speed s;
    fc_code code;
    memset(&w0, 0, sizeof w0);
    switch (call) {
    case 0: return fc_model_verify(m, watch, err);
    case 1: return fc_eval_perplexity(m, &tokens, NULL, watch, &p, err);
    case 2: return fc_logits(m, &tokens, NULL, watch, take_rows, &w0, err);
    case 3: return fc_speed_prompt(m, &speed, &s, err);
    case 4: return fc_speed_generate(m, &speed, &s, err);
    case 5: return fc_speed_matmul(m, &product, &speed, &s, err);
    case 6:
        code = fc_generate(m, "The fox", 7, &generate, &g, err);
        fc_text_free(&g.text);
        return code;
    case 7: return fc_export(m, NULL, &export, err);
    default:
        fc_plan_free(fc_prune(m, &prune, err));
        return err->code;
    }
}

static void test_progress(world *w, const char *path) {
    static const char *const what[] = {"hashing",   "evaluating", "evaluating",
                                       "measuring", "measuring",  "measuring",
                                       "generating", "exporting", "hashing calibrating searching"};
    const fc_watch silent = {NULL, NULL};
    fc_error err;
    for (int call = 0; call < 9; call++)
        for (int stop = 0; stop < 2; stop++) {
            fc_model *m = fc_model_open(path, &w->desc, &err);
            listener l = {what[call], 0, stop};
            const fc_watch watch = {listen, &l};
            if (!T_OK(m != NULL, "%s", err.msg)) return;
            fc_code code = watched(m, call, &watch, &err);
            T_OK(l.calls > 0 && code == (stop ? FC_ERR_CANCELLED : FC_OK) && err.code == code,
                 "%s, %d: %d calls, %s", what[call], stop, l.calls, err.msg);
            T_OK(stop || watched(m, call, &silent, &err) == FC_OK, "nobody listens: %s", err.msg);
            fc_model_close(m);
            memory_forget(&w->m);
            T_OK(w->m.live == 0, "%s, %d: %ld left", what[call], stop, w->m.live);
        }
}

static int stop_rows(void *user, const float *rows, size_t n) {
    (void)user, (void)rows, (void)n;
    return 1;
}

static int stop_piece(void *user, const char *bytes, size_t n) {
    (void)user, (void)bytes, (void)n;
    return 1;
}

// What takes results may end a call, too: the same code.
static void test_takers(world *w, const char *path) {
    uint32_t ids[] = {1, 2, 3};
    size_t starts[] = {0, 3};
    const fc_tokens tokens = {ids, starts, 1, {NULL, NULL}};
    const fc_generate_desc generate = {.max_tokens = 3, .piece = stop_piece};
    fc_generated g;
    fc_error err;
    fc_model *m = fc_model_open(path, &w->desc, &err);
    T_OK(fc_logits(m, &tokens, NULL, NULL, stop_rows, NULL, &err) == FC_ERR_CANCELLED,
         "rows: %s", err.msg);
    T_OK(fc_generate(m, "The fox", 7, &generate, &g, &err) == FC_ERR_CANCELLED,
         "pieces: %s", err.msg);
    fc_text_free(&g.text);
    fc_model_close(m);
}

// ---- the sweep

static fc_code run(world *w, const char *path, task t, fc_error *err) {
    w->m.allocs = w->m.reads = w->m.opens = w->m.writes = 0;
    w->digest = 14695981039346656037u;
    fc_model *m = fc_model_open(path, &w->desc, err);
    fc_code code = m ? t(w, m, err) : err->code;
    fc_model_close(m);
    for (int i = 0; i < 4; i++)
        T_OK(!w->m.outputs[i].path[0] || w->m.outputs[i].whole, "an open output");
    memory_forget(&w->m);
    return code;
}

typedef struct hook {
    const char *name;
    size_t fail, count; // fields of memory
    fc_code code;
} hook;

#define AT(field) offsetof(memory, field)
static const hook hooks[] = {
    {"allocation", AT(fail_alloc), AT(allocs), FC_ERR_MEMORY},
    {"open", AT(fail_open), AT(opens), FC_ERR_IO},
    {"read", AT(fail_read), AT(reads), FC_ERR_IO},
    {"write", AT(fail_write), AT(writes), FC_ERR_IO},
};

static void sweep(world *w, const char *path, const char *name, task t, const hook *h) {
    long *fail = (long *)(void *)((char *)&w->m + h->fail),
         *n = (long *)(void *)((char *)&w->m + h->count);
    fc_error err;
    fc_code code = run(w, path, t, &err);
    const uint64_t good = w->digest;
    if (!T_OK(code == FC_OK && w->m.live == 0, "%s: %s", name, err.msg)) return;
    for (w->m.fail_always = 0; w->m.fail_always < 2; w->m.fail_always++)
        for (*fail = 1;; ++*fail) {
            code = run(w, path, t, &err);
            T_OK(w->m.live == 0, "%s: %s %ld: %ld left", name, h->name, *fail, w->m.live);
            T_OK(code == FC_OK ? w->digest == good
                               : code == h->code && err.code == code && err.msg[0],
                 "%s: %s %ld: %s: %s", name, h->name, *fail, fc_code_name(code),
                 code ? err.msg : "another result");
            w->m.live = 0;
            if (*n < *fail) break;
        }
    *fail = 0;
    w->m.fail_always = 0;
}

int main(void) {
    static const struct {
        const char *name;
        task run;
    } tasks[] = {{"open", task_open},    {"race", task_race}, {"confident", task_confident},
                 {"plan", task_plan},    {"eval", task_eval}, {"generate", task_generate},
                 {"export", task_export}};
    world w;
    size_t size;
    char *data = t_read(DATA "llama_f16.gguf", &size);
    if (!data) return 1;
    memset(&w, 0, sizeof w);
    memory_add(&w.m, "m.gguf", data, size);
    w.desc.env = memory_env(&w.m);
    memory_writable(&w.desc.env);
    w.desc.env.par.n_threads = 1;
    for (int map = 0; map < 2; map++)
        for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
            for (size_t k = 0; k < sizeof hooks / sizeof *hooks; k++) {
                if (map && k != 0) continue;
                w.m.map = map;
                sweep(&w, "m.gguf", tasks[i].name, tasks[i].run, &hooks[k]);
            }
    w.m.map = 0;
    w.m.grown = 0;
    test_progress(&w, "m.gguf");
    test_takers(&w, "m.gguf");
    T_OK(w.m.grown > 0, "no array grew by realloc");
    free(data);
    return t_end("hooks");
}
