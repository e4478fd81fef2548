/* Budgets, kept sublayers and distances per unit saved: where searches stop, what they choose, what
   plans record, and what is refused. */
#include "private.h"
#include "memory.h"
#include "plans.h"
#include "t.h"
#include "tiny.h"
#include "tokens.h"

enum { BLOCKS = 4, SUBLAYERS = 2 * BLOCKS };

static const fc_search searches[] = {FC_SEARCH_RACE, FC_SEARCH_EXHAUSTIVE, FC_SEARCH_CONFIDENT};

static struct { // what all tests work with
    tiny t;
    fc_model *m;
    fc_tokens tokens, other; // to calibrate and to judge by
    uint32_t ids[60];
    size_t starts[6], other_starts[4];
} w;

static void begin(void) {
    fc_error err;
    tiny_llama(&w.t, BLOCKS, 16, 4, 2, 48);
    /* blocks that do less and less, so that distances of candidates are far apart */
    for (size_t i = 0; i < w.t.n_slots; i++)
        for (size_t k = 0; k < w.t.slots[i].n && strstr(w.t.slots[i].name, "layers"); k++)
            w.t.slots[i].at[k] *= (float)(0.4 + 0.1 * (double)(i % 7));
    w.m = tiny_open(&w.t, 0, 1, &err);
    if (!w.m) printf("%s\n", err.msg);
    if (!w.m) exit(2);
    for (size_t i = 0; i < 60; i++) w.ids[i] = (uint32_t)(i * i * 7 + 3 * i) % 48;
    for (size_t i = 0; i < 6; i++) w.starts[i] = 12 * i;
    w.tokens.ids = w.ids;
    w.tokens.starts = w.starts;
    w.tokens.n_sequences = 5;
    const size_t others[] = {0, 10, 17, 30};
    memcpy(w.other_starts, others, sizeof others);
    w.other.ids = w.ids + 30;
    w.other.starts = w.other_starts;
    w.other.n_sequences = 3;
}

static fc_prune_desc desc_of(fc_search search, const char *until, fc_unit per, const char *keep) {
    fc_prune_desc d;
    memset(&d, 0, sizeof d);
    d.calibration = &w.tokens;
    d.search = search;
    d.per = per;
    d.keep = keep;
    if (until && fc_budget_parse(until, &d.until, NULL)) exit(2);
    if (d.until.unit == FC_UNIT_PERPLEXITY) d.evaluation = &w.other;
    return d;
}

static fc_plan *prune(const fc_prune_desc *d) {
    fc_error err;
    fc_plan *p = fc_prune(w.m, d, &err);
    T_OK(p != NULL, "%s: %s", fc_search_name(d->search), err.msg);
    if (!p) exit(t_end("test_budget"));
    return p;
}

static double cost_of(const double *costs, fc_candidates kind, uint32_t c) {
    return kind == FC_CANDIDATES_BLOCKS ? costs[2 * c] + costs[2 * c + 1] : costs[c];
}

/* ------------------------------------------------------------------------- texts */

static void test_texts(void) {
    static const struct { const char *text; fc_budget b; const char *back; } good[] = {
        {"params:20%", {FC_UNIT_PARAMS, 0.2, 0}, "params:20%"},
        {"params:7%", {FC_UNIT_PARAMS, 0.07, 0}, "params:7%"},
        {"params:12.5%", {FC_UNIT_PARAMS, 0.125, 0}, "params:12.5%"},
        {"params:30M", {FC_UNIT_PARAMS, 0, 3e7}, "params:30000000"},
        {"params:1.5B", {FC_UNIT_PARAMS, 0, 1.5e9}, "params:1500000000"},
        {"bytes:90M", {FC_UNIT_BYTES, 0, 94371840}, "bytes:94371840"},
        {"bytes:4G", {FC_UNIT_BYTES, 0, 4294967296.}, "bytes:4294967296"},
        {"bytes:25%", {FC_UNIT_BYTES, 0.25, 0}, "bytes:25%"},
        {"time:0.8", {FC_UNIT_TIME, 0, 0.8}, "time:0.8"},
        {"time:20%", {FC_UNIT_TIME, 0.2, 0}, "time:20%"},
        {"distance:0.1", {FC_UNIT_DISTANCE, 0, 0.1}, "distance:0.1"},
        {"distance:1e-4", {FC_UNIT_DISTANCE, 0, 1e-4}, "distance:0.0001"},
        {"distance:3", {FC_UNIT_DISTANCE, 0, 3}, "distance:3"},
        {"perplexity:1.2", {FC_UNIT_PERPLEXITY, 0, 1.2}, "perplexity:1.2"},
        {"perplexity:1", {FC_UNIT_PERPLEXITY, 0, 1}, "perplexity:1"},
    };
    static const char *const bad[] = {
        "", "params", "params:", "params:%", "params:0", "params:0%", "params:100%", "params:120%",
        "params:-20%", "params:0.5", "params:nan", "params:inf", "params:1e400", "params:0x10",
        "params:20%%", "params:30-5M", "params:30e", "params:3.", "params:30G", "params:30m",
        "params: 20%", "params:+20%", "params:20% ",
        "bytes:90B", "bytes:90MB", "bytes:0", "bytes:-1", "time:0", "time:1", "time:1.5",
        "time:-0.5", "time:3K", "time:NaN", "distance:0", "distance:-1", "distance:5%",
        "perplexity:0.9", "perplexity:20%", "perplexity:1K", "perplexity:inf", "perplexity:",
        "distance:1K", "distance:.1", "distance:1e999", "tokens:3", "none:3", ":20%", "20%",
        "Params:20%", "params:20%,time:0.8"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        fc_budget b;
        fc_error err;
        char text[64];
        if (!T_OK(fc_budget_parse(good[i].text, &b, &err) == FC_OK, "%s: %s", good[i].text,
                  err.msg))
            continue;
        T_OK(b.unit == good[i].b.unit && b.share == good[i].b.share && b.most == good[i].b.most,
             "%s: share %.17g, most %.17g", good[i].text, b.share, b.most);
        T_OK(strcmp(fc_budget_text(&b, text, sizeof text), good[i].back) == 0, "%s: got %s",
             good[i].text, text);
    }
    for (int i = 1; i < 1000; i++) { /* every percentage comes back */
        char text[64], back[64];
        fc_budget b, c;
        snprintf(text, sizeof text, "time:%d.%d%%", i / 10, i % 10);
        if (fc_budget_parse(text, &b, NULL) ||
            fc_budget_parse(fc_budget_text(&b, back, sizeof back), &c, NULL) || c.share != b.share)
            if (!T_OK(0, "%s comes back as %s", text, back)) break;
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fc_budget b = {FC_UNIT_TIME, 0, 0.5};
        fc_error err;
        T_OK(fc_budget_parse(bad[i], &b, &err) == FC_ERR_ARGUMENT && b.most == 0.5 && err.msg[0],
             "\"%s\" is taken", bad[i]);
    }
    T_OK(fc_budget_parse(NULL, NULL, NULL) == FC_ERR_ARGUMENT && !fc_budget_text(NULL, NULL, 0),
         "NULL");
}

