/* The engine, distances, searches and evaluation against what transformers computed: the reference
   files of tests/data (format: tests/data/README.md) and the golden cases of ../shared. */
#include "private.h"
#include "memory.h"
#include "plans.h"
#include "t.h"

#define LOGIT_TOLERANCE 2e-4
#define PERPLEXITY_TOLERANCE 1e-3
#define SCORE_TOLERANCE 2e-3

typedef struct reference { /* what a .ref or golden.json says */
    fc_tokens tokens;
    double perplexity;
} reference;

static double relative(double got, double want) {
    return fabs(got - want) / (fabs(want) > 1e-12 ? fabs(want) : 1e-12);
}

static fc_tokens *add_sequence(fc_tokens *t, const uint32_t *ids, size_t n) {
    fc_env env;
    fci_context c;
    fc_tokens more;
    size_t have = t->n_sequences ? t->starts[t->n_sequences] : 0;
    memset(&env, 0, sizeof env);
    fci_context_basic(&c, &env);
    if (fci_tokens_tokens(&c, t->n_sequences + 1, have + n, &more, NULL)) exit(2);
    if (have) memcpy(more.ids, t->ids, have * sizeof *ids);
    memcpy(more.ids + have, ids, n * sizeof *ids);
    if (have) memcpy(more.starts, t->starts, (t->n_sequences + 1) * sizeof *t->starts);
    more.starts[t->n_sequences + 1] = have + n;
    fc_tokens_free(t);
    *t = more;
    return t;
}

static fc_model *open_model(const char *path, fc_compute compute, uint32_t threads, fc_simd simd) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.compute = compute;
    desc.env.par.n_threads = threads;
    desc.env.simd_max = simd;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

static fc_plan *prune(fc_model *m, const fc_tokens *t, fc_metric metric, fc_search search,
                      uint32_t remove) {
    fc_prune_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.calibration = t;
    desc.metric = metric;
    desc.search = search;
    desc.remove = remove;
    fc_plan *p = fc_prune(m, &desc, &err);
    T_OK(p != NULL, "prune %s %s: %s", fc_metric_name(metric), fc_search_name(search), err.msg);
    return p;
}

typedef struct collected { /* all logits of a run */
    float *rows;
    size_t n, vocab;
} collected;

static int collect(void *user, const float *rows, size_t n) {
    collected *c = (collected *)user;
    c->rows = (float *)realloc(c->rows, (c->n + n) * c->vocab * sizeof *rows);
    if (!c->rows) return 1;
    memcpy(c->rows + c->n * c->vocab, rows, n * c->vocab * sizeof *rows);
    c->n += n;
    return 0;
}

static collected logits_of(fc_model *m, const fc_tokens *t, const uint8_t *mask) {
    collected c = {NULL, 0, 0};
    fc_error err;
    c.vocab = fc_model_config(m)->vocab_size;
    T_OK(fc_logits(m, t, mask, NULL, collect, &c, &err) == FC_OK, "logits: %s", err.msg);
    return c;
}

/* race finds the same plan as exhaustive, to the bit, and its bounds are bounds. */
static void same_plan(const char *name, const fc_plan *race, const fc_plan *all) {
    const size_t n = fc_plan_about(all)->n_steps, step = plans_differ(race, all);
    T_OK(step == 0, "%s: step %d", name, (int)step);
    for (size_t i = 0; i < n && i < fc_plan_about(race)->n_steps; i++) {
        const fc_step *a = fc_plan_step(race, i), *b = fc_plan_step(all, i);
        T_OK(a->n_scores == b->n_scores, "%s: step %d: number of scores", name, (int)i + 1);
        for (size_t k = 0; k < a->n_scores && k < b->n_scores; k++)
            T_OK(a->scores[k].exact ? a->scores[k].value == b->scores[k].value
                                    : a->scores[k].value <= b->scores[k].value,
                 "%s: step %d: score of candidate %u", name, (int)i + 1, a->scores[k].candidate);
    }
}

/* One step of a reference search: candidate names and scores in any order. */
static const fc_score *find_score(const fc_step *s, const char *name, size_t n) {
    char own[24];
    for (size_t i = 0; i < s->n_scores; i++) {
        fc_candidate_name(FC_CANDIDATES_SUBLAYERS, s->scores[i].candidate, own, sizeof own);
        if (strlen(own) == n && memcmp(own, name, n) == 0) return &s->scores[i];
    }
    return NULL;
}

static void check_score(const char *where, const fc_plan *plan, size_t step, const char *name,
                        size_t n, double want) {
    const fc_step *s = fc_plan_step(plan, step);
    const fc_score *score = s ? find_score(s, name, n) : NULL;
    if (T_OK(score != NULL, "%s: step %d: no score for %.*s", where, (int)step + 1, (int)n, name))
        T_OK(relative(score->value, want) <= SCORE_TOLERANCE,
             "%s: step %d: %.*s: expected %.9g, got %.9g", where, (int)step + 1, (int)n, name, want,
             score->value);
}

/* ------------------------------------------------------------------------- reference files */

typedef struct words { /* a line cut at spaces */
    char *w[8];
    char *rest; /* after word number `n` */
    int n;
} words;

static words cut(char *line, int n) {
    words k;
    memset(&k, 0, sizeof k);
    for (char *p = strtok(line, " "); p; p = strtok(NULL, " ")) {
        k.w[k.n++] = p;
        k.rest = p + strlen(p) + 1;
        if (k.n == n) break; /* another strtok would cut the rest */
    }
    return k;
}

static size_t numbers(const char *text, double *out, size_t most) {
    size_t n = 0;
    for (char *end; n < most; text = end) {
        double v = strtod(text, &end);
        if (end == text) break;
        out[n++] = v;
    }
    return n;
}

typedef struct plans {
    fc_plan *p[FC_METRIC_COUNT];
} plans;

