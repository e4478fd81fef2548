// What a search would take, beside what it took: counts, memory, steps, and what is refused. No
// time is compared with a clock.
#include "private.h"
#include "memory.h"
#include "plans.h"
#include "t.h"
#include "tiny.h"
#include "tokens.h"

enum { MOST = 6 * 24 };

static fc_error err;
static uint32_t ids[MOST];
static size_t starts[8];

// `n` sequences of `length`, the last one shorter by `less`.
static fc_tokens text_of(const fc_model *m, size_t n, size_t length, size_t less) {
    const uint32_t vocab = fc_model_config(m)->vocab_size;
    for (size_t i = 0; i < MOST; i++) ids[i] = (uint32_t)(i * i * 7 + 3 * i + 1) % vocab;
    for (size_t i = 0; i <= n; i++) starts[i] = i * length;
    starts[n] -= less;
    return tokens_of(ids, starts, n);
}

static fc_prune_desc desc_of(const fc_tokens *t, fc_search search, uint32_t remove) {
    fc_prune_desc d;
    memset(&d, 0, sizeof d);
    d.calibration = t;
    d.search = search;
    d.remove = remove;
    return d;
}

static fc_model *open_at(memory *world, const char *path, uint64_t limit) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env.alloc.realloc = memory_realloc;
    desc.env.alloc.user = world;
    desc.env.par.n_threads = 1;
    desc.memory_limit = limit;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

static int holds(const fc_range *r, uint64_t got) {
    return r->low <= r->likely && r->likely <= r->high && r->low <= (double)got &&
           (double)got <= r->high;
}

static int is_exact(const fc_range *r, uint64_t got) {
    return holds(r, got) && r->low + 0.5 > r->high;
}

// ---- Counts.

// An estimate against the search; `exact`: what candidates run depends on no choice.
static void compare(fc_model *m, const fc_prune_desc *d, int exact, const char *what) {
    fc_estimate e;
    if (!T_OK(fc_prune_estimate(m, d, &e, &err) == FC_OK, "%s: %s", what, err.msg)) return;
    fc_plan *p = fc_prune(m, d, &err);
    if (!T_OK(p != NULL, "%s: %s", what, err.msg)) return;
    const fc_plan_info *info = fc_plan_about(p);
    const fc_cost *c = &info->cost;
    const int races = d->search == FC_SEARCH_RACE || d->search == FC_SEARCH_CONFIDENT;
    T_OK(e.n_steps == info->n_steps, "%s: %u steps, got %u", what, e.n_steps,
         (unsigned)info->n_steps);
    T_OK(e.n_done == (d->resume ? fc_plan_about(d->resume)->n_steps : 0), "%s: %u done", what,
         e.n_done);
    T_OK(races || (exact ? is_exact : holds)(&e.candidate_rows, c->candidate_rows),
         "%s: candidates run %.0f (%.0f to %.0f), got %.0f", what, e.candidate_rows.likely,
         e.candidate_rows.low, e.candidate_rows.high, (double)c->candidate_rows);
    T_OK(holds(&e.trail_rows, c->trail_rows), "%s: the trail runs %.0f (%.0f to %.0f), got %.0f",
         what, e.trail_rows.likely, e.trail_rows.low, e.trail_rows.high, (double)c->trail_rows);
    T_OK(races || is_exact(&e.scored_rows, c->scored_rows), "%s: %.0f distances, got %.0f", what,
         e.scored_rows.likely, (double)c->scored_rows);
    T_OK(races || e.kept_rows < e.n_positions || is_exact(&e.output_rows, c->output_rows),
         "%s: %.0f outputs, got %.0f", what, e.output_rows.likely, (double)c->output_rows);
    T_OK(e.share.low <= e.share.likely && e.share.likely <= e.share.high &&
             (races ? e.share.high <= 1 : is_exact(&e.share, 1)),
         "%s: a share of %g", what, e.share.likely);
    T_OK(e.seconds.low <= e.seconds.likely && e.seconds.likely <= e.seconds.high &&
             (e.seconds.low > 0) == (e.n_steps > e.n_done),
         "%s: %g to %g s", what, e.seconds.low, e.seconds.high);
    fc_plan_free(p);
}

