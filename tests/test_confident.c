/* The confident search: its margin against the textbook, how often it errs on tables of distances
   that mislead, and whole searches beside exhaustive ones. */
#include "private.h"
#include "t.h"
#include "open.h"

enum { RUNNERS = 24, SEQUENCES = 16, LENGTH = 32, POSITIONS = SEQUENCES * LENGTH };

typedef struct table {
    /* an invented step: what every candidate's distances are, and what is known of them */
    fci_search s;
    fc_plan plan;
    fc_tokens tokens;
    fci_search_runner r[RUNNERS];
    size_t starts[SEQUENCES + 1];
    double all[RUNNERS][POSITIONS], values[RUNNERS][POSITIONS];
    uint32_t reach[RUNNERS][SEQUENCES], draw[SEQUENCES];
} table;

static double relative(double got, double want) {
    return fabs(got - want) / (fabs(want) > 1e-12 ? fabs(want) : 1e-12);
}

static double uniform(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) / 9007199254740992.0;
}

static double normal(uint64_t *state) { /* nearly */
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform(state);
    return sum;
}

/* Nothing is known yet. */
static void table_hide(table *t, fc_metric metric) {
    memset(&t->s, 0, sizeof t->s);
    memset(t->r, 0, sizeof t->r);
    memset(t->reach, 0, sizeof t->reach);
    for (size_t q = 0; q <= SEQUENCES; q++) t->starts[q] = q * LENGTH;
    t->tokens.starts = t->starts;
    t->tokens.n_sequences = SEQUENCES;
    t->plan.info.confidence = 4;
    t->s.plan = &t->plan;
    t->s.tokens = &t->tokens;
    t->s.n_positions = t->s.n_counted = POSITIONS;
    t->s.reference.distance = &fci_distance_rows[metric];
    t->s.runners = t->r;
    t->s.n_runners = RUNNERS;
    t->s.divisor = 1;
    t->s.draw = t->draw;
    for (uint32_t c = 0; c < RUNNERS; c++) {
        t->r[c].candidate = c;
        t->r[c].values = t->values[c];
        t->r[c].reach = t->reach[c];
        for (size_t i = 0; i < POSITIONS; i++) t->values[c][i] = -1;
    }
}

static void table_show(table *t, fci_search_runner *r, uint32_t q) {
    if (r->reach[q]) return;
    memcpy(r->values + q * LENGTH, t->all[r->candidate] + q * LENGTH, LENGTH * sizeof *r->values);
    r->reach[q] = LENGTH;
    r->known += LENGTH;
    r->rate = r->value = r->sum = fci_search_sum(&t->s, r->values, r->values);
}

static void table_finish(table *t, fci_search_runner *r) {
    for (uint32_t q = 0; q < SEQUENCES; q++) table_show(t, r, q);
    if (!t->s.leader || fci_search_before(r, t->s.leader)) t->s.leader = r;
}

/* The search's own decisions on a table; *work: the share of all sequences that was run. */
static uint32_t table_search(table *t, fc_metric metric, uint64_t seed, double *work) {
    fci_search_runner *front;
    size_t drawn = 0, known = 0;
    table_hide(t, metric);
    fci_search_shuffle(seed, t->draw, SEQUENCES);
    while (drawn < SEQUENCES) {
        size_t from = drawn;
        drawn += from ? fci_max(from / 4, 1) : 2 + SEQUENCES / 16;
        drawn = fci_min(drawn, SEQUENCES);
        for (size_t c = 0; c < RUNNERS; c++)
            for (size_t k = from; k < drawn && fci_search_confident_runs(&t->s, &t->r[c]); k++)
                table_show(t, &t->r[c], t->draw[k]);
        for (front = fci_search_confident_front(&t->s); front;
             front = fci_search_confident_front(&t->s))
            table_finish(t, front);
        for (size_t c = 0; c < RUNNERS; c++)
            if (fci_search_complete(&t->s, &t->r[c]) && fci_search_before(&t->r[c], t->s.leader))
                t->s.leader = &t->r[c];
        fci_search_confident_drop(&t->s);
    }
    for (size_t c = 0; c < RUNNERS; c++) known += t->r[c].known;
    *work = (double)known / (RUNNERS * POSITIONS);
    return t->s.leader->candidate;
}