static void check_ref_line(const char *where, char *line, const char *end, fc_model *m,
                           const fc_tokens *t, const collected *logits, plans *all) {
    static double values[70000];
    size_t vocab = logits->vocab;
    fc_metric metric;
    bool is_logits = strncmp(line, "logits ", 7) == 0;
    words k = cut(line, is_logits ? 3 : 7);
    if (k.n == 0) return;
    if (is_logits) {
        size_t seq = strtoul(k.w[1], NULL, 10), pos = strtoul(k.w[2], NULL, 10),
               n = k.rest < end ? numbers(k.rest, values, 70000) : 0;
        const float *row = logits->rows + (t->starts[seq] + pos) * vocab;
        double worst = 0;
        for (size_t i = 0; i < n && i < vocab; i++)
            worst = fmax(worst, fabs(values[i] - (double)row[i]));
        T_OK(n == vocab && worst <= LOGIT_TOLERANCE,
             "%s: logits of sequence %d, position %d: off by %g (%d values)", where, (int)seq,
             (int)pos, worst, (int)n);
    } else if (strcmp(k.w[0], "perplexity") == 0) {
        fc_perplexity p;
        memset(&p, 0, sizeof p);
        T_OK(fc_eval_perplexity(m, t, NULL, NULL, &p, NULL) == FC_OK &&
                 relative(p.perplexity, strtod(k.w[1], NULL)) <= PERPLEXITY_TOLERANCE,
             "%s: perplexity: expected %s, got %.9g", where, k.w[1], p.perplexity);
    } else if (strcmp(k.w[0], "candidate") == 0 &&
               fc_metric_parse(k.w[1], &metric, NULL) == FC_OK) {
        check_score(where, all->p[metric], strtoul(k.w[2], NULL, 10) - 1, k.w[3], strlen(k.w[3]),
                    strtod(k.w[4], NULL));
    } else if (strcmp(k.w[0], "step") == 0 && fc_metric_parse(k.w[1], &metric, NULL) == FC_OK) {
        const fc_step *s = fc_plan_step(all->p[metric], strtoul(k.w[2], NULL, 10) - 1);
        char name[24];
        T_OK(s && strcmp(fc_candidate_name(FC_CANDIDATES_SUBLAYERS, s->removed, name, sizeof name),
                         k.w[4]) == 0,
             "%s: %s step %s: expected %s, got %s", where, k.w[1], k.w[2], k.w[4],
             s ? name : "nothing");
    } else if (strcmp(k.w[0], "pruned") == 0 && fc_metric_parse(k.w[1], &metric, NULL) == FC_OK) {
        uint8_t mask[128];
        fc_perplexity p;
        fc_error err;
        memset(&p, 0, sizeof p);
        T_OK(fc_plan_mask(all->p[metric], m, strtoul(k.w[2], NULL, 10), mask, sizeof mask, &err) ==
                     FC_OK &&
                 fc_eval_perplexity(m, t, mask, NULL, &p, &err) == FC_OK &&
                 relative(p.perplexity, strtod(k.w[4], NULL)) <= PERPLEXITY_TOLERANCE,
             "%s: pruned %s %s: expected %s, got %.9g", where, k.w[1], k.w[2], k.w[4],
             p.perplexity);
    }
}

/* "text-perplexity PATH LENGTH P" and "text HEX ID ...", which need the model's tokenizer. */
static void check_text_line(const char *where, char *line, fc_model *m) {
    fc_error err;
    fc_tokens tokens;
    const fc_tokenizer *t = fc_model_tokenizer(m, &err);
    if (!T_OK(t != NULL, "%s: tokenizer: %s", where, err.msg)) return;
    bool perplexity = strncmp(line, "text-perplexity ", 16) == 0;
    words k = cut(line, perplexity ? 4 : 2);
    if (perplexity) {
        char path[256];
        size_t n;
        fc_tokens windows;
        fc_perplexity p;
        memset(&p, 0, sizeof p);
        snprintf(path, sizeof path, "tests/data/%s", k.w[1]);
        char *text = t_read(path, &n);
        T_OK(text && fc_tokenize(t, text, n, FINERCUT_TOKENIZE_SPECIAL, &tokens, &err) == FC_OK,
             "%s: %s", path, err.msg);
        T_OK(fc_tokens_windows(&tokens, (uint32_t)strtoul(k.w[2], NULL, 10), &windows, &err) ==
                 FC_OK,
             "%s: %s", path, err.msg);
        T_OK(fc_eval_perplexity(m, &windows, NULL, NULL, &p, &err) == FC_OK &&
                 relative(p.perplexity, strtod(k.w[3], NULL)) <= PERPLEXITY_TOLERANCE,
             "%s: windows of %s: expected %s, got %.9g", path, k.w[2], k.w[3], p.perplexity);
        fc_tokens_free(&windows);
        fc_tokens_free(&tokens);
        free(text);
    } else {
        char bytes[2048];
        size_t n = 0, count = 0;
        for (const char *h = k.w[1]; h[0] && h[0] != '-' && n < sizeof bytes; h += 2) {
            unsigned v;
            sscanf(h, "%2x", &v);
            bytes[n++] = (char)v;
        }
        bool same = fc_tokenize(t, bytes, n, 0, &tokens, &err) == FC_OK;
        for (char *p = k.w[1][0] == '-' ? NULL : k.rest, *end; same && p && *p; p = end, count++) {
            unsigned long id = strtoul(p, &end, 10);
            if (end == p) break;
            same = count < tokens.starts[1] && tokens.ids[count] == id;
        }
        T_OK(same && count == tokens.starts[1], "%s: text %s", where, k.w[1]);
        fc_tokens_free(&tokens);
    }
}

static char *next_line(char *p) {
    char *end = strchr(p, '\n');
    if (!end) return p + strlen(p);
    *end = 0;
    return end + 1;
}

static void check_reference(const char *name, const char *model_path) {
    char path[256];
    size_t size;
    snprintf(path, sizeof path, "tests/data/%s.ref", name);
    char *text = t_read(path, &size);
    fc_tokens t;
    uint32_t ids[4096], most = 0;
    memset(&t, 0, sizeof t);
    if (!T_OK(text != NULL, "%s: missing", path)) return;
    for (char *p = text; *p;) { /* the sequences, and how many steps the longest search has */
        char *end = strchr(p, '\n');
        if (strncmp(p, "tokens ", 7) == 0) {
            size_t n = 0;
            for (char *q = p + 7; q < end;) ids[n++] = (uint32_t)strtoul(q, &q, 10);
            add_sequence(&t, ids, n);
        }
        if (strncmp(p, "step js ", 8) == 0)
            most = (uint32_t)fmax(most, (double)strtoul(p + 8, NULL, 10));
        p = end + 1;
    }
    fc_model *m = open_model(model_path, FC_COMPUTE_F32, 0, FC_SIMD_AUTO);
    if (m) {
        plans all, race;
        collected logits = logits_of(m, &t, NULL);
        memset(&all, 0, sizeof all);
        memset(&race, 0, sizeof race);
        for (int i = 0; i <= FC_METRIC_EUCLIDEAN; i++) {
            all.p[i] = prune(m, &t, (fc_metric)i, FC_SEARCH_EXHAUSTIVE, most);
            race.p[i] = prune(m, &t, (fc_metric)i, FC_SEARCH_RACE, most);
            if (all.p[i] && race.p[i]) same_plan(name, race.p[i], all.p[i]);
        }
        for (char *p = text, *next; *p; p = next) {
            next = next_line(p);
            if (strncmp(p, "text", 4) == 0) check_text_line(name, p, m);
            else check_ref_line(name, p, next, m, &t, &logits, &all);
        }
        for (int i = 0; i < FC_METRIC_COUNT; i++) {
            fc_plan_free(all.p[i]);
            fc_plan_free(race.p[i]);
        }
        free(logits.rows);
    }
    fc_model_close(m);
    fc_tokens_free(&t);
    free(text);
}

