/* Experts whose router gives scores that say nothing: NaN, infinite, or too large. An error that
   names the block, in every way a model is run; never an expert twice, which once wrote past a
   buffer; and scores that are only large are fine. Run under the address sanitizer by `make check`.
   */
#include "private.h"
#include "memory.h"
#include "t.h"

#include <math.h>

#define DATA "tests/data/"

typedef struct world { /* a model whose files lie in memory that can be changed */
    memory memory;
    char *data[2];
    const char *path;
} world;

static void world_add(world *w, const char *path) {
    size_t size = 0, i = w->memory.n_files;
    w->data[i] = t_read(path, &size);
    if (!T_OK(w->data[i] != NULL, "%s: cannot be read", path)) exit(2);
    memory_add(&w->memory, path, w->data[i], size);
}

static void world_begin(world *w, const char *path, const char *config, const char *weights) {
    memset(w, 0, sizeof *w);
    w->path = path;
    w->memory.map = 1;
    if (config) world_add(w, config);
    world_add(w, weights);
}

static void world_end(world *w) {
    free(w->data[0]);
    free(w->data[1]);
}

static fc_model *world_open(world *w) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&w->memory);
    desc.env.par.n_threads = 1;
    fc_model *m = fc_model_open(w->path, &desc, &err);
    T_OK(m != NULL, "%s: %s", w->path, err.msg);
    return m;
}

static void put(char *to, fc_dtype type, size_t i, float value) {
    const uint16_t half =
        type == FC_DTYPE_F16 ? fci_f32_to_f16(value) : fci_f32_to_bf16(value);
    if (type == FC_DTYPE_F32) memcpy(to + 4 * i, &value, 4);
    else memcpy(to + 2 * i, &half, 2);
}

/* Row `expert` (or all: -1) of the last router becomes `value` everywhere. Returns its block. */
static uint32_t spoil(world *w, int expert, float value) {
    fc_model *m = world_open(w);
    char *data = w->data[w->memory.n_files - 1];
    if (!m) return 0;
    uint32_t block = (uint32_t)m->hyper.n_blocks - 1;
    while (block > 0 && !m->layers[block].experts) block--;
    const fci_matrix *r = &m->layers[block].router.matrix;
    char *at = data + ((const char *)r->data - data);
    T_OK(r->type == FC_DTYPE_F32 || r->type == FC_DTYPE_F16 || r->type == FC_DTYPE_BF16,
         "%s: router of type %s", w->path, fc_dtype_name(r->type));
    for (size_t row = 0; row < r->rows; row++)
        for (size_t k = 0; k < r->cols && (expert < 0 || row == (size_t)expert); k++)
            put(at + row * r->row_bytes, r->type, k, value);
    fc_model_close(m);
    return block;
}

static uint32_t ids[24] = {1, 5, 9, 3, 7, 2, 8, 4, 6, 1, 2, 3, 5, 5, 5, 9, 8, 7, 6, 5, 4, 3, 2, 1};
static size_t starts[] = {0, 12, 24};

static fc_tokens some_tokens(void) {
    fc_tokens t;
    memset(&t, 0, sizeof t);
    t.ids = ids;
    t.starts = starts;
    t.n_sequences = 2;
    return t;
}

static int take_rows(void *user, const float *rows, size_t n) {
    (void)rows;
    *(size_t *)user += n;
    return 0;
}

static void refused(const char *what, fc_code code, const char *msg, uint32_t block) {
    char name[32];
    snprintf(name, sizeof name, "block %u:", block);
    T_OK(code == FC_ERR_NUMERIC && strstr(msg, name) && strstr(msg, "router"), "%s: %s: %s", what,
         fc_code_name(code), msg);
}

/* Every way to run a model says which block is to blame. */
static void all_refused(world *w, uint32_t block) {
    fc_tokens t = some_tokens();
    fc_perplexity p;
    fc_error err;
    size_t n = 0;
    fc_speed speed;
    uint32_t id;
    fc_model *m = world_open(w);
    if (!m) return;
    refused("logits", fc_logits(m, &t, NULL, NULL, take_rows, &n, &err), err.msg, block);
    refused("perplexity", fc_eval_perplexity(m, &t, NULL, NULL, &p, &err), err.msg, block);
    refused("speed",
            fc_speed_prompt(m, &(fc_speed_desc){.tokens = 8, .all_logits = 1, .repeat = 1}, &speed,
                            &err),
            err.msg, block);
    refused("speed", fc_speed_generate(m, &(fc_speed_desc){.tokens = 8, .repeat = 1}, &speed, &err),
            err.msg, block);
    for (int search = 0; search < FC_SEARCH_RANDOM; search++) {
        fc_prune_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.calibration = &t;
        desc.search = (fc_search)search;
        desc.remove = 1;
        fc_plan *plan = fc_prune(m, &desc, &err);
        refused(fc_search_name(desc.search), err.code, err.msg, block);
        T_OK(plan == NULL, "%s: a plan", fc_search_name(desc.search));
        fc_plan_free(plan);
    }
    fc_generator *g = fc_generator_open(m, NULL, 16, &err);
    if (T_OK(g && fc_generator_feed(g, ids, 4, &err) == FC_OK, "generator: %s", err.msg))
        refused("generate", fc_generator_next(g, NULL, &id, &err), err.msg, block);
    fc_generator_close(g);
    fc_model_close(m);
}

/* A mask without the sublayer to blame runs. */
static void test_masked(world *w, uint32_t block) {
    fc_tokens t = some_tokens();
    fc_perplexity p;
    fc_error err;
    uint8_t mask[64];
    fc_model *m = world_open(w);
    memset(mask, 1, sizeof mask);
    mask[2 * block + 1] = 0;
    if (m)
        T_OK(fc_eval_perplexity(m, &t, mask, NULL, &p, &err) == FC_OK, "%s: without its FFN: %s",
             w->path, err.msg);
    fc_model_close(m);
}