static uint32_t table_winner(table *t, fc_metric metric) {
    table_hide(t, metric);
    for (size_t c = 0; c < RUNNERS; c++) table_finish(t, &t->r[c]);
    return t->s.leader->candidate;
}

/* A sequence's distance, as the metric makes it of positions, is `share`. */
static void table_spread(table *t, fc_metric metric, uint32_t c, uint32_t q, double share) {
    for (size_t i = 0; i < LENGTH; i++)
        t->all[c][q * LENGTH + i] =
            (fci_distance_rows[metric].root ? share * share : share) / LENGTH;
}

/* Nobody is better than the first: only whole sequences differ, by a tenth of the level. */
static void table_equal(table *t, fc_metric metric, uint64_t *state) {
    double common[SEQUENCES];
    for (uint32_t q = 0; q < SEQUENCES; q++) common[q] = 4 + 2 * uniform(state);
    for (uint32_t c = 0; c < RUNNERS; c++) {
        double own[SEQUENCES], mean = 0;
        for (uint32_t q = 0; q < SEQUENCES; q++) mean += (own[q] = 0.5 * normal(state)) / SEQUENCES;
        for (uint32_t q = 0; q < SEQUENCES; q++)
            table_spread(t, metric, c, q, common[q] + own[q] - mean);
    }
}

static void table_look(table *t, fc_metric metric,
                       uint32_t n) { /* everyone knows n sequences, the first all */
    table_hide(t, metric);
    table_finish(t, &t->r[0]);
    for (size_t c = 1; c < RUNNERS; c++)
        for (uint32_t q = 0; q < n; q++) table_show(t, &t->r[c], q);
}

/* The mean of n differences of runner c to the first one, and the sum of squares about it, in two
   passes. */
static double table_contrast(const table *t, bool root, size_t c, size_t n, double *squares) {
    double d[SEQUENCES], mean = 0;
    for (size_t q = 0; q < n; q++) {
        double a = 0, b = 0;
        for (size_t i = q * LENGTH; i < (q + 1) * LENGTH; i++) {
            a += t->all[c][i];
            b += t->all[0][i];
        }
        d[q] = root ? sqrt(a) - sqrt(b) : a - b;
        mean += d[q] / (double)n;
    }
    *squares = 0;
    for (size_t q = 0; q < n; q++) *squares += (d[q] - mean) * (d[q] - mean);
    return mean;
}

static void test_margin(fc_metric metric) {
    static table t;
    uint64_t state = 5;
    bool root = fci_distance_rows[metric].root;
    for (uint32_t n = 2; n < SEQUENCES; n++) {
        double pooled = 0, level0 = 0, squares;
        table_equal(&t, metric, &state);
        table_look(&t, metric, n);
        level0 = t.r[0].sum / SEQUENCES;
        for (size_t c = 1; c < RUNNERS; c++) {
            double mean = table_contrast(&t, root, c, n, &squares);
            pooled += squares / pow(mean + 2 * level0, 2) / ((RUNNERS - 1) * (n - 1));
        }
        fci_search_spread pool = fci_search_confident_pool(&t.s);
        T_OK(relative(pool.variance, pooled) < 1e-9 &&
                 relative(pool.freedom, (RUNNERS - 1) * (n - 1)) < 1e-12,
             "%u sequences: pooled variance %g, expected %g", n, pool.variance, pooled);
        for (size_t c = 1; c < RUNNERS; c++) {
            double mean = table_contrast(&t, root, c, n, &squares),
                   count = pool.freedom / 4 < 8 ? pool.freedom / 4 : 8;
            double f = count + n - 1,
                   s2 = (count * pooled * pow(mean + 2 * level0, 2) + squares) / f;
            double x = mean / sqrt(s2 / n * (SEQUENCES - n) / SEQUENCES);
            double want = mean > 0 ? (8 * f + 1) / (8 * f + 3) * sqrt(f * log1p(x * x / f)) : 0;
            fci_search_lead lead = fci_search_confident_lead(&t.s, &t.r[c]);
            double got = fci_search_confident_margin(&t.s, &lead, &pool);
            T_OK(fabs(got - want) < 1e-9,
                 "%u sequences, candidate %d: %g standard errors, expected %g", n, (int)c, got,
                 want);
        }
    }
    table_look(&t, metric, SEQUENCES);
    fci_search_spread none = fci_search_confident_pool(&t.s);
    fci_search_lead whole = fci_search_confident_lead(&t.s, &t.r[1]);
    T_OK(fci_search_confident_margin(&t.s, &whole, &none) == 0,
         "who is known whole is given up by no chance");
}