/* ------------------------------------------------------------------------- ../shared/golden */

static void golden_search(const char *name, fc_model *m, const fc_tokens *t, const fci_json *steps,
                          fc_metric metric) {
    fc_plan *all = prune(m, t, metric, FC_SEARCH_EXHAUSTIVE, steps->count),
            *race = prune(m, t, metric, FC_SEARCH_RACE, steps->count);
    const fci_json *s = fci_json_first(steps);
    if (!all || !race) return;
    same_plan(name, race, all);
    for (uint32_t i = 0; i < steps->count; i++, s = fci_json_next(s)) {
        const fci_json *removed = fci_json_get(s, "removed"), *scores = fci_json_get(s, "scores"),
                       *k = fci_json_first(scores);
        char own[24];
        fc_candidate_name(FC_CANDIDATES_SUBLAYERS, fc_plan_step(all, i)->removed, own, sizeof own);
        T_OK(fci_is(removed->text, own), "%s %s: step %u: expected %.*s, got %s", name,
             fc_metric_name(metric), i + 1, (int)removed->text.n, removed->text.p, own);
        for (uint32_t c = 0; c < scores->count; c++, k = fci_json_next(k + 1))
            check_score(name, all, i, k->text.p, k->text.n, k[1].number);
    }
    fc_plan_free(all);
    fc_plan_free(race);
}

static void golden_case(const char *name) {
    char path[512];
    size_t size;
    fc_env env;
    fci_context c;
    const fci_json *root;
    memset(&env, 0, sizeof env);
    fci_context_basic(&c, &env);
    fci_arena arena = {&c, NULL};
    snprintf(path, sizeof path, "%s/golden/%s/golden.json", t_shared(), name);
    char *text = t_read(path, &size);
    if (!text) {
        t_skip(path, "not there");
        return;
    }
    snprintf(path, sizeof path, "%s/golden/%s", t_shared(), name);
    fc_model *m = open_model(path, FC_COMPUTE_F32, 0, FC_SIMD_AUTO);
    if (m && T_OK(!fci_json_parse(&c, &arena, text, size, 0, &root, NULL), "%s: golden.json",
                  name)) {
        fc_tokens t;
        memset(&t, 0, sizeof t);
        const fci_json *sequences = fci_json_get(root, "tokens"), *s = fci_json_first(sequences);
        for (uint32_t i = 0; i < sequences->count; i++, s = fci_json_next(s)) {
            uint32_t ids[64], n = 0;
            for (const fci_json *id = fci_json_first(s); n < s->count; id = fci_json_next(id))
                ids[n++] = (uint32_t)id->integer;
            add_sequence(&t, ids, n);
        }
        collected l = logits_of(m, &t, NULL);
        const fci_json *row = fci_json_get(root, "logits_sample1_last"), *v = fci_json_first(row);
        double worst = 0;
        for (uint32_t i = 0; i < row->count; i++, v = fci_json_next(v))
            worst = fmax(worst, fabs(v->number - (double)l.rows[(t.starts[2] - 1) * l.vocab + i]));
        T_OK(row->count == l.vocab && worst <= LOGIT_TOLERANCE, "%s: logits off by %g", name,
             worst);
        fc_perplexity p;
        fc_eval_perplexity(m, &t, NULL, NULL, &p, NULL);
        T_OK(relative(p.perplexity, fci_json_get(root, "perplexity")->number) <=
                 PERPLEXITY_TOLERANCE,
             "%s: perplexity %g", name, p.perplexity);
        const fci_json *searches = fci_json_get(root, "searches"), *k = fci_json_first(searches);
        for (uint32_t i = 0; i < searches->count; i++, k = fci_json_next(k + 1)) {
            char metric_name[32];
            fc_metric metric = FC_METRIC_JS;
            snprintf(metric_name, sizeof metric_name, "%.*s", (int)k->text.n, k->text.p);
            if (T_OK(fc_metric_parse(metric_name, &metric, NULL) == FC_OK, "metric %s",
                     metric_name))
                golden_search(name, m, &t, k + 1, metric);
        }
        free(l.rows);
        fc_tokens_free(&t);
    }
    fc_model_close(m);
    fci_arena_free(&arena);
    free(text);
}

/* ------------------------------------------------------------------------- properties */

static fc_tokens some_tokens(uint32_t vocab, size_t n_sequences, size_t length) {
    fc_tokens t;
    uint32_t ids[512], state = 12345;
    memset(&t, 0, sizeof t);
    for (size_t i = 0; i < n_sequences; i++) {
        size_t n = length - i % 3; /* unequal lengths */
        for (size_t k = 0; k < n; k++)
            ids[k] = (state = state * 1664525u + 1013904223u) / 7 % vocab;
        add_sequence(&t, ids, n);
    }
    return t;
}

/* A search under a memory limit; taken: bytes at its peak, and the rows that its trail ran. */
static fc_plan *prune_within(const char *path, fc_compute compute, const fc_tokens *t,
                             fc_metric metric, uint64_t limit, const char *scratch,
                             uint64_t taken[2], fc_error *err) {
    memory world;
    fc_model_desc desc;
    fc_prune_desc prune_desc;
    memset(&world, 0, sizeof world);
    memset(&desc, 0, sizeof desc);
    memset(&prune_desc, 0, sizeof prune_desc);
    desc.compute = compute;
    desc.env.alloc = memory_env(&world).alloc;
    desc.env.par.n_threads = 2;
    desc.memory_limit = limit;
    prune_desc.calibration = t;
    prune_desc.metric = metric;
    prune_desc.scratch = scratch;
    fc_model *m = fc_model_open(path, &desc, err);
    if (!m) return NULL;
    uint64_t before = world.bytes;
    world.peak = world.bytes;
    fc_plan *p = fc_prune(m, &prune_desc, err), *copy = NULL;
    taken[0] = world.peak - before;
    taken[1] = p ? fc_plan_about(p)->cost.trail_rows : 0;
    if (p) { /* what the model's allocator owns goes with it */
        fc_error ignored;
        fc_plan_save(p, "build/test_limits.json", &ignored);
        copy = fc_plan_load("build/test_limits.json", NULL, &ignored);
        remove("build/test_limits.json");
    }
    fc_plan_free(p);
    fc_model_close(m);
    return copy;
}