static void test_names(void) {
    static const char *const bad[] = {
        "", ",", "attn.0,", ",attn.0", "attn", "attn.", "attn.x", "attn.-1", "attn.00", "attn.+1",
        "attn.1-", "attn.1-2-3", "attn.3-1", "attn.4", "attn.0-4", "block.99999999999", "mlp.0",
        "attn.0;ffn.1", "attn.0 ,ffn.1", "Attn.0", "attn.4294967296", "ffn.0-4294967297"};
    uint8_t set[SUBLAYERS];
    fc_error err;
    T_OK(fc_sublayers_parse("attn.0,ffn.0-2,block.3", BLOCKS, set, sizeof set, &err) == FC_OK,
         "names: %s", err.msg);
    T_OK(memcmp(set, "\1\1\0\1\0\1\1\1", SUBLAYERS) == 0, "the set");
    T_OK(fc_sublayers_parse("block.0-3,attn.1-1", BLOCKS, set, sizeof set, NULL) == FC_OK &&
             memcmp(set, "\1\1\1\1\1\1\1\1", SUBLAYERS) == 0, "all, and some twice");
    T_OK(fc_sublayers_parse("attn.4000", UINT32_MAX, NULL, 0, NULL) == FC_OK, "only checked");
    T_OK(fc_sublayers_parse("attn.0", BLOCKS, set, SUBLAYERS - 1, NULL) == FC_ERR_ARGUMENT &&
             fc_sublayers_parse(NULL, BLOCKS, set, sizeof set, NULL) == FC_ERR_ARGUMENT, "no room");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        T_OK(fc_sublayers_parse(bad[i], BLOCKS, set, sizeof set, &err) == FC_ERR_ARGUMENT,
             "\"%s\" is taken", bad[i]);
    T_OK(fc_sublayers_parse("ffn.3-1", BLOCKS, set, sizeof set, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "ffn.3-1: expected the lower block first"), "%s", err.msg);
}

/* ------------------------------------------------------------------------- where it stops */

/* The number of steps after which a plan without a budget is within one. */
static size_t needed(const fc_plan *all, const fc_budget *b, const double *costs) {
    const fc_plan_info *info = fc_plan_about(all);
    double whole = 0, gone = 0;
    size_t n = 0;
    if (b->unit == FC_UNIT_DISTANCE) {
        while (n < info->n_steps && fc_plan_step(all, n)->score <= b->most) n++;
        return n;
    }
    for (size_t s = 0; s <= SUBLAYERS; s++) whole += costs[s];
    for (; n < info->n_steps; n++) {
        const double left = whole - gone;
        if (b->share > 0 ? gone >= b->share * whole * (1 - 1e-9)
                         : left <= (b->unit == FC_UNIT_TIME ? b->most * whole : b->most))
            break;
        gone += cost_of(costs, info->candidates, fc_plan_step(all, n)->removed);
    }
    return n;
}

static void stops(fc_search search, fc_candidates kind, const char *until) {
    fc_prune_desc d = desc_of(search, NULL, FC_UNIT_NONE, NULL);
    fc_error err;
    d.candidates = kind;
    d.remove = kind == FC_CANDIDATES_SUBLAYERS ? SUBLAYERS : BLOCKS;
    fc_plan *all = prune(&d);
    d.remove = 0;
    fc_budget_parse(until, &d.until, NULL);
    fc_plan *p = fc_prune(w.m, &d, &err);
    if (!T_OK(p != NULL, "%s %s: %s", fc_search_name(search), until, err.msg)) return;
    const fc_plan_info *info = fc_plan_about(p);
    const size_t n = needed(all, &d.until, info->costs[d.until.unit]);
    uint8_t mask[SUBLAYERS];
    T_OK(info->n_steps == n && n > 0,
         "%s %s: expected %d steps, got %d", fc_search_name(search), until, (int)n,
         (int)info->n_steps);
    all->info.n_steps = n;
    T_OK(plans_differ(p, all) == 0, "%s %s: other steps", fc_search_name(search), until);
    T_OK(fc_plan_mask(p, w.m, n, mask, sizeof mask, &err) == FC_OK, "binds: %s", err.msg);
    fc_plan_free(all);
    fc_plan_free(p);
}

static void test_stops(void) {
    static const char *const budgets[] = {"params:20%", "params:7000", "bytes:30%", "bytes:28K",
                                          "time:0.8", "time:30%", "distance:0.02", "params:1%"};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++)
        for (size_t k = 0; k < 3; k++) {
            stops(searches[k], FC_CANDIDATES_SUBLAYERS, budgets[i]);
            if (k > 0 || i > 3) continue; /* times and distances are small there */
            stops(searches[k], FC_CANDIDATES_BLOCKS, budgets[i]);
            stops(searches[k], FC_CANDIDATES_FFN, budgets[i]);
        }
    stops(FC_SEARCH_ONE_SHOT, FC_CANDIDATES_SUBLAYERS, "params:30%");
    stops(FC_SEARCH_RANDOM, FC_CANDIDATES_SUBLAYERS, "params:30%");
}