static void test_counts(void) {
    static const char *const paths[] = {
        "tests/data/llama_q4_1.gguf", "tests/data/gemma3.gguf", "tests/data/gpt_neox",
        "tests/data/mixtral"};
    static const fc_search searches[] = {FC_SEARCH_EXHAUSTIVE, FC_SEARCH_ONE_SHOT,
                                         FC_SEARCH_RANDOM, FC_SEARCH_RACE, FC_SEARCH_CONFIDENT};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        memory world;
        memset(&world, 0, sizeof world);
        fc_model *m = open_at(&world, paths[i], 0);
        if (!m) continue;
        const long live = world.live;
        for (size_t k = 0; k < 5; k++)
            for (uint32_t kind = 0; kind < FC_CANDIDATES_COUNT; kind++) {
                const fc_tokens t = text_of(m, 2 + k % 2, 8 + i, k);
                fc_prune_desc d = desc_of(&t, searches[k], 1 + (uint32_t)(i + k + kind) % 2);
                char what[120];
                d.candidates = (fc_candidates)kind;
                d.metric = (fc_metric)((i + k) % FC_METRIC_COUNT);
                snprintf(what, sizeof what, "%s, %s, %s, %s", paths[i], fc_search_name(d.search),
                         fc_candidates_name(d.candidates), fc_metric_name(d.metric));
                compare(m, &d, d.search == FC_SEARCH_EXHAUSTIVE && kind == FC_CANDIDATES_SUBLAYERS,
                        what);
            }
        T_OK(world.live == live, "%s: %ld allocations left", paths[i], world.live - live);
        fc_model_close(m);
    }
}

static tiny tiny_model(int blocks) {
    tiny t;
    tiny_llama(&t, blocks, 16, 4, 2, 48);
    return t;
}

static void test_shapes(void) {
    tiny t = tiny_model(6);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    const fc_tokens text = text_of(m, 4, 12, 3);
    for (uint32_t remove = 0; remove <= 11; remove += remove % 2 ? 2 : 1) {
        fc_prune_desc d = desc_of(&text, FC_SEARCH_EXHAUSTIVE, remove);
        compare(m, &d, 1, "all, or so many");
    }
    fc_prune_desc d = desc_of(&text, FC_SEARCH_EXHAUSTIVE, 3);
    d.last = 0.5;
    compare(m, &d, 1, "the last half");
    d.metric = FC_METRIC_NLL;
    compare(m, &d, 1, "nll");
    d = desc_of(&text, FC_SEARCH_EXHAUSTIVE, 4);
    d.keep = "attn.0,ffn.3-4";
    compare(m, &d, 0, "what is kept makes a difference");
    d.keep = NULL;
    d.candidates = FC_CANDIDATES_BLOCKS;
    compare(m, &d, 1, "blocks");
    for (int s = 0; s < FC_SEARCH_COUNT; s++) { // some steps are there
        d = desc_of(&text, (fc_search)s, 3);
        fc_plan *first = fc_prune(m, &d, &err);
        d.resume = first;
        d.remove = 7;
        compare(m, &d, s == FC_SEARCH_EXHAUSTIVE, "resumed");
        d.remove = 2;
        fc_estimate e;
        T_OK(fc_prune_estimate(m, &d, &e, &err) == FC_OK && e.n_steps == 3 && e.n_done == 3 &&
                 e.seconds.high <= 0 && e.candidate_rows.high <= 0 && e.trail_rows.high <= 0,
             "%s: nothing is left to do: %s", fc_search_name(d.search), err.msg);
        fc_plan_free(first);
    }
    fc_model_close(m);
    tiny_end(&t);
}

// ---- Steps by a budget.