static void test_file(const char *path, const char *config, const char *weights) {
    static const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY, 3e38f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int expert = -1; expert < 4; expert += 2) {
            world w;
            world_begin(&w, path, config, weights);
            const uint32_t block = spoil(&w, expert, bad[i]);
            all_refused(&w, block);
            if (i == 0) test_masked(&w, block);
            world_end(&w);
        }
}

/* The choice itself, on scores of every kind. */
static void test_choice(void) {
    enum { N = 6 };
    static const float kinds[] = {
        0, 1, -1, 3.4e38f, -3.4e38f, 1e-45f, (float)NAN, (float)INFINITY, -(float)INFINITY};
    static const size_t n_kinds = sizeof kinds / sizeof kinds[0];
    fc_model m;
    fci_engine e;
    float scores[N];
    fci_engine_routed routes[2 * N];
    size_t ends[N], twice = 0, wrong = 0, cases = 0;
    memset(&m, 0, sizeof m);
    memset(&e, 0, sizeof e);
    e.m = &m;
    e.scores = scores;
    e.routes = routes;
    e.ends = ends;
    m.hyper.n_experts = N;
    m.hyper.residual_scale = 1;
    for (uint32_t seed = 0; seed < 20000; seed++) {
        uint32_t z = seed * 2654435761u;
        double sum = 0;
        int seen[N] = {0}, finite = 1;
        m.hyper.n_used = 1 + seed % N;
        m.hyper.traits = seed & 64 ? FCI_TRAIT_TOP_SUM : 0;
        for (size_t i = 0; i < N; i++, z = z * 1664525u + 1013904223u) {
            scores[i] = kinds[(z >> 16) % (seed % 3 ? n_kinds - 3 : n_kinds)];
            finite = finite && isfinite(scores[i]);
        }
        e.strayed = false;
        const fci_engine_routed *r = fci_wave_route(&e, 1);
        for (size_t k = 0; k < m.hyper.n_used; k++) {
            twice += r[k].expert >= N || seen[r[k].expert < N ? r[k].expert : 0]++;
            sum += (double)r[k].weight;
        }
        wrong += e.strayed == (finite != 0) || (finite ? !(sum > 0 && sum < 1.00001) : !isnan(sum));
        if (finite && (m.hyper.traits & FCI_TRAIT_TOP_SUM)) wrong += !(sum > 0.99999);
        cases++;
    }
    T_OK(twice == 0, "an expert twice, %d times", (int)twice);
    T_OK(wrong == 0 && cases == 20000, "weights or verdict wrong, %d times", (int)wrong);
}

/* Element [row, col] of a matrix in a file in memory. */
static void set(world *w, const fci_matrix *to, size_t row, size_t col, float value) {
    char *data = w->data[w->memory.n_files - 1];
    put(data + ((const char *)to->data - data) + row * to->row_bytes, to->type, col, value);
}

/* A candidate without which a router strays scores NaN, as one whose logits are not finite, and
   another one is removed. Here attn.0 makes one number so large that the norm leaves nothing of the
   others, which the router would magnify. */
static void test_candidate(int search) {
    world w;
    fc_tokens t = some_tokens();
    fc_error err;
    world_begin(&w, DATA "mixtral", DATA "mixtral/config.json", DATA "mixtral/model.safetensors");
    fc_model *m = world_open(&w);
    if (!m) return;
    const fci_layer *l = &m->layers[0];
    const size_t d = (size_t)m->hyper.hidden;
    for (size_t row = 0; row < m->embedding.rows; row++)
        for (size_t k = 0; k < d; k++)
            set(&w, &m->embedding, row, k, k == 1 ? 1 : 0.01f * (float)((row + k) % 7));
    for (size_t row = 0; row < d; row++)
        for (size_t k = 0; k < l->o.matrix.cols; k++)
            set(&w, &l->o.matrix, row, k, row ? 0 : 1000.0f * (float)(k + 1));
    for (size_t row = 0; row < l->router.matrix.rows; row++)
        for (size_t k = 0; k < d; k++) set(&w, &l->router.matrix, row, k, k == 1 ? 1e38f : 0);
    fc_model_close(m);
    m = world_open(&w);
    fc_prune_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    desc.search = (fc_search)search;
    desc.remove = 1;
    fc_plan *plan = m ? fc_prune(m, &desc, &err) : NULL;
    if (T_OK(plan != NULL, "%s: %s", fc_search_name(desc.search), err.msg)) {
        const fc_step *s = fc_plan_step(plan, 0);
        T_OK(s->removed != 0 && isfinite(s->score), "%s: removed %u at %g",
             fc_search_name(desc.search), s->removed, s->score);
        T_OK(s->scores[0].candidate == 0 && isnan(s->scores[0].value), "%s: attn.0: %g",
             fc_search_name(desc.search), s->scores[0].value);
    }
    fc_plan_free(plan);
    fc_model_close(m);
    world_end(&w);
}

int main(void) {
    (void)t_shared;
    test_choice();
    for (int search = 0; search < FC_SEARCH_RANDOM; search++) test_candidate(search);
    test_file(DATA "mixtral", DATA "mixtral/config.json", DATA "mixtral/model.safetensors");
    test_file(DATA "qwen3_moe", DATA "qwen3_moe/config.json", DATA "qwen3_moe/model.safetensors");
    test_file(DATA "mixtral.gguf", NULL, DATA "mixtral.gguf");
    return t_end("test_experts");
}