/* Of candidates that are as good as each other, one in 44 should seem two standard errors behind,
   hardly any four. */
static void test_rates(fc_metric metric) {
    static table t;
    uint64_t state = 11;
    for (uint32_t n = 2; n <= 8; n *= 2) {
        int two = 0, four = 0, all = 0;
        for (int trial = 0; trial < 500; trial++) {
            table_equal(&t, metric, &state);
            table_look(&t, metric, n);
            fci_search_spread pool = fci_search_confident_pool(&t.s);
            for (size_t c = 1; c < RUNNERS; c++, all++) {
                fci_search_lead lead = fci_search_confident_lead(&t.s, &t.r[c]);
                double margin = fci_search_confident_margin(&t.s, &lead, &pool);
                two += margin > 2;
                four += margin > 4;
            }
        }
        T_OK(two > all / 100 && two < all / 28 && four < all / 3000 + 1,
             "%s, %u sequences: %d and %d of %d are two and four standard errors behind",
             fc_metric_name(metric), n, two, four, all);
    }
}

/* One sequence that is dear beyond all others drops nobody, while there are two that were not seen.
   */
static void test_outlier(void) {
    static table t;
    uint64_t state = 3;
    for (uint32_t n = 2; n < SEQUENCES - 1; n++)
        for (double much = 10; much < 1e7; much *= 10) {
            table_equal(&t, FC_METRIC_JS, &state);
            table_spread(&t, FC_METRIC_JS, 7, 0, much);
            table_look(&t, FC_METRIC_JS, n);
            fci_search_spread pool = fci_search_confident_pool(&t.s);
            fci_search_lead lead = fci_search_confident_lead(&t.s, &t.r[7]);
            T_OK(fci_search_confident_margin(&t.s, &lead, &pool) < 4, "%u sequences, one of %g", n,
                 much);
        }
}

/* The best candidate is dear where sequences begin, all differ by whole sequences, and all are
   close. */
static void table_mislead(table *t, uint64_t *state) {
    double common[SEQUENCES];
    for (uint32_t q = 0; q < SEQUENCES; q++) common[q] = 0.5 + uniform(state);
    for (uint32_t c = 0; c < RUNNERS; c++)
        for (uint32_t q = 0; q < SEQUENCES; q++) {
            double own = common[q] * (1 + 0.03 * c + 0.05 * normal(state));
            for (size_t i = 0; i < LENGTH; i++) {
                double place = c ? 1 : i < LENGTH / 4 ? 2.5 : 0.45;
                t->all[c][q * LENGTH + i] = own * place * (0.5 + uniform(state)) * (c > 8 ? 3 : 1);
            }
        }
}

static void test_mislead(void) {
    static table t;
    static const fc_metric metrics[] = {FC_METRIC_JS, FC_METRIC_EUCLIDEAN};
    uint64_t state = 17;
    for (int m = 0; m < 2; m++) {
        int wrong = 0, steps = 400;
        double work = 0, one;
        for (int i = 0; i < steps; i++) {
            if (i % 10 == 0) table_mislead(&t, &state);
            uint32_t want = table_winner(&t, metrics[m]);
            wrong += table_search(&t, metrics[m], (uint64_t)i, &one) != want;
            work += one / steps;
        }
        T_OK(wrong == 0, "%s: %d of %d steps remove another candidate", fc_metric_name(metrics[m]),
             wrong, steps);
        T_OK(work < 0.6, "%s: %g of the work", fc_metric_name(metrics[m]), work);
    }
}