/* Costs are the model's. */
static void test_costs(void) {
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "bytes:20%", FC_UNIT_PARAMS, NULL);
    fc_plan *p = prune(&d);
    const double *const *costs = fc_plan_about(p)->costs;
    double bytes = 0, params = 0;
    if (!T_OK(costs[FC_UNIT_BYTES] && costs[FC_UNIT_PARAMS] && !costs[FC_UNIT_TIME], "costs"))
        return;
    for (uint32_t s = 0; s < SUBLAYERS; s++) {
        const fc_kind kind = (fc_kind)(s % 2);
        const double n = (double)fc_model_sublayer_parameters(w.m, s / 2, kind),
                     size = (double)fc_model_sublayer_bytes(w.m, s / 2, kind);
        T_OK(costs[FC_UNIT_PARAMS][s] == n && costs[FC_UNIT_BYTES][s] == size && size == 4 * n,
             "sublayer %u: %g parameters, %g bytes", s, n, size);
        bytes += size;
        params += n;
    }
    T_OK(bytes + costs[FC_UNIT_BYTES][SUBLAYERS] == (double)fc_model_config(w.m)->file_bytes &&
             params + costs[FC_UNIT_PARAMS][SUBLAYERS] ==
                 (double)fc_model_config(w.m)->n_parameters,
         "what belongs to no sublayer");
    T_OK(fc_model_sublayer_bytes(w.m, BLOCKS, FC_KIND_FFN) == 0 &&
             fc_model_sublayer_bytes(NULL, 0, FC_KIND_FFN) == 0, "none there");
    fc_plan_free(p);
    d = desc_of(FC_SEARCH_RACE, "time:0.9", FC_UNIT_NONE, NULL);
    p = prune(&d);
    const double *seconds = fc_plan_about(p)->costs[FC_UNIT_TIME];
    for (size_t s = 0; s <= SUBLAYERS; s++)
        T_OK(seconds[s] > 0 && seconds[s] < 1 && (s < 2 || s == SUBLAYERS ||
                                                  seconds[s] == seconds[s - 2]),
             "%d: %g s; those that do the same take the same", (int)s, seconds[s]);
    fc_plan_free(p);
}

static void fails(const fc_prune_desc *d, fc_code code, const char *why) {
    fc_error err;
    fc_plan *p = fc_prune(w.m, d, &err);
    T_OK(!p && err.code == code && strstr(err.msg, why), "expected %s: %s, got %s",
         fc_code_name(code), why, p ? "a plan" : err.msg);
    fc_plan_free(p);
}

static void test_refused(void) {
    static const fc_budget bad[] = {
        {(fc_unit)99, 0.2, 0},       {FC_UNIT_PARAMS, 0, 0},        {FC_UNIT_PARAMS, 0.2, 5},
        {FC_UNIT_PARAMS, 1, 0},      {FC_UNIT_PARAMS, -0.2, 0},     {FC_UNIT_PARAMS, 0, 0.5},
        {FC_UNIT_TIME, 0, 1},        {FC_UNIT_TIME, 0, -1},         {FC_UNIT_DISTANCE, 0.2, 0},
        {FC_UNIT_PERPLEXITY, 0.2, 0}, {FC_UNIT_PERPLEXITY, 0, 0.5}, {FC_UNIT_PERPLEXITY, 0, 0},
        {FC_UNIT_DISTANCE, 0, 0},    {FC_UNIT_NONE, 0.2, 0},        {FC_UNIT_NONE, 0, 3},
        {FC_UNIT_BYTES, (double)NAN, 0}, {FC_UNIT_BYTES, 0, (double)NAN},
        {FC_UNIT_DISTANCE, 0, (double)INFINITY}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fc_prune_desc d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_NONE, NULL);
        d.until = bad[i];
        fails(&d, FC_ERR_ARGUMENT, "until: ");
    }
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "params:99%", FC_UNIT_NONE, NULL);
    fails(&d, FC_ERR_ARGUMENT, "until: params:99%: cannot be reached: expected 99.0 % of the model "
          "in the 8 candidates (sublayers) that may go");
    d = desc_of(FC_SEARCH_RACE, "params:30%", FC_UNIT_NONE, "block.0-2,attn.3");
    fails(&d, FC_ERR_ARGUMENT, "in the 1 candidate (sublayers) that may go");
    d = desc_of(FC_SEARCH_RACE, "params:1M", FC_UNIT_NONE, NULL);
    fails(&d, FC_ERR_ARGUMENT, "expected less than the whole model has");
    d = desc_of(FC_SEARCH_RACE, "params:1e-10%", FC_UNIT_NONE, NULL); /* no step would do */
    fails(&d, FC_ERR_ARGUMENT, "expected less than the whole model has");
    d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_NONE, "block.0-2,attn.3");
    fails(&d, FC_ERR_ARGUMENT, "expected how many, as 1 of the 8 candidates (sublayers) may go");
    d = desc_of(FC_SEARCH_RACE, "distance:1e-30", FC_UNIT_NONE, NULL);
    fails(&d, FC_ERR_ARGUMENT, "until: distance: expected a distance that one removal leaves");
    d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_NONE, "block.0-3");
    fails(&d, FC_ERR_ARGUMENT, "keep: expected at least 1 of the 8 candidates (sublayers) left");
    d.candidates = FC_CANDIDATES_BLOCKS;
    d.keep = "attn.0-3"; /* a block with a kept half stays */
    fails(&d, FC_ERR_ARGUMENT, "of the 4 candidates (blocks) left to remove, got 0");
    d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_NONE, "attn.4");
    fails(&d, FC_ERR_ARGUMENT, "keep: sublayers: attn.4: expected blocks below 4");
    d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_NONE, "attn.0");
    d.remove = SUBLAYERS;
    fails(&d, FC_ERR_ARGUMENT, "remove: expected at most the 7 candidates (sublayers) that may go");
    d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_DISTANCE, NULL);
    fails(&d, FC_ERR_ARGUMENT, "per: expected params, bytes or time");
    d.per = FC_UNIT_PERPLEXITY;
    fails(&d, FC_ERR_ARGUMENT, "per: expected params, bytes or time");
    d.per = (fc_unit)-1;
    fails(&d, FC_ERR_ARGUMENT, "per: ");
    d = desc_of(FC_SEARCH_RANDOM, NULL, FC_UNIT_PARAMS, NULL);
    fails(&d, FC_ERR_ARGUMENT, "per: expected none with search random");
    d = desc_of(FC_SEARCH_RACE, NULL, FC_UNIT_PARAMS, NULL);
    d.metric = FC_METRIC_NLL;
    fails(&d, FC_ERR_ARGUMENT, "per: expected none with metric nll");
}