/* What a limit has no room for is kept in a file: the same bits for less work and memory. */
static void test_scratch(const char *path, fc_compute compute, const fc_tokens *t,
                         fc_metric metric, uint64_t limit, const fc_plan *want) {
    fc_error err;
    uint64_t without[2], taken[2];
    fc_plan *again = prune_within(path, compute, t, metric, limit, NULL, without, &err),
            *p = prune_within(path, compute, t, metric, limit, "build", taken, &err);
    if (!p && err.code == FC_ERR_UNSUPPORTED) {
        t_skip("a trail in a file", err.msg);
        fc_plan_free(again);
        return;
    }
    if (T_OK(p && again, "scratch: %s", err.msg)) {
        same_plan("scratch", p, want);
        T_OK(taken[1] < without[1], "scratch: %lu rows of the trail are run, %lu without",
             (unsigned long)taken[1], (unsigned long)without[1]);
    }
    T_OK(taken[0] <= limit, "scratch: %lu allowed, %lu taken", (unsigned long)limit,
         (unsigned long)taken[0]);
    fc_plan_free(again);
    fc_plan_free(p);
    p = prune_within(path, compute, t, metric, limit, "build/no folder", taken, &err);
    T_OK(!p && err.code == FC_ERR_IO && strstr(err.msg, "build/no folder: trail: expected room"),
         "scratch in no folder: %s", p ? "a plan" : err.msg);
    fc_plan_free(p);
}

/* From the least limit up, through sparse trails and waves of one sequence: the same bits, and the
   limit kept. */
static void test_limits(const char *path, fc_compute compute, const fc_tokens *t, fc_metric metric,
                        const fc_plan *want) {
    fc_error err;
    uint64_t taken[2];
    T_OK(!prune_within(path, compute, t, metric, 1000, NULL, taken, &err) &&
             err.code == FC_ERR_LIMIT,
         "memory limit 1000 must be refused: %s", err.msg);
    const char *text = strstr(err.msg, "at least ");
    uint64_t least = text ? strtoull(text + 9, NULL, 10) : 0, step = least / 40;
    text = strstr(err.msg, "got 1000; ");
    const uint64_t in_file = text ? strtoull(text + 10, NULL, 10) : 0;
    T_OK(!text == !FCI_SCRATCH &&
             (!text || (strstr(text, " with a scratch folder") && in_file < least)),
         "%s", err.msg);
    T_OK(!prune_within(path, compute, t, metric, least - 1, NULL, taken, &err) &&
             err.code == FC_ERR_LIMIT,
         "one byte less than the least must be refused");
    for (int i = 0; i < 8 && least; i++) {
        fc_plan *p =
            prune_within(path, compute, t, metric, least + step * (uint64_t)i, NULL, taken, &err);
        if (T_OK(p != NULL, "memory limit %d: %s", i, err.msg)) same_plan("memory limit", p, want);
        T_OK(taken[0] <= least + step * (uint64_t)i, "memory limit %d: %lu allowed, %lu taken", i,
             (unsigned long)(least + step * (uint64_t)i), (unsigned long)taken[0]);
        fc_plan_free(p);
    }
    test_scratch(path, compute, t, metric, least, want);
    for (uint64_t i = 0; in_file && i < 2; i++) { /* what it says of a scratch folder is so */
        fc_plan *p = prune_within(path, compute, t, metric, in_file - i, "build", taken, &err);
        T_OK(err.code == FC_ERR_UNSUPPORTED || (i ? !p && err.code == FC_ERR_LIMIT : p != NULL),
             "limit %lu with a scratch folder: %s", (unsigned long)(in_file - i), err.msg);
        T_OK(!strstr(err.msg, "with a scratch"), "%s", err.msg);
        fc_plan_free(p);
    }
}

/* Threads, batching (through the memory limit) and search change no bit. */
static void test_same_bits(const char *path, fc_compute compute) {
    fc_model *one = open_model(path, compute, 1, FC_SIMD_AUTO);
    if (!one) return;
    fc_tokens t = some_tokens(fc_model_config(one)->vocab_size, 5, 40);
    for (int metric = 0; metric < FC_METRIC_COUNT; metric++) {
        fc_plan *a = prune(one, &t, (fc_metric)metric, FC_SEARCH_EXHAUSTIVE, 0);
        for (uint32_t threads = 2; threads <= 3 && a; threads++) {
            fc_model *m = open_model(path, compute, threads, FC_SIMD_AUTO);
            fc_plan *b = m ? prune(m, &t, (fc_metric)metric, FC_SEARCH_EXHAUSTIVE, 0) : NULL;
            fc_plan *r = m ? prune(m, &t, (fc_metric)metric, FC_SEARCH_RACE, 0) : NULL;
            if (b && r) {
                same_plan("threads", b, a);
                same_plan("threads, race", r, a);
            }
            fc_plan_free(b);
            fc_plan_free(r);
            fc_model_close(m);
        }
        if (a) test_limits(path, compute, &t, (fc_metric)metric, a);
        fc_plan_free(a);
    }
    fc_tokens_free(&t);
    fc_model_close(one);
}

/* Distances and the mask against their definitions, from whole logits in double. */
static double direct_distance(fc_metric metric, const collected *p, const collected *q,
                              const fc_tokens *t) {
    double sum = 0, count = 0;
    for (size_t s = 0; s < t->n_sequences; s++) {
        double square = 0;
        for (size_t i = t->starts[s]; i < t->starts[s + 1]; i++) {
            const float *a = p->rows + i * p->vocab, *b = q->rows + i * q->vocab;
            double la = 0, lb = 0, v = 0, aa = 0, ab = 0, bb = 0;
            for (size_t k = 0; k < p->vocab; k++) {
                la += exp((double)a[k]);
                lb += exp((double)b[k]);
                aa += (double)a[k] * (double)a[k];
                ab += (double)a[k] * (double)b[k];
                bb += (double)b[k] * (double)b[k];
                square += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
            }
            for (size_t k = 0; k < p->vocab; k++) {
                double x = exp((double)a[k]) / la, y = exp((double)b[k]) / lb, mid = (x + y) / 2;
                if (metric == FC_METRIC_JS) v += (x * log(x / mid) + y * log(y / mid)) / 2;
                if (metric == FC_METRIC_JS_REFERENCE)
                    v += (mid * log(mid / x) + mid * log(mid / y)) / 2 / (double)p->vocab;
                if (metric == FC_METRIC_KL) v += x * log(x / y);
            }
            if (metric == FC_METRIC_ANGULAR) v = acos(ab / sqrt(aa * bb));
            if (metric == FC_METRIC_NLL)
                v = i + 1 < t->starts[s + 1] ? log(lb) - (double)b[t->ids[i + 1]] : 0;
            if (metric != FC_METRIC_NLL || i + 1 < t->starts[s + 1]) count++;
            sum += v;
        }
        if (metric == FC_METRIC_EUCLIDEAN) sum += sqrt(square);
    }
    return sum / (metric == FC_METRIC_EUCLIDEAN ? (double)t->n_sequences : count);
}