static void test_until(void) {
    tiny t = tiny_model(6);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    const fc_tokens text = text_of(m, 3, 12, 0);
    static const char *const units[] = {"params:20%", "bytes:30%", "time:0.7"};
    fc_estimate e;
    for (size_t i = 0; i < 3; i++) {
        fc_prune_desc d = desc_of(&text, FC_SEARCH_RANDOM, 0);
        if (fc_budget_parse(units[i], &d.until, &err)) exit(2);
        fc_plan *p = fc_prune(m, &d, &err);
        if (!T_OK(p && fc_prune_estimate(m, &d, &e, &err) == FC_OK, "%s", err.msg)) continue;
        const int got = (int)fc_plan_about(p)->n_steps;
        T_OK(abs((int)e.n_steps - got) <= 2, "%s: %u steps, got %d", units[i], e.n_steps, got);
        fc_plan_free(p);
    }
    fc_prune_desc d = desc_of(&text, FC_SEARCH_EXHAUSTIVE, 0);
    if (fc_budget_parse("perplexity:1.2", &d.until, &err)) exit(2);
    d.evaluation = &text;
    T_OK(fc_prune_estimate(m, &d, &e, &err) == FC_OK && e.n_steps == 12 &&
             e.candidate_rows.low < e.candidate_rows.high,
         "nobody knows when a perplexity is reached: %s", err.msg);
    fc_model_close(m);
    tiny_end(&t);
}

// ---- Memory: what was said, beside what the hooks counted.

static void test_memory(void) {
    static const uint64_t limits[] = {0, 4000000, 1000000, 400000};
    uint32_t spacing = 0;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        for (int metric = 0; metric < FC_METRIC_COUNT; metric++) {
            tiny t = tiny_model(10);
            fc_estimate e;
            fc_model *m = tiny_open(&t, limits[i], 1, &err);
            if (!T_OK(m != NULL, "%s", err.msg)) return;
            const fc_tokens text = text_of(m, 6, 24, 0);
            fc_prune_desc d = desc_of(&text, metric % 2 ? FC_SEARCH_EXHAUSTIVE : FC_SEARCH_RACE, 4);
            d.metric = (fc_metric)metric;
            const size_t before = t.world.bytes;
            t.world.peak = before;
            const fc_code code = fc_prune_estimate(m, &d, &e, &err);
            const size_t own = t.world.peak - before;
            T_OK(t.world.bytes == before, "%s: %d bytes stay", fc_metric_name(d.metric),
                 (int)(t.world.bytes - before));
            t.world.peak = before;
            fc_plan *p = fc_prune(m, &d, &err);
            const size_t peak = t.world.peak - before;
            if (!T_OK(!code == (p != NULL), "limit %u: %s", (unsigned)limits[i], err.msg)) continue;
            if (p) {
                T_OK(peak <= e.memory_bytes && (double)e.memory_bytes <= 1.1 * (double)peak + 65536,
                     "limit %u, %s: %u bytes, got %u", (unsigned)limits[i],
                     fc_metric_name(d.metric), (unsigned)e.memory_bytes, (unsigned)peak);
                T_OK(!limits[i] || e.memory_bytes <= limits[i], "%u bytes of %u",
                     (unsigned)e.memory_bytes, (unsigned)limits[i]);
                T_OK(own <= peak + 65536, "%u bytes to tell, %u to do", (unsigned)own,
                     (unsigned)peak);
                T_OK(e.trail_bytes + e.wave_bytes + e.logits_bytes + e.kept_bytes < e.memory_bytes,
                     "parts of it");
                if (e.trail_spacing > spacing) spacing = e.trail_spacing;
                T_OK(fc_plan_about(p)->cost.trail_rows <= e.trail_rows.high,
                     "limit %u: the trail runs at most %.0f, got %.0f", (unsigned)limits[i],
                     e.trail_rows.high, (double)fc_plan_about(p)->cost.trail_rows);
            }
            fc_plan_free(p);
            fc_model_close(m);
            tiny_end(&t);
        }
    T_OK(spacing > 1, "some limit left no trail at every sublayer");
}

// ---- How much is measured. Seconds here are no clock's.