/* With a number of steps beside it, what comes first stops the search. */
static void test_both(void) {
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "params:60%", FC_UNIT_NONE, NULL);
    d.remove = 2;
    fc_plan *p = prune(&d);
    T_OK(fc_plan_about(p)->n_steps == 2, "the number comes first");
    fc_plan_free(p);
    d = desc_of(FC_SEARCH_RACE, "params:1%", FC_UNIT_NONE, NULL);
    d.fraction = 0.9;
    p = prune(&d);
    T_OK(fc_plan_about(p)->n_steps == 1, "the budget comes first");
    fc_plan_free(p);
}

/* ------------------------------------------------------------------------- what it chooses */

static void test_per(void) {
    static const fc_unit units[] = {FC_UNIT_PARAMS, FC_UNIT_BYTES};
    static const fc_metric metrics[] = {FC_METRIC_JS, FC_METRIC_ANGULAR, FC_METRIC_EUCLIDEAN};
    size_t others = 0;
    for (size_t u = 0; u < 2; u++)
        for (size_t i = 0; i < 3; i++) {
            fc_prune_desc d = desc_of(FC_SEARCH_EXHAUSTIVE, NULL, units[u], NULL);
            d.metric = metrics[i];
            fc_plan *all = prune(&d);
            const double *costs = fc_plan_about(all)->costs[units[u]];
            double saved = 0;
            for (size_t k = 0; k < fc_plan_about(all)->n_steps; k++) {
                const fc_step *s = fc_plan_step(all, k);
                double own = s->score / (saved + costs[s->removed]);
                T_OK(fc_plan_rate(all, k, s->removed, s->score) == own, "the rate");
                for (size_t c = 0; c < s->n_scores; c++) {
                    const fc_score *x = &s->scores[c];
                    T_OK(x->value / (saved + costs[x->candidate]) >= own,
                         "step %d: candidate %u is better", (int)k + 1, x->candidate);
                    others += x->value < s->score;
                }
                saved += costs[s->removed];
            }
            d.search = FC_SEARCH_RACE;
            fc_plan *race = prune(&d);
            T_OK(plans_differ(race, all) == 0, "race is exhaustive");
            for (size_t k = 0; k < fc_plan_about(race)->n_steps; k++)
                for (size_t c = 0; c < fc_plan_step(race, k)->n_scores; c++) {
                    const fc_score *x = &fc_plan_step(race, k)->scores[c],
                                   *y = &fc_plan_step(all, k)->scores[c];
                    T_OK(x->exact ? x->value == y->value : x->value <= y->value, "bounds");
                }
            d.search = FC_SEARCH_CONFIDENT;
            d.confidence = 8; /* hardly anything is dropped */
            fc_plan *sure = prune(&d);
            T_OK(plans_differ(sure, all) == 0, "confident, of 8 standard errors, is exhaustive");
            d.confidence = 0;
            d.search = FC_SEARCH_ONE_SHOT;
            fc_plan *once = prune(&d);
            for (size_t k = 1; k < fc_plan_about(once)->n_steps; k++) {
                const fc_step *first = fc_plan_step(once, 0);
                const uint32_t a = fc_plan_step(once, k - 1)->removed,
                               b = fc_plan_step(once, k)->removed;
                T_OK(fci_plan_score(first, a)->value / costs[a] <=
                         fci_plan_score(first, b)->value / costs[b],
                     "one-shot: the order of step 1");
            }
            fc_plan_free(all);
            fc_plan_free(race);
            fc_plan_free(sure);
            fc_plan_free(once);
        }
    T_OK(others > 0, "the least distance was not always chosen");
}