static void test_distances(const char *path) {
    fc_model *m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO);
    if (!m) return;
    uint32_t n = 2 * fc_model_config(m)->n_blocks;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 3, 20);
    collected p = logits_of(m, &t, NULL);
    uint8_t mask[128];
    for (int metric = 0; metric < FC_METRIC_COUNT; metric++) {
        fc_plan *plan = prune(m, &t, (fc_metric)metric, FC_SEARCH_EXHAUSTIVE, n);
        if (!plan) continue;
        T_OK(fc_plan_about(plan)->n_steps == n, "every sublayer can go");
        for (uint32_t i = 0; i < n; i++) {
            T_OK(fc_plan_mask(plan, m, i + 1, mask, sizeof mask, NULL) == FC_OK, "mask");
            collected q = logits_of(m, &t, mask);
            double want = direct_distance((fc_metric)metric, &p, &q, &t),
                   got = fc_plan_step(plan, i)->score;
            T_OK(relative(got, want) < 1e-4, "%s: step %u: expected %.9g, got %.9g",
                 fc_metric_name((fc_metric)metric), i + 1, want, got);
            free(q.rows);
        }
        fc_plan_free(plan);
    }
    free(p.rows);
    fc_tokens_free(&t);
    fc_model_close(m);
}

/* Candidates by kind and by place. */
static void test_candidates(const char *path) {
    fc_model *m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO);
    if (!m) return;
    uint32_t blocks = fc_model_config(m)->n_blocks;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 2, 16);
    for (int kind = 0; kind < FC_CANDIDATES_COUNT; kind++) {
        fc_prune_desc desc;
        fc_error err;
        memset(&desc, 0, sizeof desc);
        desc.calibration = &t;
        desc.candidates = (fc_candidates)kind;
        desc.last = 0.67;
        uint32_t first = (uint32_t)(blocks * (1 - 0.67)),
                 each = kind == FC_CANDIDATES_SUBLAYERS ? 2 : 1;
        fc_plan *plan = fc_prune(m, &desc, &err);
        if (!T_OK(plan != NULL, "%s", err.msg)) continue;
        T_OK(fc_plan_about(plan)->n_steps == (blocks - first) * each - 1,
             "%s: ranked down to the last but one, got %d", fc_candidates_name(desc.candidates),
             (int)fc_plan_about(plan)->n_steps);
        for (size_t i = 0; i < fc_plan_about(plan)->n_steps; i++) {
            const fc_step *s = fc_plan_step(plan, i);
            uint32_t block = kind == FC_CANDIDATES_BLOCKS ? s->removed : s->removed / 2;
            T_OK(block >= first && s->n_scores == (blocks - first) * each - i,
                 "%s: step %d: block %u, %d scores", fc_candidates_name(desc.candidates),
                 (int)i + 1, block, (int)s->n_scores);
            if (kind == FC_CANDIDATES_ATTENTION || kind == FC_CANDIDATES_FFN)
                T_OK(s->removed % 2 == (uint32_t)kind - 1, "kind of %u", s->removed);
        }
        desc.remove = 1000;
        T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_ARGUMENT,
             "removing 1000 must be refused");
        desc.remove = 0;
        desc.fraction = 0.01;
        T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_ARGUMENT,
             "1 %% of a few must be refused");
        fc_plan_free(plan);
    }
    fc_tokens_free(&t);
    fc_model_close(m);
}

typedef struct stopper {
    size_t at_step;
    int calls;
    double done;
} stopper;

static int stop_at(void *user, const fc_progress *p) {
    stopper *s = (stopper *)user;
    s->calls++;
    T_OK(p->done >= s->done, "progress went back from %g to %g", s->done, p->done);
    s->done = p->done;
    T_OK(p->done >= 0 && p->done <= 1 && p->step_done >= 0 && p->step_done <= 1.0001,
         "progress %g %g", p->done, p->step_done);
    return p->plan && fc_plan_about(p->plan)->n_steps >= s->at_step;
}

/* Two plans say the same of every candidate, bounds and all. */
static void same_scores(const fc_plan *a, const fc_plan *b) {
    for (size_t i = 0; i < fc_plan_about(a)->n_steps; i++) {
        const fc_step *s = fc_plan_step(a, i), *t = fc_plan_step(b, i);
        int same = s->n_scores == t->n_scores;
        for (size_t k = 0; same && k < s->n_scores; k++) {
            const fc_score *x = &s->scores[k], *y = &t->scores[k];
            same = x->candidate == y->candidate && x->exact == y->exact &&
                   x->positions == y->positions &&
                   memcmp(&x->value, &y->value, sizeof x->value) == 0 &&
                   (memcmp(&x->expected, &y->expected, sizeof x->expected) == 0 ||
                    (isnan(x->expected) && isnan(y->expected)));
        }
        if (!T_OK(same, "step %d: another score", (int)i + 1)) return;
    }
}

/* Cancelled and resumed gives the plan of an uninterrupted run. */
static void test_resume(const char *path, fc_search search) {
    fc_model *m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO),
             *scalar = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_SCALAR);
    if (!m || !scalar) return;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 3, 24),
              other = some_tokens(fc_model_config(m)->vocab_size, 2, 24);
    fc_plan *whole = prune(m, &t, FC_METRIC_JS, search, 0);
    fc_prune_desc desc;
    fc_error err;
    stopper stop = {2, 0, 0};
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    desc.search = search;
    desc.date = 20240726;
    desc.calibration_given = "--text 'a b'";
    desc.watch.progress = stop_at;
    desc.watch.user = &stop;
    fc_plan *part = fc_prune(m, &desc, &err);
    T_OK(part && err.code == FC_ERR_CANCELLED && fc_plan_about(part)->n_steps == 2,
         "cancelled with 2 steps");
    fc_text saved;
    T_OK(fc_plan_save_memory(part, &saved, &err) == FC_OK, "%s", err.msg);
    fc_plan *loaded = fc_plan_load_memory(saved.bytes, saved.length, NULL, &err);
    T_OK(loaded && fc_plan_about(loaded)->calibration.date == 20240726, "the day of a plan");
    fc_plan_free(loaded);
    fc_text_free(&saved);
    stop.at_step = 1000;
    stop.done = 0;
    desc.resume = part;
    desc.calibration_given = NULL;
    fc_plan *resumed = fc_prune(m, &desc, &err);
    if (T_OK(resumed && whole, "resumed: %s", err.msg)) {
        T_OK(strcmp(fc_plan_about(resumed)->calibration.given, "--text 'a b'") == 0, "its flags");
        same_plan("resumed", resumed, whole);
        same_scores(resumed, whole);
    }
    stop.done = 0; // another model is hashed first
    if (fc_simd_best() != FC_SIMD_SCALAR)
        T_OK(!fc_prune(scalar, &desc, &err) && err.code == FC_ERR_MISMATCH &&
                 strstr(err.msg, "instruction set"),
             "another kernel table must be refused: %s", err.msg);
    if (search == FC_SEARCH_RANDOM) {
        desc.seed = 1;
        T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH && strstr(err.msg, "seed"),
             "another seed must be refused: %s", err.msg);
        desc.seed = 0;
    }
    if (search == FC_SEARCH_CONFIDENT) {
        desc.confidence = 3;
        T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH &&
                 strstr(err.msg, "confidence"),
             "another confidence must be refused: %s", err.msg);
        desc.confidence = 0;
    }
    desc.date++;
    T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH &&
             strstr(err.msg, "another day of its conversations (date): expected 2024-07-26, got "
                             "2024-07-27"), "another day: %s", err.msg);
    desc.date--;
    size_t had[64];
    for (size_t i = 0; i < part->info.n_steps && i < 64; i++) {
        had[i] = part->steps[i].n_scores;
        part->steps[i].n_scores = 0;
    }
    T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH &&
             strstr(err.msg, "resume: expected a plan with the scores of its steps, got none"),
         "%s without scores must be refused: %s", fc_search_name(search), err.msg);
    for (size_t i = 0; i < part->info.n_steps && i < 64; i++) part->steps[i].n_scores = had[i];
    desc.search = search == FC_SEARCH_RANDOM ? FC_SEARCH_RACE : FC_SEARCH_RANDOM;
    T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH && strstr(err.msg, "search"),
         "another search must be refused: %s", err.msg);
    desc.search = search;
    desc.calibration = &other;
    T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH,
         "resuming with another text must be refused: %s", err.msg);
    fc_plan_free(whole);
    fc_plan_free(part);
    fc_plan_free(resumed);
    fc_tokens_free(&t);
    fc_tokens_free(&other);
    fc_model_close(m);
    fc_model_close(scalar);
}