static void test_passes(void) {
    T_OK(fci_estimate_first(1e9, 1000) == 16 && fci_estimate_first(1e8, 1000) == 25 &&
             fci_estimate_first(1e9, 3) == 3 && fci_estimate_first(1, 1000) == 1000,
         "first passes");
    double took = 0;
    size_t tokens = 16, passes = 0;
    for (int pass = 0; tokens; pass++, passes++) { // a slow machine: a token takes 0.04 s
        const double last = 0.04 * (double)tokens;
        took += last;
        tokens = fci_estimate_next(tokens, 1000, pass, last, took, 0.5);
    }
    T_OK(passes == 2 && took < 2, "%d passes of %g s", (int)passes, took);
    T_OK(fci_estimate_next(16, 1000, 0, 30, 30, 0.5) == 0, "one pass of 30 s is enough");
    T_OK(fci_estimate_next(16, 1000, 2, 0.1, 0.2, 0) == 32, "more tokens, whatever the budget");
    T_OK(fci_estimate_next(48, 50, 2, 0.1, 0.2, 0) == 50, "no more than there are");
    T_OK(fci_estimate_next(64, 1000, 0, 0.4, 0.4, 0.1) == 64, "a second pass");
    T_OK(fci_estimate_next(64, 1000, 1, 0.4, 0.5, 0.5) == 0, "the budget");
    T_OK(fci_estimate_next(64, 1000, 1, 0.01, 0.02, 0.5) == 128, "fast: twice as many");
}

// ---- What is refused, and failures.

static void test_refused(void) {
    tiny t = tiny_model(4);
    fc_estimate e;
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    const fc_tokens text = text_of(m, 3, 12, 0);
    fc_prune_desc d = desc_of(&text, FC_SEARCH_RACE, 2), bad[6];
    for (size_t i = 0; i < 6; i++) bad[i] = d;
    bad[0].calibration = NULL;
    bad[1].remove = 99;
    bad[2].keep = "attn.9";
    bad[3].metric = (fc_metric)99;
    bad[4].evaluation = &text;
    bad[5].until.unit = FC_UNIT_PARAMS;
    for (size_t i = 0; i < 6; i++) {
        fc_error other;
        const fc_code code = fc_prune_estimate(m, &bad[i], &e, &err);
        fc_plan *p = fc_prune(m, &bad[i], &other);
        T_OK(code == FC_ERR_ARGUMENT && !p && !strcmp(err.msg, other.msg), "%d: %s, not %s", (int)i,
             err.msg, other.msg);
    }
    fc_plan *p = fc_prune(m, &d, &err);
    bad[0] = d;
    bad[0].resume = p;
    bad[0].metric = FC_METRIC_KL;
    T_OK(fc_prune_estimate(m, &bad[0], &e, &err) == FC_ERR_MISMATCH && strstr(err.msg, "metric"),
         "another metric: %s", err.msg);
    // the estimate changes nothing
    T_OK(fc_prune_estimate(m, &d, &e, &err) == FC_OK, "%s", err.msg);
    fc_plan *q = fc_prune(m, &d, &err);
    T_OK(p && q && plans_differ(p, q) == 0, "another plan after it");
    fc_plan_free(p);
    fc_plan_free(q);
    const long live = t.world.live;
    int failures = 0;
    for (long n = 1; n < 500; n++) {
        t.world.allocs = 0;
        t.world.fail_alloc = n;
        const fc_code code = fc_prune_estimate(m, &d, &e, &err);
        if (t.world.allocs < n) break;
        failures++;
        T_OK(code == FC_ERR_MEMORY && t.world.live == live, "allocation %ld: %s, %ld left", n,
             err.msg, t.world.live - live);
    }
    t.world.fail_alloc = 0;
    T_OK(failures > 20, "%d allocations failed", failures);
    fc_model_close(m);
    T_OK(t.world.live == 0, "%ld left", t.world.live);
    tiny_end(&t);
}

int main(void) {
    test_counts();
    test_shapes();
    test_until();
    test_memory();
    test_passes();
    test_refused();
    return t_end("test_estimate");
}