static void test_keep(void) {
    static const struct { fc_candidates kind; const char *keep, *text; size_t n; } cases[] = {
        {FC_CANDIDATES_SUBLAYERS, "ffn.2,attn.0,ffn.1", "attn.0,ffn.1-2", 5},
        {FC_CANDIDATES_SUBLAYERS, "block.3", "attn.3,ffn.3", 6},
        {FC_CANDIDATES_ATTENTION, "attn.0,ffn.0-3", "attn.0,ffn.0-3", 3},
        {FC_CANDIDATES_BLOCKS, "attn.0,ffn.2", "attn.0,ffn.2", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 0; k < 3; k++) {
            fc_prune_desc d = desc_of(searches[k], NULL, FC_UNIT_NONE, cases[i].keep);
            fc_error err;
            uint8_t mask[SUBLAYERS], kept[SUBLAYERS];
            uint32_t most = 0;
            d.candidates = cases[i].kind;
            T_OK(fc_prune_count(w.m, &d, &most, &err) == FC_OK && most + 1 == cases[i].n,
                 "%s: %u", cases[i].keep, most);
            d.remove = (uint32_t)cases[i].n;
            fc_plan *p = prune(&d);
            T_OK(strcmp(fc_plan_about(p)->keep, cases[i].text) == 0, "%s: got %s", cases[i].keep,
                 fc_plan_about(p)->keep);
            T_OK(fc_plan_step(p, 0)->n_scores == cases[i].n, "%s: scored at step 1",
                 cases[i].keep);
            fc_sublayers_parse(cases[i].keep, BLOCKS, kept, sizeof kept, NULL);
            T_OK(fc_plan_mask(p, w.m, cases[i].n, mask, sizeof mask, &err) == FC_OK, "%s",
                 err.msg);
            for (size_t s = 0; s < SUBLAYERS; s++) T_OK(mask[s] || !kept[s], "%d is gone", (int)s);
            fc_plan_free(p);
        }
}

/* ------------------------------------------------------------------------- plan.json */

static char *json_of(const fc_plan *p) { /* without the last section, "cost" */
    fc_text text;
    fc_error err;
    T_OK(fc_plan_save_memory(p, &text, &err) == FC_OK, "%s", err.msg);
    char *copy = (char *)malloc(text.length + 1), *end;
    if (!copy || !text.bytes) exit(2);
    memcpy(copy, text.bytes, text.length + 1);
    end = strstr(copy, "  \"cost\":");
    if (end) *end = 0;
    fc_text_free(&text);
    return copy;
}

static fc_plan *copy_of(const fc_plan *p) {
    fc_text text;
    fc_error err;
    fc_plan_save_memory(p, &text, NULL);
    fc_plan *q = fc_plan_load_memory(text.bytes, text.length, NULL, &err);
    T_OK(q != NULL, "a plan comes back: %s", err.msg);
    fc_text_free(&text);
    return q;
}

static void same_text(const fc_plan *a, const fc_plan *b, const char *what) {
    char *x = json_of(a), *y = json_of(b);
    T_OK(strcmp(x, y) == 0, "%s: other bytes", what);
    free(x);
    free(y);
}

/* Resumed after any number of steps, the plan is the same in every byte but its cost. */
static void resumes(fc_search search, const char *until, fc_unit per, const char *keep) {
    fc_prune_desc d = desc_of(search, until, per, keep);
    fc_plan *whole = prune(&d);
    const size_t n = fc_plan_about(whole)->n_steps;
    if (until && strcmp(until, "time:0.7") == 0)
        T_OK(fc_plan_about(whole)->costs[FC_UNIT_TIME] != NULL, "seconds");
    for (size_t k = 1; k <= n; k++) {
        fc_plan *part = copy_of(whole);
        part->info.n_steps = k;
        d.resume = part;
        fc_plan *p = prune(&d);
        same_text(p, whole, until ? until : "resumed");
        fc_plan_free(p);
        fc_plan_free(part);
    }
    fc_plan_free(whole);
}

static void test_resume(void) {
    for (size_t k = 0; k < 3; k++) {
        resumes(searches[k], "params:40%", FC_UNIT_PARAMS, NULL);
        resumes(searches[k], "time:0.7", FC_UNIT_TIME, "attn.0");
        resumes(searches[k], "distance:0.05", FC_UNIT_BYTES, NULL);
        resumes(searches[k], NULL, FC_UNIT_TIME, "block.1");
    }
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "params:15%", FC_UNIT_TIME, "ffn.0");
    fc_plan *p = prune(&d), *more, *direct, *same;
    const size_t n = fc_plan_about(p)->n_steps;
    d.resume = p;
    fc_budget_parse("params:50%", &d.until, NULL); /* goes on, by the same seconds */
    more = prune(&d);
    double seconds[SUBLAYERS + 1];
    fc_plan *none = copy_of(p);
    none->info.n_steps = 0;
    d.resume = none;
    for (size_t k = 0; k < 2; k++) { /* seconds that no measurement gives */
        memcpy(seconds, p->info.costs[FC_UNIT_TIME], sizeof seconds);
        seconds[3] = k ? 2 * seconds[3] : 0;
        none->info.costs[FC_UNIT_TIME] = seconds;
        fails(&d, FC_ERR_MISMATCH, "resume: budget: time: ffn.1: expected ");
    }
    fc_plan_free(none);
    T_OK(fc_plan_about(more)->n_steps > n &&
             memcmp(fc_plan_about(more)->costs[FC_UNIT_TIME], fc_plan_about(p)->costs[FC_UNIT_TIME],
                    (SUBLAYERS + 1) * sizeof(double)) == 0, "a larger budget goes on");
    direct = copy_of(more);
    direct->info.n_steps = 1;
    d.resume = direct;
    same = prune(&d);
    same_text(same, more, "a larger budget");
    fc_plan_free(same);
    d.resume = more;
    fc_budget_parse("params:15%", &d.until, NULL); /* a smaller one leaves the plan as it is */
    same = prune(&d);
    same_text(same, more, "a smaller budget");
    d.per = FC_UNIT_PARAMS;
    fails(&d, FC_ERR_MISMATCH, "another unit to weigh distances by (per): expected time, got par");
    d.per = FC_UNIT_NONE;
    fails(&d, FC_ERR_MISMATCH, "(per): expected time, got none");
    d.per = FC_UNIT_TIME;
    d.keep = NULL;
    fails(&d, FC_ERR_MISMATCH, "another list of what is kept (keep): expected ffn.0, got none");
    d.keep = "ffn.0,attn.0";
    fails(&d, FC_ERR_MISMATCH, "(keep): expected ffn.0, got attn.0,ffn.0");
    fc_plan_free(p);
    fc_plan_free(more);
    fc_plan_free(direct);
    fc_plan_free(same);
}

typedef struct stopper { size_t at; fc_text text; } stopper;

static int stop_at(void *user, const fc_progress *p) { /* at the first call, or after steps */
    stopper *s = (stopper *)user;
    if (!p->plan || fc_plan_about(p->plan)->n_steps < s->at) return 0;
    fc_text_free(&s->text);
    fc_plan_save_memory(p->plan, &s->text, NULL);
    return 1;
}

/* Whatever a callback saves is a plan that can be read. */
static void test_cancel(void) {
    for (size_t at = 0; at < 3; at++) {
        fc_prune_desc d = desc_of(FC_SEARCH_RACE, "time:0.6", FC_UNIT_TIME, "attn.1");
        fc_error err;
        stopper s;
        memset(&s, 0, sizeof s);
        s.at = at;
        d.watch.progress = stop_at;
        d.watch.user = &s;
        fc_plan *p = fc_prune(w.m, &d, &err);
        if (at) /* before the first step a small model may not call */
            T_OK(p && err.code == FC_ERR_CANCELLED && fc_plan_about(p)->n_steps == at, "%s",
                 err.msg);
        if (s.text.bytes) {
            fc_plan *q = fc_plan_load_memory(s.text.bytes, s.text.length, NULL, &err);
            T_OK(q != NULL, "saved after %d steps: %s", (int)at, err.msg);
            fc_plan_free(q);
        }
        fc_plan_free(p);
        fc_text_free(&s.text);
    }
}