static int stop_in(void *user, const fc_progress *p) {
    return !strcmp(p->what, (const char *)user);
}

/* What was resumed is all there where the search is cancelled before its first step: while the
   model is hashed, and while its sublayers are timed. */
static void test_resume_early(const char *path) {
    char hashing[] = "hashing", calibrating[] = "calibrating"; // sublayers are timed first
    fc_model *m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO);
    if (!m) return;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 3, 24);
    fc_text want, got;
    fc_prune_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.calibration = desc.evaluation = &t;
    desc.remove = 2;
    desc.per = FC_UNIT_PARAMS;
    desc.until.unit = FC_UNIT_PERPLEXITY;
    desc.until.most = 1e6;
    desc.keep = "attn.0";
    fc_plan *p = fc_prune(m, &desc, &err);
    fc_model_close(m);
    m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO); // not hashed
    if (!T_OK(m && p && fc_plan_about(p)->n_steps == 2, "%s", err.msg)) return;
    T_OK(fc_plan_save_memory(p, &want, &err) == FC_OK, "%s", err.msg);
    const fc_budget time = {FC_UNIT_TIME, 0.3, 0}, half = {FC_UNIT_PARAMS, 0.5, 0};
    desc.resume = p;
    desc.remove = 0;
    desc.evaluation = NULL;
    desc.until = time;
    desc.watch.progress = stop_in;
    for (int i = 0; i < 3; i++) {
        if (i == 2) desc.until = half; // nothing is timed: by its own calibration
        desc.watch.user = i ? calibrating : hashing;
        fc_plan *q = fc_prune(m, &desc, &err);
        if (q) q->info.cost = p->info.cost;
        T_OK(q && err.code == FC_ERR_CANCELLED && fc_plan_save_memory(q, &got, NULL) == FC_OK &&
                 got.length == want.length && !memcmp(got.bytes, want.bytes, got.length),
             "%s: another plan than the one that was resumed: %s", (char *)desc.watch.user,
             q ? got.bytes : err.msg);
        if (q) fc_text_free(&got);
        fc_plan_free(q);
        T_OK(fc_model_verify(m, NULL, &err) == FC_OK, "%s", err.msg);
    }
    fc_model_close(m);
    m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO);
    p->info.model.content[0] ^= 1; // '0' is '1' then
    desc.watch.progress = NULL;
    T_OK(m && !fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH &&
             strstr(err.msg, "some weights"),
         "other bytes: %s", err.msg);
    fc_text_free(&want);
    fc_plan_free(p);
    fc_tokens_free(&t);
    fc_model_close(m);
}

/* Tokens of an evaluation that begin late in a long list cost what they cost at its start. */
static void test_late_evaluation(const char *path) {
    enum { LATE = 1000000 };
    fc_model_desc model_desc;
    fc_prune_desc desc;
    fc_estimate estimates[2];
    fc_error err;
    double perplexities[2] = {0, 0};
    memset(&model_desc, 0, sizeof model_desc);
    model_desc.memory_limit = 4 << 20;
    fc_model *m = fc_model_open(path, &model_desc, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 3, 24), late = t;
    const size_t n = t.starts[t.n_sequences];
    size_t starts[4];
    uint32_t *ids = (uint32_t *)calloc(LATE + n, sizeof *ids);
    if (!ids) exit(2);
    memcpy(ids + LATE, t.ids, n * sizeof *ids);
    for (size_t i = 0; i <= t.n_sequences; i++) starts[i] = LATE + t.starts[i];
    late.ids = ids;
    late.starts = starts;
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    desc.remove = 1;
    desc.until.unit = FC_UNIT_PERPLEXITY;
    desc.until.most = 1e6;
    for (int i = 0; i < 2; i++) {
        desc.evaluation = i ? &late : &t;
        fc_plan *p = fc_prune(m, &desc, &err);
        if (T_OK(p != NULL, "%d: %s", i, err.msg)) perplexities[i] = fc_plan_about(p)->perplexity;
        fc_plan_free(p);
        T_OK(fc_prune_estimate(m, &desc, &estimates[i], &err) == FC_OK, "%d: %s", i, err.msg);
    }
    T_OK(perplexities[0] > 0 && !memcmp(&perplexities[0], &perplexities[1], sizeof *perplexities),
         "%g late, %g early", perplexities[1], perplexities[0]);
    T_OK(estimates[0].memory_bytes == estimates[1].memory_bytes, "%g bytes late, %g early",
         (double)estimates[1].memory_bytes, (double)estimates[0].memory_bytes);
    free(ids);
    fc_tokens_free(&t);
    fc_model_close(m);
}