/* ---- Whole searches. */

static fc_plan *prune(fc_model *m, const fc_prune_desc *desc, fc_search search, uint64_t seed) {
    fc_prune_desc d = *desc;
    fc_error err;
    d.search = search;
    d.seed = seed;
    if (search != FC_SEARCH_CONFIDENT) d.confidence = 0;
    fc_plan *p = fc_prune(m, &d, &err);
    T_OK(p != NULL, "%s: %s", fc_search_name(search), err.msg);
    return p;
}

/* Sequences of tokens; the first `same` of each are one and the same token, the rest is a text's,
   or any. */
static fc_tokens make_tokens(fc_model *m, const char *text, size_t n, size_t length, size_t same) {
    fc_tokens t, words;
    fci_context c;
    fc_env env;
    uint64_t state = 99;
    size_t bytes = 0;
    memset(&words, 0, sizeof words);
    memset(&env, 0, sizeof env);
    fci_context_basic(&c, &env);
    char *read = text ? t_read(text, &bytes) : NULL;
    if (fci_tokens_tokens(&c, n, n * length, &t, NULL)) exit(2);
    if (read && fc_tokenize(fc_model_tokenizer(m, NULL), read, bytes, 0, &words, NULL)) exit(2);
    T_OK(!text || words.starts[1] >= n * length, "%s is too short", text ? text : "");
    for (size_t i = 0; i < n * length; i++)
        t.ids[i] = i % length < same ? (read ? words.ids[i / length * 7 + 3] : 5)
                   : read            ? words.ids[i]
                                     : (uint32_t)(uniform(&state) * fc_model_config(m)->vocab_size);
    for (size_t q = 0; q <= n; q++) t.starts[q] = q * length;
    fc_tokens_free(&words);
    free(read);
    return t;
}

/* As far as it went with the exhaustive one: what a plan says is true. */
static size_t check_steps(const fc_plan *plan, const fc_plan *all, uint64_t positions) {
    const fc_plan_info *info = fc_plan_about(plan);
    size_t dropped = 0;
    for (size_t i = 0; i < info->n_steps; i++) {
        const fc_step *a = fc_plan_step(plan, i), *b = fc_plan_step(all, i);
        for (size_t k = 0; k < a->n_scores; k++) {
            const fc_score *x = &a->scores[k], *y = &b->scores[k];
            if (x->candidate == a->removed)
                T_OK(x->exact && memcmp(&x->value, &a->score, sizeof a->score) == 0,
                     "the winner is exact");
            if (x->exact)
                T_OK(!x->estimate && memcmp(&x->value, &y->value, sizeof y->value) == 0,
                     "candidate %u: exact %.17g, %.17g", x->candidate, x->value, y->value);
            else if (!x->estimate)
                T_OK(x->value <= y->value && x->value >= a->score,
                     "candidate %u: a bound of %g for %g", x->candidate, x->value, y->value);
            else
                T_OK(x->positions > 0 && x->positions < positions &&
                         x->margin >= info->confidence && info->margin <= x->margin &&
                         x->value >= a->score && relative(x->value, y->value) < 0.5,
                     "candidate %u: estimate %g of %g from %d positions at %g", x->candidate,
                     x->value, y->value, (int)x->positions, x->margin);
            dropped += x->estimate ? 1 : 0;
        }
        if (a->removed != b->removed) break; /* other models from here on */
    }
    return dropped;
}

/* The same removals, scores and estimates, bit for bit. */
static void same_choices(const char *name, const fc_plan *a, const fc_plan *b) {
    if (!T_OK(a && b && fc_plan_about(a)->n_steps == fc_plan_about(b)->n_steps, "%s: steps", name))
        return;
    for (size_t i = 0; i < fc_plan_about(a)->n_steps; i++) {
        const fc_step *x = fc_plan_step(a, i), *y = fc_plan_step(b, i);
        T_OK(x->removed == y->removed && memcmp(&x->score, &y->score, sizeof x->score) == 0,
             "%s: step %d: %u, %u", name, (int)i + 1, x->removed, y->removed);
        for (size_t k = 0; k < x->n_scores && k < y->n_scores; k++)
            T_OK(x->scores[k].estimate == y->scores[k].estimate &&
                     (!x->scores[k].estimate ||
                      (memcmp(&x->scores[k].value, &y->scores[k].value, sizeof(double)) == 0 &&
                       memcmp(&x->scores[k].margin, &y->scores[k].margin, sizeof(double)) == 0)),
                 "%s: step %d: estimate of candidate %u: %.17g, %.17g", name, (int)i + 1,
                 x->scores[k].candidate, x->scores[k].value, y->scores[k].value);
    }
}