static char *replace(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    const size_t a = strlen(text), b = strlen(from), c = strlen(to);
    char *out = (char *)malloc(a + c + 1);
    if (!at || !out) return free(out), (char *)NULL;
    memcpy(out, text, (size_t)(at - text));
    memcpy(out + (at - text), to, c);
    memcpy(out + (at - text) + c, at + b, a - b - (size_t)(at - text) + 1);
    return out;
}

static void hostile(const char *text, const char *from, const char *to, const char *why,
                    int needs_model) {
    char *changed = replace(text, from, to);
    fc_error err;
    uint8_t mask[SUBLAYERS];
    if (!T_OK(changed != NULL, "the plan has no %s", from)) return;
    fc_plan *p = fc_plan_load_memory(changed, strlen(changed), NULL, &err);
    T_OK(!needs_model ? !p : p != NULL, "%s to %s: read: %s", from, to, p ? "is taken" : err.msg);
    if (p) fc_plan_mask(p, w.m, 0, mask, sizeof mask, &err);
    T_OK(err.code && strstr(err.msg, why), "%s to %s: expected %s, got %s", from, to, why, err.msg);
    fc_plan_free(p);
    free(changed);
}

static void test_hostile(void) {
    fc_prune_desc d = desc_of(FC_SEARCH_EXHAUSTIVE, "params:40%", FC_UNIT_PARAMS, "attn.0,ffn.3");
    fc_plan *p = prune(&d);
    fc_text text;
    char gone[24], name[80], list[96];
    T_OK(fc_plan_save_memory(p, &text, NULL) == FC_OK, "saved");
    const char *j = text.bytes;
    T_OK(strstr(j, "\"budget\": {\"until\": \"params:40%\", \"per\": \"params\", \"keep\": "
                   "\"attn.0,ffn.3\", \"params\": [") != NULL, "what the plan says: %s", j);
    hostile(j, "params:40%", "params:140%", "budget: until: expected a budget", 0);
    hostile(j, "params:40%", "hours:40%", "budget: until: expected a budget", 0);
    hostile(j, "\"params:40%\"", "7", "budget: until: expected a budget", 0);
    hostile(j, "params:40%", "params:40%\\u0000", "budget: until: expected a budget", 0);
    hostile(j, "params:40%", "distance:1e-9", "expected the last step before distance:1e-09", 0);
    hostile(j, "params:40%", "params:2%", "step 2: expected the last step before params:2%", 0);
    hostile(j, "params:40%", "time:0.8", "budget: time: expected a list of 9 numbers", 0);
    hostile(j, "\"per\": \"params\"", "\"per\": \"distance\"", "per: expected params, bytes or", 0);
    hostile(j, "\"per\": \"params\"", "\"per\": 1", "per: expected params, bytes or time", 0);
    hostile(j, "\"per\": \"params\"", "\"per\": \"time\"", "budget: time: expected a list", 0);
    hostile(j, "\"search\": \"exhaustive\"", "\"search\": \"random\"", "none with search", 0);
    hostile(j, "\"metric\": \"js\"", "\"metric\": \"nll\"", "none with search random or", 0);
    hostile(j, "\"keep\": \"attn.0,ffn.3\"", "\"keep\": \"attn.9\"", "keep: expected names", 0);
    hostile(j, "\"keep\": \"attn.0,ffn.3\"", "\"keep\": \"\"", "keep: expected names", 0);
    hostile(j, "\"keep\": \"attn.0,ffn.3\"", "\"keep\": 3", "keep: expected names", 0);
    hostile(j, "\"params\": [", "\"params\": [1, ", "expected a list of 9 numbers from 0", 0);
    hostile(j, "\"params\": [", "\"params\": [-", "expected a list of 9 numbers from 0", 0);
    hostile(j, "\"params\": [", "\"bytes\": [3], \"params\": [", "none, as nothing goes by it", 0);
    fc_candidate_name(FC_CANDIDATES_SUBLAYERS, fc_plan_step(p, 0)->removed, gone, sizeof gone);
    snprintf(name, sizeof name, "\"keep\": \"%s\"", gone); /* what was removed was kept */
    hostile(j, "\"keep\": \"attn.0,ffn.3\"", name, "but none that \"keep\" names", 0);
    hostile(j, "\"keep\": \"attn.0,ffn.3\"", "\"keep\": \"attn.0\"",
            "plan: step 1: ffn.3: missing in its scores", 1);
    snprintf(list, sizeof list, "\"params\": [%.15g", fc_plan_about(p)->costs[FC_UNIT_PARAMS][0]);
    hostile(j, list, "\"params\": [1", "number 1: expected the model's", 1);
    hostile(j, list, "\"params\": [0", "number 1: expected the model's", 1);
    /* attn.1 weighs nothing: another candidate would have been better, or it cannot be weighed */
    const double *costs = fc_plan_about(p)->costs[FC_UNIT_PARAMS];
    snprintf(list, sizeof list, "[%.15g, %.15g, %.15g", costs[0], costs[1], costs[2]);
    snprintf(name, sizeof name, "[%.15g, %.15g, 0", costs[0], costs[1]);
    hostile(j, list, name, "expected a list of 9 numbers from 0, not all 0", 0);
    fc_text_free(&text);
    fc_plan_free(p);
    /* by distances alone, another one was before what went */
    d = desc_of(FC_SEARCH_EXHAUSTIVE, NULL, FC_UNIT_PARAMS, NULL);
    d.metric = FC_METRIC_EUCLIDEAN;
    p = prune(&d);
    p->info.per = FC_UNIT_NONE;
    p->info.costs[FC_UNIT_PARAMS] = NULL;
    fc_plan_save_memory(p, &text, NULL);
    fc_error err;
    T_OK(!fc_plan_load_memory(text.bytes, text.length, NULL, &err) &&
             strstr(err.msg, "expected an exact score to be behind what was removed"),
         "without its unit the plan contradicts itself: %s", err.msg);
    fc_text_free(&text);
    fc_plan_free(p);
}