/* one-shot goes by the first scores, random by its seed; both score what goes exactly. */
static void test_orders(const char *path) {
    fc_model *m = open_model(path, FC_COMPUTE_F32, 2, FC_SIMD_AUTO);
    if (!m) return;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 3, 30);
    uint32_t n = 2 * fc_model_config(m)->n_blocks;
    fc_plan *all = prune(m, &t, FC_METRIC_KL, FC_SEARCH_EXHAUSTIVE, 1),
            *shot = prune(m, &t, FC_METRIC_KL, FC_SEARCH_ONE_SHOT, n);
    collected p = logits_of(m, &t, NULL);
    size_t distinct = 0;
    double last = 0;
    for (uint32_t i = 0; shot && all && i < n; i++) {
        const fc_step *s = fc_plan_step(shot, i), *first = fc_plan_step(all, 0);
        for (size_t k = 0; k < first->n_scores; k++)
            if (first->scores[k].candidate == s->removed) {
                T_OK(first->scores[k].value >= last,
                     "one-shot, step %u: not in the order of the first scores", i + 1);
                last = first->scores[k].value;
            }
        T_OK(s->n_scores == (i ? 1 : n), "one-shot, step %u: %d scores", i + 1, (int)s->n_scores);
    }
    for (uint64_t seed = 0; seed < 6; seed++) {
        fc_prune_desc desc;
        fc_error err;
        uint8_t mask[128];
        memset(&desc, 0, sizeof desc);
        desc.calibration = &t;
        desc.metric = FC_METRIC_KL;
        desc.search = FC_SEARCH_RANDOM;
        desc.seed = seed;
        desc.remove = 3;
        fc_plan *a = fc_prune(m, &desc, &err), *b = fc_prune(m, &desc, &err);
        if (T_OK(a && b, "%s", err.msg)) same_plan("random", a, b);
        T_OK(fc_plan_about(a)->seed == seed, "the seed is recorded");
        distinct += fc_plan_step(a, 0)->removed != fc_plan_step(shot, 0)->removed;
        const fc_plan *both[] = {a, shot};
        for (int k = 0; k < 2; k++) {
            T_OK(fc_plan_mask(both[k], m, 3, mask, sizeof mask, NULL) == FC_OK, "mask");
            collected q = logits_of(m, &t, mask);
            double want = direct_distance(FC_METRIC_KL, &p, &q, &t),
                   got = fc_plan_step(both[k], 2)->score;
            T_OK(relative(got, want) < 1e-4 && fc_plan_step(both[k], 2)->scores[0].exact,
                 "%s: expected %.9g, got %.9g", k ? "one-shot" : "random", want, got);
            free(q.rows);
        }
        fc_plan_free(a);
        fc_plan_free(b);
    }
    T_OK(distinct > 0, "seeds give different orders");
    free(p.rows);
    fc_plan_free(all);
    fc_plan_free(shot);
    fc_tokens_free(&t);
    fc_model_close(m);
}

/* Lengths and angles by R against those of whole logits in double: not only the sum, every
   candidate. */
static void test_turned(const char *path, fc_compute compute) {
    fc_model *m = open_model(path, compute, 2, FC_SIMD_AUTO);
    if (!m) return;
    uint32_t n = 2 * fc_model_config(m)->n_blocks;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 2, 20);
    collected p = logits_of(m, &t, NULL);
    for (int metric = FC_METRIC_ANGULAR; metric <= FC_METRIC_EUCLIDEAN; metric++) {
        T_OK(fci_triangle_serves(m, (fc_metric)metric), "the form under test is in use");
        fc_plan *plan = prune(m, &t, (fc_metric)metric, FC_SEARCH_EXHAUSTIVE, 1);
        for (uint32_t i = 0; plan && i < n; i++) {
            uint8_t mask[128];
            memset(mask, 1, sizeof mask);
            mask[fc_plan_step(plan, 0)->scores[i].candidate] = 0;
            collected q = logits_of(m, &t, mask);
            double want = direct_distance((fc_metric)metric, &p, &q, &t),
                   got = fc_plan_step(plan, 0)->scores[i].value;
            T_OK(relative(got, want) < 1e-5, "%s: candidate %u: expected %.9g, got %.9g",
                 fc_metric_name((fc_metric)metric), i, want, got);
            free(q.rows);
        }
        fc_plan_free(plan);
    }
    free(p.rows);
    fc_tokens_free(&t);
    fc_model_close(m);
}

/* The n'th allocation and all after it fail, for every n: an error, nothing lost. */
static void test_out_of_memory(const char *path, fc_metric metric) {
    bool done = false;
    long n;
    for (n = 1; !done && n < 2000; n++) {
        memory world;
        fc_model_desc desc;
        fc_error err;
        memset(&world, 0, sizeof world);
        memset(&desc, 0, sizeof desc);
        world.fail_alloc = n;
        world.fail_always = 1;
        desc.env.alloc = memory_env(&world).alloc;
        desc.env.par.n_threads = 2;
        fc_model *m = fc_model_open(path, &desc, &err);
        fc_tokens t = some_tokens(160, 2, 10);
        if (m) {
            fc_prune_desc p;
            memset(&p, 0, sizeof p);
            p.calibration = &t;
            p.metric = metric;
            p.remove = 1;
            fc_plan *plan = fc_prune(m, &p, &err);
            done = plan != NULL;
            fc_plan_free(plan);
        }
        T_OK(done || err.code == FC_ERR_MEMORY, "allocation %ld: expected %s, got %s (%s)", n,
             fc_code_name(FC_ERR_MEMORY), fc_code_name(err.code), err.msg);
        fc_model_close(m);
        fc_tokens_free(&t);
        T_OK(world.live == 0, "allocation %ld: %ld allocations are lost", n, world.live);
    }
    T_OK(done && n > 20, "runs through with enough memory, after %ld", n);
}

static void test_bad_tokens(const char *path) {
    fc_model *m = open_model(path, FC_COMPUTE_F32, 1, FC_SIMD_AUTO);
    if (!m) return;
    fc_error err;
    fc_perplexity p;
    fc_tokens t = some_tokens(fc_model_config(m)->vocab_size, 2, 10), none;
    memset(&none, 0, sizeof none);
    T_OK(fc_eval_perplexity(m, &none, NULL, NULL, &p, &err) == FC_ERR_ARGUMENT, "no tokens");
    t.ids[12] = fc_model_config(m)->vocab_size;
    T_OK(fc_eval_perplexity(m, &t, NULL, NULL, &p, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "sequence 1: token 2"),
         "id out of range: %s", err.msg);
    fc_tokens_free(&t);
    fc_model_close(m);
}

static int refuse_map(void *user, void *file, uint64_t length, const void **data) {
    (void)user;
    (void)file;
    (void)length;
    (void)data;
    return ENOSYS;
}

static void count_log(void *user, int level, const char *message) {
    T_OK(message[0] != 0, "a message");
    ((int *)user)[level]++;
}

/* The log hears of a file that cannot be mapped, and of what was opened. */
static void test_log(const char *path) {
    fc_model_desc desc;
    fc_error err;
    int heard[2] = {0, 0};
    memset(&desc, 0, sizeof desc);
    desc.env.io = fci_platform_io();
    desc.env.io.map = refuse_map;
    desc.env.log.fn = count_log;
    desc.env.log.user = heard;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m && heard[0] >= 1 && heard[1] == 1, "heard %d warnings, %d notes: %s", heard[0], heard[1],
         err.msg);
    desc.env.io.create = NULL;
    desc.env.io.write = NULL;
    desc.env.io.commit = NULL;
    desc.env.io.discard = NULL;
    T_OK(fc_file_write("build/nothing", &desc.env, "x", 1, &err) == FC_ERR_ARGUMENT,
         "an io that cannot write: %s", err.msg);
    fc_model_close(m);
}