static size_t differences(const fc_plan *a, const fc_plan *b) {
    for (size_t i = 0; i < fc_plan_about(a)->n_steps; i++)
        if (fc_plan_step(a, i)->removed != fc_plan_step(b, i)->removed) return 1;
    return 0;
}

/* Over all metrics and many seeds: at 100 standard errors it is exhaustive, at 4 it never errs
   here. */
static void test_seeds(const char *path) {
    fc_model *m = open_f32(path, NULL, NULL, 2, 0);
    fc_prune_desc desc;
    fc_error err;
    if (!m) return;
    fc_tokens t = make_tokens(m, NULL, 10, 48, 0);
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    for (int metric = 0; metric < FC_METRIC_COUNT; metric++) {
        size_t dropped = 0, other = 0;
        desc.metric = (fc_metric)metric;
        desc.confidence = 100;
        fc_plan *all = prune(m, &desc, FC_SEARCH_EXHAUSTIVE, 0),
                *same = prune(m, &desc, FC_SEARCH_CONFIDENT, 1);
        if (!all || !same) continue;
        T_OK(check_steps(same, all, t.starts[t.n_sequences]) == 0 && !differences(same, all) &&
                 fc_plan_about(same)->margin == 0,
             "nobody is 100 standard errors behind");
        desc.confidence = 0;
        for (uint64_t seed = 0; seed < 5; seed++) {
            fc_plan *p = prune(m, &desc, FC_SEARCH_CONFIDENT, seed);
            if (!p) continue;
            T_OK(fc_plan_about(p)->confidence == 4 && fc_plan_about(p)->seed == seed &&
                     fc_plan_about(p)->n_steps == fc_plan_about(all)->n_steps,
                 "the default is 4, the seed is recorded");
            dropped += check_steps(p, all, t.starts[t.n_sequences]);
            other += differences(p, all);
            T_OK(fc_plan_about(p)->cost.lanes <= fc_plan_about(all)->cost.lanes + 1e-6,
                 "no more work than exhaustive");
            fc_plan_free(p);
        }
        T_OK(other == 0, "%s: %d of 5 plans are others", fc_metric_name((fc_metric)metric),
             (int)other);
        if (metric != FC_METRIC_NLL)
            T_OK(dropped > 0, "%s: nobody was dropped",
                 fc_metric_name(
                     (fc_metric)
                         metric)); /* random weights, random text: its differences say nothing */
        fc_plan_free(all);
        fc_plan_free(same);
    }
    desc.confidence = 0.5;
    desc.search = FC_SEARCH_CONFIDENT;
    T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_ARGUMENT && strstr(err.msg, "confidence"),
         "0.5 standard errors must be refused: %s", err.msg);
    fc_tokens_free(&t);
    fc_model_close(m);
}

/* Threads, memory limits and a stop on the way change no bit; another seed draws others. */
static int stop_at_2(void *user, const fc_progress *p) {
    (void)user;
    return p->plan && fc_plan_about(p->plan)->n_steps >= 2;
}