/* Before the first step that leaves more than so many times the whole model's perplexity. */

static double perplexity_after(const fc_plan *p, size_t n) {
    uint8_t mask[SUBLAYERS];
    fc_perplexity got;
    fc_error err;
    T_OK(fc_plan_mask(p, w.m, n, mask, sizeof mask, &err) == FC_OK &&
             fc_eval_perplexity(w.m, &w.other, mask, NULL, &got, &err) == FC_OK, "%s", err.msg);
    return got.perplexity;
}

/* A factor that the steps before the *first one are within and that one exceeds. */
static double factor_of(fc_search search, size_t *first) {
    fc_prune_desc d = desc_of(search, "perplexity:1000", FC_UNIT_NONE, NULL);
    fc_plan *p = prune(&d);
    const fc_plan_info *info = fc_plan_about(p);
    double most = 1, now = 1;
    T_OK(info->n_steps == SUBLAYERS && info->perplexity == perplexity_after(p, 0) &&
             info->evaluation.n_positions == 30 && info->evaluation.n_sequences == 3 &&
             info->evaluation.length == 13 && strcmp(info->evaluation.source, "tokens") == 0,
         "%d steps, the whole model has %g", (int)info->n_steps, info->perplexity);
    for (size_t i = 0; i < SUBLAYERS; i++)
        T_OK(fc_plan_step(p, i)->perplexity == perplexity_after(p, i + 1), "step %d: %.17g",
             (int)i + 1, fc_plan_step(p, i)->perplexity);
    for (*first = 0; *first < SUBLAYERS; ++*first) {
        now = fc_plan_step(p, *first)->perplexity / info->perplexity;
        if (*first > 1 && now > most) break;
        most = now > most ? now : most;
    }
    T_OK(*first < SUBLAYERS, "%s: nothing is lost", fc_search_name(search));
    fc_plan_free(p);
    return (most + now) / 2;
}

static void test_perplexity(void) {
    char until[64];
    for (size_t k = 0; k < 3; k++) {
        size_t first;
        fc_budget b = {FC_UNIT_PERPLEXITY, 0, 0};
        b.most = factor_of(searches[k], &first);
        fc_prune_desc d = desc_of(searches[k], fc_budget_text(&b, until, sizeof until),
                                  FC_UNIT_NONE, NULL);
        fc_plan *p = prune(&d), *part, *same;
        T_OK(fc_plan_about(p)->n_steps == first, "%s: %d steps, not %d", until,
             (int)fc_plan_about(p)->n_steps, (int)first);
        part = copy_of(p); /* that went by nothing */
        part->info.n_steps = 1;
        memset(&part->info.until, 0, sizeof part->info.until);
        d.resume = part;
        same = prune(&d);
        same_text(same, p, "resumed from another wish");
        fc_plan_free(same);
        d.until.most = 1000;
        d.resume = p;
        same = prune(&d); /* goes on, by what is known */
        T_OK(fc_plan_about(same)->n_steps == SUBLAYERS, "goes on");
        fc_plan_free(part);
        part = copy_of(p); /* whose numbers are not the model's */
        d.resume = part;
        part->info.perplexity = 1e38;
        fails(&d, FC_ERR_MISMATCH, "perplexity of the whole model: expected ");
        part->info.perplexity = p->info.perplexity;
        part->steps[first - 1].perplexity *= 0.99;
        fails(&d, FC_ERR_MISMATCH, "perplexity of the last step: expected ");
        d.resume = same;
        d.until = b;
        fc_error err;
        T_OK(!fc_prune(w.m, &d, &err) && err.code == FC_ERR_MISMATCH &&
                 strstr(err.msg, "expected a plan within it"), "a smaller factor: %s", err.msg);
        fc_plan_free(same);
        fc_plan_free(part);
        fc_plan_free(p);
        resumes(searches[k], until, FC_UNIT_NONE, NULL);
    }
}

/* A perplexity that is not finite is one beyond the budget, and no failure: without the FFN, token
   5 alone has a logit that overflows. */
static void test_perplexity_infinite(void) {
    static const char *const norms[] = {"model.norm.weight",
                                        "model.layers.0.input_layernorm.weight",
                                        "model.layers.0.post_attention_layernorm.weight"};
    uint32_t ids[] = {1, 2, 3, 2, 1}, judged[] = {1, 2, 3, 5, 7};
    size_t starts[] = {0, 5}, both[] = {0, 3, 5};
    const fc_tokens text = tokens_of(ids, starts, 1), other = tokens_of(judged, both, 2);
    tiny t;
    fc_error err;
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "perplexity:10", FC_UNIT_NONE, NULL);
    tiny_llama(&t, 1, 4, 1, 1, 8);
    for (size_t i = 0; i < t.n_data; i++) t.data[i] = 0;
    for (size_t i = 0; i < 12; i++) tiny_find(&t, norms[i % 3])[i / 3] = 1;
    float *in = tiny_find(&t, "model.embed_tokens.weight"), *out = tiny_find(&t, "lm_head.weight");
    for (size_t id = 0; id < 8; id++) in[4 * id + (id == 5 ? 1 : 2 + id % 2)] = 1;
    for (size_t id = 0; id < 7; id++) out[4 * id + 2] = (float)id / 8;
    out[4 * 7 + 1] = 3e38f;
    float *gate = tiny_find(&t, "model.layers.0.mlp.gate_proj.weight"),
          *up = tiny_find(&t, "model.layers.0.mlp.up_proj.weight"),
          *down = tiny_find(&t, "model.layers.0.mlp.down_proj.weight");
    gate[1] = up[1] = 10;
    gate[4 + 2] = up[4 + 2] = down[0] = down[3 * 8 + 1] = 1; /* not nothing in the calibration */
    d.calibration = &text;
    d.evaluation = &other;
    fc_model *m = tiny_open(&t, 0, 1, &err);
    fc_plan *p = m ? fc_prune(m, &d, &err) : NULL;
    T_OK(p && fc_plan_about(p)->n_steps == 1 && err.code == FC_OK, "%s", err.msg);
    fc_plan_free(p);
    fc_model_close(m);
    tiny_end(&t);
}