/* fc_prune_file saves what a cancelled search has done, and no more often. */
static void test_levels_cancelled(const char *text) {
    static const char path[] = "build/test_levels.json";
    char hashing[] = "hashing";
    stopper stop = {1, 0, 0};
    fc_error err;
    fc_prune_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.search = FC_SEARCH_RANDOM;
    desc.remove = 2;
    desc.watch.progress = stop_at;
    desc.watch.user = &stop;
    fc_code code = fc_prune_file("examples/demo", text, &desc, path, NULL, &err);
    fc_error read;
    fc_plan *p = fc_plan_load(path, NULL, &read);
    T_OK(code == FC_ERR_CANCELLED && err.code == code && strstr(err.msg, "cancelled") && p &&
             fc_plan_about(p)->n_steps == 1, // on a slow machine while that step is scored
         "cancelled after a step: %s; %s", err.msg, read.msg);
    desc.resume = p;
    desc.watch.progress = stop_in;
    desc.watch.user = hashing;
    remove(path);
    code = fc_prune_file("examples/demo", text, &desc, path, NULL, &err);
    fc_plan *q = fc_plan_load(path, NULL, &read);
    T_OK(p && code == FC_ERR_CANCELLED && err.code == code && !q, "cancelled before one: %s",
         err.msg);
    fc_plan_free(q);
    desc.watch.progress = NULL;
    T_OK(p && fc_prune_file("examples/demo", text, &desc, path, NULL, &err) == FC_OK, "resumed: %s",
         err.msg);
    fc_plan_free(p);
    remove(path);
}

/* The easy level of the interface. */
static void test_levels(void) {
    fc_error err;
    fc_prune_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.remove = 2;
    const char *text = "And God said, Let there be light: and there was light.\n\nAnd God saw the "
                       "light, that it was good.\n";
    T_OK(fc_file_write("build/test_levels.txt", NULL, text, strlen(text), &err) == FC_OK, "%s",
         err.msg);
    T_OK(fc_prune_file("examples/demo", "build/test_levels.txt", &desc, "build/test_levels.json",
                       NULL, &err) == FC_OK,
         "%s", err.msg);
    fc_plan *p = fc_plan_load("build/test_levels.json", NULL, &err);
    T_OK(p && fc_plan_about(p)->n_steps == 2 && fc_plan_about(p)->calibration.n_sequences == 1,
         "plan of fc_prune_file: %s", err.msg);
    T_OK(fc_prune_file("examples/demo", "build/test_levels.txt", &desc, "build/test_levels.json",
                       NULL, &err) == FC_ERR_MISMATCH &&
             strstr(err.msg, "holds a plan of 2 steps of demo"),
         "a plan that is there: %s", err.msg);
    T_OK(fc_plan_replaceable("build/none.json", NULL, &err) == FC_OK &&
             fc_plan_replaceable("build/test_levels.txt", NULL, &err) == FC_ERR_FORMAT &&
             fc_plan_replaceable(NULL, NULL, NULL) == FC_ERR_ARGUMENT,
         "other files: %s", err.msg);
    fc_plan_free(p);
    remove("build/test_levels.json");
    test_levels_cancelled("build/test_levels.txt");
    remove("build/test_levels.txt");
    T_OK(fc_prune_file("examples/nothing", "examples/demo/calibration.txt", NULL, "build/none.json",
                       NULL, &err) == FC_ERR_IO,
         "missing model: %s", err.msg);
}

int main(int argc, char **argv) {
    static const char *const golden[] = {"llama2",
                                         "llama3",
                                         "llama31_rope_tied",
                                         "llama_bias_headdim",
                                         "llama_linear_rope",
                                         "llama_yarn_rope",
                                         "mistral",
                                         "mixtral",
                                         "qwen2",
                                         "qwen3",
                                         "qwen3_moe",
                                         "gemma",
                                         "gemma2",
                                         "gemma3_text",
                                         "phi3",
                                         "olmo2",
                                         "granite",
                                         "smollm3",
                                         "stablelm",
                                         "starcoder2",
                                         "gpt_neox",
                                         "gpt2"};
    static const char *const names[] = {"llama_f32_bias", "llama_f16_sharded",
                                        "llama_bf16_old_config"};
    /* also as tests/data/NAME.gguf, and only as Hugging Face directories */
    static const char *const families[] = {
        "mixtral",   "qwen2", "qwen3",   "gemma",    "gemma2",     "gemma3",   "phi3",
        "phi3_long", "olmo2", "granite", "stablelm", "starcoder2", "gpt_neox", "gpt2"};
    static const char *const more[] = {"mistral", "qwen2_window", "qwen3_moe", "smollm3",
                                       "gpt_neox_sequential"};
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"};
    char path[256], name[64];
    if (argc > 1) { /* names of further golden cases below FINERCUT_SHARED */
        for (int i = 1; i < argc; i++) golden_case(argv[i]);
        return t_end("test_search");
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "tests/data/%s", names[i]);
        check_reference(names[i], path);
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(name, sizeof name, "llama_%s", types[i]);
        snprintf(path, sizeof path, "tests/data/llama_%s.gguf", types[i]);
        check_reference(name, path);
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        snprintf(path, sizeof path, "tests/data/%s", families[i]);
        check_reference(families[i], path);
        snprintf(path, sizeof path, "tests/data/%s.gguf", families[i]);
        check_reference(families[i], path);
    }
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        snprintf(path, sizeof path, "tests/data/%s", more[i]);
        check_reference(more[i], path);
    }
    if (getenv("FINERCUT_SLOW"))
        t_skip("demo", "takes minutes on an emulated processor or under a sanitizer");
    else check_reference("demo", "examples/demo");
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) golden_case(golden[i]);
    test_same_bits("tests/data/llama_bf16_old_config", FC_COMPUTE_F32);
    test_same_bits("tests/data/llama_bf16_old_config", FC_COMPUTE_AUTO);
    test_same_bits("tests/data/llama_q4_1.gguf", FC_COMPUTE_AUTO);
    test_distances("tests/data/llama_f16_sharded");
    test_candidates("tests/data/llama_f16_sharded");
    for (int i = 0; i < FC_SEARCH_COUNT; i++)
        test_resume("tests/data/llama_f32_bias", (fc_search)i);
    test_resume_early("tests/data/llama_f32_bias");
    test_late_evaluation("tests/data/llama_f32_bias");
    test_orders("tests/data/llama_f16_sharded");
    test_turned("tests/data/llama_f16_sharded", FC_COMPUTE_F32);
    test_turned("tests/data/llama_bf16_old_config", FC_COMPUTE_AUTO);
    test_turned("tests/data/llama_q4_1.gguf", FC_COMPUTE_F32);
    test_bad_tokens("tests/data/llama_f32_bias");
    test_levels();
    test_log("tests/data/llama_f32_bias");
    test_out_of_memory("tests/data/llama_f32_bias", FC_METRIC_JS);
    test_out_of_memory("tests/data/llama_f32_bias", FC_METRIC_ANGULAR);
    return t_end("test_search");
}