static void test_bits(const char *path, fc_metric metric) {
    fc_model *m = open_f32(path, NULL, NULL, 1, 0), *more = open_f32(path, NULL, NULL, 3, 0),
             *tiny = open_f32(path, NULL, NULL, 2, 1000);
    fc_prune_desc desc;
    fc_error err;
    if (!m || !more || !tiny) return;
    fc_tokens t = make_tokens(m, NULL, 10, 48, 0);
    memset(&desc, 0, sizeof desc);
    desc.calibration = &t;
    desc.metric = metric;
    desc.search = FC_SEARCH_CONFIDENT;
    fc_plan *one = prune(m, &desc, FC_SEARCH_CONFIDENT, 3),
            *three = prune(more, &desc, FC_SEARCH_CONFIDENT, 3),
            *other = prune(m, &desc, FC_SEARCH_CONFIDENT, 4);
    same_choices("threads", one, three);
    T_OK(one && other && fc_plan_about(one)->margin != fc_plan_about(other)->margin,
         "another seed draws other sequences");
    T_OK(!fc_prune(tiny, &desc, &err) && err.code == FC_ERR_LIMIT,
         "memory limit 1000 must be refused: %s", err.msg);
    const char *text = strstr(err.msg, "at least ");
    uint64_t least = text ? strtoull(text + 9, NULL, 10) : 0;
    for (uint64_t k = 0; k < 4 && least; k++) {
        fc_model *small = open_f32(path, NULL, NULL, 2, least + k * least / 20);
        fc_plan *p = small ? prune(small, &desc, FC_SEARCH_CONFIDENT, 3) : NULL;
        same_choices("memory limit", p, one);
        fc_plan_free(p);
        fc_model_close(small);
    }
    desc.watch.progress = stop_at_2;
    desc.seed = 3;
    fc_plan *part = fc_prune(m, &desc, &err);
    T_OK(part && err.code == FC_ERR_CANCELLED && fc_plan_about(part)->n_steps == 2,
         "stopped with 2 steps");
    desc.watch.progress = NULL;
    desc.resume = part;
    fc_plan *resumed = prune(m, &desc, FC_SEARCH_CONFIDENT, 3);
    same_choices("resumed", resumed, one);
    desc.seed = 4;
    T_OK(!fc_prune(m, &desc, &err) && err.code == FC_ERR_MISMATCH && strstr(err.msg, "seed"),
         "another seed must be refused: %s", err.msg);
    fc_plan *plans[] = {one, three, other, part, resumed};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) fc_plan_free(plans[i]);
    fc_tokens_free(&t);
    fc_model_close(m);
    fc_model_close(more);
    fc_model_close(tiny);
}

/* Sequences of one and the same token each: what their positions say is one thing, not many. A
   search that takes them for independent removes another attention here, 30 % worse. */
static void test_repetitions(const char *path) {
    fc_model *m = open_f32(path, NULL, NULL, 2, 0);
    fc_prune_desc desc;
    if (!m) return;
    fc_tokens t = make_tokens(m, "examples/demo/calibration.txt", 6, 128, 128);
    memset(&desc, 0, sizeof desc);
    desc.metric = FC_METRIC_EUCLIDEAN;
    desc.candidates = FC_CANDIDATES_ATTENTION;
    desc.last = 0.6;
    desc.remove = 1;
    desc.calibration = &t;
    fc_plan *all = prune(m, &desc, FC_SEARCH_EXHAUSTIVE, 0);
    for (uint64_t seed = 0; seed < 10; seed++) {
        fc_plan *p = prune(m, &desc, FC_SEARCH_CONFIDENT, seed);
        T_OK(p && all && !differences(p, all), "seed %d: %u removed, expected %u", (int)seed,
             p ? fc_plan_step(p, 0)->removed : 0, all ? fc_plan_step(all, 0)->removed : 0);
        fc_plan_free(p);
    }
    fc_plan_free(all);
    fc_tokens_free(&t);
    fc_model_close(m);
}

int main(void) {
    (void)t_shared;
    test_margin(FC_METRIC_JS);
    test_margin(FC_METRIC_EUCLIDEAN);
    test_rates(FC_METRIC_JS);
    test_rates(FC_METRIC_EUCLIDEAN);
    test_outlier();
    test_mislead();
    test_seeds("tests/data/llama_f16_sharded");
    test_bits("tests/data/llama_f16_sharded", FC_METRIC_JS);
    test_bits("tests/data/llama_f32_bias", FC_METRIC_EUCLIDEAN);
    if (getenv("FINERCUT_SLOW"))
        t_skip("repetitions", "takes minutes on an emulated processor or under a sanitizer");
    else test_repetitions("examples/demo");
    return t_end("test_confident");
}