static void test_perplexity_refused(void) {
    uint32_t wild[] = {1, 99};
    size_t starts[] = {0, 2};
    fc_tokens bad = w.other;
    size_t first;
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "perplexity:1", FC_UNIT_NONE, NULL);
    fc_budget b = {FC_UNIT_PERPLEXITY, 0, 0};
    char until[64];
    d.evaluation = NULL;
    fails(&d, FC_ERR_ARGUMENT, "evaluation: expected a text to measure perplexity by, got none");
    bad.ids = wild;
    bad.starts = starts;
    bad.n_sequences = 1;
    d.evaluation = &bad;
    fails(&d, FC_ERR_ARGUMENT, "evaluation: ");
    bad.n_sequences = 0;
    fails(&d, FC_ERR_ARGUMENT, "evaluation: ");
    d = desc_of(FC_SEARCH_RACE, "params:20%", FC_UNIT_NONE, NULL);
    d.evaluation = &w.other;
    fails(&d, FC_ERR_ARGUMENT, "evaluation: expected until by perplexity with it");
    b.most = factor_of(FC_SEARCH_RACE, &first);
    d = desc_of(FC_SEARCH_RACE, fc_budget_text(&b, until, sizeof until), FC_UNIT_NONE, NULL);
    fc_plan *p = prune(&d);
    fc_text text;
    T_OK(fc_plan_save_memory(p, &text, NULL) == FC_OK, "saved");
    const char *j = text.bytes;
    hostile(j, until, "perplexity:0.5", "budget: until: expected a budget", 0);
    hostile(j, until, "perplexity:1.00000001", "expected the last step before perplexity:1", 0);
    hostile(j, "\"evaluation\": {", "\"evaluations\": {", "budget: evaluation: expected an obj", 0);
    hostile(j, "\"n_positions\": 30", "\"n_positions\": 300", "evaluation: n_positions: expec", 0);
    hostile(j, "\"perplexity\": ", "\"perplexity\": null, \"was\": ", "perplexity: expected a", 0);
    char step[64];
    fci_format_g(until, sizeof until, 17, fc_plan_step(p, 0)->perplexity);
    snprintf(step, sizeof step, ", \"perplexity\": %.9s", until);
    hostile(j, step, ", \"perplexity\": 99999", "step 1: expected the last step before", 0);
    hostile(j, step, ", \"other\": 1", "step 1: perplexity: expected a number from 1", 0);
    hostile(j, step, ", \"perplexity\": 0, \"other\": 1", "1: perplexity: expected a number", 0);
    hostile(j, step, ", \"perplexity\": 0.31, \"o\": 1", "from 1 to 3.4e+38, got 0.31", 0);
    hostile(j, step, ", \"perplexity\": 1e300, \"o\": 1", "from 1 to 3.4e+38, got 1e300", 0);
    hostile(j, "\"perplexity\": ", "\"perplexity\": 1e301, \"was\": ", "a number from 1", 0);
    fc_text_free(&text);
    fc_plan_free(p);
}

static void test_reports(void) {
    fc_prune_desc d = desc_of(FC_SEARCH_RACE, "params:30%", FC_UNIT_PARAMS, "attn.0");
    fc_plan *p = prune(&d), *back = copy_of(p);
    fc_text text;
    char rate[64];
    same_text(back, p, "read and written");
    T_OK(fc_report_svg_memory(p, &text, NULL) == FC_OK &&
             strstr(text.bytes, "Removed until params:30%; by the distance per parameter saved; "
                                "kept were attn.0.") && strstr(text.bytes, "attn.0: not a cand"),
         "the picture says it");
    fc_text_free(&text);
    T_OK(fc_report_csv_memory(p, &text, NULL) == FC_OK &&
             strncmp(text.bytes, "step,candidate,value,exact,removed,per_params,kind,parameters\n",
                     62) == 0,
         "the table has a column for it");
    const fc_step *s = fc_plan_step(p, 0);
    fci_format_g(rate, sizeof rate, 15, fc_plan_rate(p, 0, s->removed, s->score));
    rate[13] = 0;
    T_OK(strstr(text.bytes, rate) != NULL, "with %s", rate);
    fc_text_free(&text);
    fc_plan_free(p);
    fc_plan_free(back);
}

static void test_out_of_memory(const char *until) {
    bool done = false;
    long n;
    for (n = 1; !done && n < 500; n++) {
        fc_prune_desc d = desc_of(FC_SEARCH_RACE, until, FC_UNIT_PARAMS, "attn.0,ffn.1");
        fc_error err;
        const long live = w.t.world.live;
        w.t.world.fail_alloc = w.t.world.allocs + n;
        w.t.world.fail_always = 1;
        fc_plan *p = fc_prune(w.m, &d, &err);
        w.t.world.fail_alloc = 0;
        done = p != NULL;
        T_OK(done || err.code == FC_ERR_MEMORY, "allocation %ld: %s", n, err.msg);
        fc_plan_free(p);
        T_OK(w.t.world.live == live, "allocation %ld: %ld are lost", n, w.t.world.live - live);
    }
    T_OK(done && n > 20, "runs through with enough memory, after %ld", n);
}

int main(void) {
    begin();
    test_texts();
    test_names();
    test_costs();
    test_stops();
    test_refused();
    test_both();
    test_perplexity();
    test_perplexity_infinite();
    test_perplexity_refused();
    test_per();
    test_keep();
    test_resume();
    test_cancel();
    test_hostile();
    test_reports();
    test_out_of_memory("time:0.99");
    test_out_of_memory("perplexity:1000");
    fc_model_close(w.m);
    tiny_end(&w.t);
    return t_end("test_budget");
}
